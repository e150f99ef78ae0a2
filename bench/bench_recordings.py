"""What a long recording costs: memory above rest and time, of an hour read whole and of five seconds far inside.

    python bench/bench_recordings.py [--bundle DIR]

Two-hour recordings are made in a temporary directory (1.4 GB; M4A where ffmpeg is installed). Each case runs in a
process of its own; rest is the engine with its model after it has scored 30 s in every window.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile

from clapedge import Engine

HOURS = 2
CASES: tuple[tuple[str, dict[str, object]], ...] = (
    ("an hour, slide", {"window": "slide", "duration": 3600.0}),
    ("an hour, fuse", {"window": "fuse", "duration": 3600.0}),
    ("its first 10 s", {}),
    ("5 s from 7000 s on", {"start": 7000.0, "duration": 5.0}),
)


def make_recordings(directory: Path) -> list[Path]:
    """Write two hours of stereo noise in several formats, a second at a time: libvorbis crashes on much more."""
    second = (0.1 * np.random.default_rng(0).standard_normal((44_100, 2))).clip(-0.9, 0.9)
    paths = []
    kinds = (("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"))
    for kind, subtype in kinds:
        path = directory / f"long.{kind.lower()}"
        with soundfile.SoundFile(path, "w", 44_100, 2, subtype, format=kind) as file:
            for turn in range(3600 * HOURS):
                file.write(np.roll(second, 1000 * turn, axis=0))
        paths.append(path)
    if shutil.which("ffmpeg"):
        paths.append(directory / "long.m4a")
        command = ["ffmpeg", "-v", "error", "-i", str(paths[0]), "-c:a", "aac", "-b:a", "96k", str(paths[-1])]
        subprocess.run(command, check=True)  # noqa: S603 - a fixed command
    short = directory / "5 s.wav"
    soundfile.write(short, np.tile(second, (5, 1)), 44_100)
    return [*paths, short]


def memory(field: str) -> float:
    """Return a size of this process in MB: `VmRSS` now, `VmHWM` at most since it was reset (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise LookupError(field)


def measure(path: str, case: str, bundle: str | None) -> None:
    """Score one recording and print what it cost."""
    warnings.simplefilter("ignore")
    engine = Engine.load(bundle)
    labels = engine.embed_labels(["rain", "a dog"])
    samples = (0.1 * np.random.default_rng(0).standard_normal(30 * 48_000)).astype(np.float32)
    for window in ("first", "slide", "fuse"):
        engine.score(samples, labels, window=window)
    rest = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    began = time.perf_counter()
    result = engine.score(path, labels, **json.loads(case))
    seconds, timing = time.perf_counter() - began, result.timing
    if timing is None:
        raise TypeError("a result of an engine has its timing")
    parts = " | ".join(f"{1e-3 * each:.3f}" for each in (timing.decode, timing.frontend, timing.tower))
    print(f"| {memory('VmHWM') - rest:.0f} | {seconds:.3f} | {parts} |")


def main() -> None:
    """Make the recordings and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle")
    parser.add_argument("--measure", nargs=2, metavar=("PATH", "OPTIONS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        path, case = arguments.measure
        measure(path, case, arguments.bundle)
        return
    print("| recording | read | memory above rest, MB | seconds | decode | log-mel | tower |")
    print("|---|---|---|---|---|---|---|")
    with TemporaryDirectory() as name:
        *paths, short = make_recordings(Path(name))
        jobs = [(path, case, options) for path in paths for case, options in CASES]
        for path, case, options in [*jobs, (short, "all", {})]:
            command = [sys.executable, __file__, "--measure", str(path), json.dumps(options)]
            command += ["--bundle", arguments.bundle] if arguments.bundle else []
            done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - this script
            print(f"| {path.name} | {case} {done.stdout.strip()}", flush=True)


if __name__ == "__main__":
    main()
