"""A batch of thousands of small files, killed with SIGKILL again and again, and 100,000 kept embeddings scored anew.

    python bench/batch_torture.py [--files 2000] [--kills 10] [--kept 100000] [--seed 1] [--bundle DIR]

Every hundredth file is damaged; formats, rates and channels vary. The killed run must write, when it is resumed to its
end, the bytes of the run that nobody disturbed. All of it happens in a temporary directory.
"""

import argparse
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile

from clapedge import Engine
from clapedge.batch.embedding_writer import appending
from clapedge.batch.fingerprint import Stamp
from clapedge.batch.run import embedding_config
from clapedge.scoring.result import Coverage, RecordingEmbeddings, Timing

FORMATS = (("wav", "WAV"), ("flac", "FLAC"), ("ogg", "OGG"), ("mp3", "MP3"), ("aiff", "AIFF"), ("w64", "W64"))
RATES = (8_000, 16_000, 22_050, 32_000, 44_100, 48_000)
DAMAGED_EACH = 100
LABELS = ("-l", "rain,siren,dog barking,church bell,door knock")


def make_files(root: Path, count: int, seed: int) -> None:
    """Write recordings of 0.2 to 3 s into folders of a hundred; every hundredth ends within its header."""
    generator = np.random.default_rng(seed)
    for index in range(count):
        suffix, kind = FORMATS[index % len(FORMATS)]
        rate = RATES[index % len(RATES)]
        folder = root / f"{index // 100:03}"
        folder.mkdir(exist_ok=True)
        path = folder / f"recording-{index % 100:02}.{suffix}"
        samples = 0.1 * generator.standard_normal((int(rate * generator.uniform(0.2, 3.0)), 1 + index % 2))
        soundfile.write(path, samples.clip(-0.9, 0.9), rate, format=kind)
        if index % DAMAGED_EACH == 0:
            path.write_bytes(path.read_bytes()[:20])


def start(bundle: str | None, *arguments: str | Path, stderr: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start a batch."""
    command = [sys.executable, "-m", "clapedge.cli", "batch", *map(str, arguments), *LABELS]
    command += ["--bundle", bundle] if bundle else []
    return subprocess.Popen(command, stderr=stderr)  # noqa: S603 - this project's own command


def undisturbed(bundle: str | None, root: Path, output: Path) -> float:
    """Run a batch to its end and return the seconds it took."""
    began = time.perf_counter()
    process = start(bundle, root, "--recursive", "-o", output, stderr=subprocess.PIPE)
    _, said = process.communicate()
    if process.returncode != 1 or not output.exists():
        sys.exit(
            f"the batch ended with {process.returncode} and should end with 1 for its damaged files: {said.decode()}"
        )
    return time.perf_counter() - began


def killed(bundle: str | None, root: Path, output: Path, moments: list[float]) -> tuple[int, float]:
    """Run a batch, kill it after each of these seconds, resume it; return how many hit, and the time of the last."""
    hits = 0
    for moment in moments:
        process = start(bundle, root, "--recursive", "-o", output, "--resume")
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            hits += 1
    began = time.perf_counter()
    start(bundle, root, "--recursive", "-o", output, "--resume").wait()
    return hits, time.perf_counter() - began


def fill(bundle: str | None, kept: Path, count: int) -> None:
    """Keep so many embeddings of recordings that never were."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = embedding_config(Engine.load(bundle, threads=1), {})
    rows = np.random.default_rng(0).standard_normal((count, config.embedding_size)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    covered, nothing = Coverage(0.0, 10.0, 10.0), Timing(0.0, 0.0, 0.0, 0.0)
    with appending(kept, config) as archive:
        for index in range(count):
            name = f"archive/{index // 1000:03}/recording-{index:06}.wav"
            one = RecordingEmbeddings(name, rows[index : index + 1], ((0.0, 10.0),), covered, (), nothing)
            archive.add(name, Stamp(960_044, index), f"{index:064x}", one)


def main() -> None:
    """Run everything and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--kept", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bundle")
    given = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        root, whole, broken = folder / "recordings", folder / "whole.csv", folder / "broken.csv"
        root.mkdir()
        make_files(root, given.files, given.seed)
        seconds = undisturbed(given.bundle, root, whole)
        print(f"{given.files} files: {seconds:.1f} s, {given.files / seconds:.0f} files/s with start-up")
        chance = random.Random(given.seed)  # noqa: S311 - no secret
        # late enough that a run gets somewhere, early enough that the last one is hit too
        moments = [chance.uniform(0.3, 1.0 + 1.5 * seconds / given.kills) for _ in range(given.kills)]
        hits, last = killed(given.bundle, root, broken, moments)
        verdict = "the same bytes" if whole.read_bytes() == broken.read_bytes() else "OTHER BYTES"
        print(f"killed {hits} times of {given.kills}, resumed: {verdict}; the last run took {last:.1f} s")
        kept = folder / "kept"
        fill(given.bundle, kept, given.kept)
        for suffix in ("csv", "jsonl", "parquet"):
            began = time.perf_counter()
            start(given.bundle, "--embeddings", kept, "-o", folder / f"kept.{suffix}").wait()
            print(f"{given.kept} kept embeddings to {suffix}: {time.perf_counter() - began:.1f} s with start-up")
        if verdict != "the same bytes":
            sys.exit(1)


if __name__ == "__main__":
    main()
