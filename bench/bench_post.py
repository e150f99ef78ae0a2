"""What a listening post costs: several sources at one tower, faster than real time; samples lost, events, core, memory.

    python bench/bench_post.py [--sources 8] [--minutes 60] [--speed 4] [--bundle DIR --labels NAME] [--window 2.5]

Each source plays sound of its own, made before, and drops what it cannot process in time. Events are compared with
those of a run of each source alone. The share of a core is that of real time: processor time by seconds of sound.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import soundfile

from bench_listen import CHANNELS, LABELS, RATE, plan, sound

LISTEN = (sys.executable, "-m", "clapedge.cli", "listen")
RULE = {"hop": 1.0, "merge_gap": 1.5, "min_duration": 1.0}
Records = dict[str, list[dict[str, Any]]]
VARYING = ("id", "at", "until", "latency_ms", "delay_ms", "age_s", "source")
"""Fields of a record that differ from run to run."""


def make(folder: Path, sources: int, minutes: float) -> list[Path]:
    """Write the sound of each source."""
    paths = []
    for number in range(sources):
        seconds = 60 * minutes
        paths.append(folder / f"source{number}.flac")
        with soundfile.SoundFile(paths[-1], "w", RATE, CHANNELS, "PCM_16", format="FLAC") as file:
            for block in sound(plan(seconds, seed=number), seconds, seed=100 + number):
                file.buffer_write(block, "int16")
    return paths


def settings(chosen: argparse.Namespace, *, speed: float, overload: str) -> str:
    """Return the settings for all sources, in TOML."""
    labels = f"labels = {json.dumps(chosen.labels)}" if chosen.labels else f"label = {json.dumps(list(LABELS))}"
    rule = [f"{key} = {value}" for key, value in {**RULE, "window": chosen.window, "speed": speed}.items()]
    bundle = [f"bundle = {json.dumps(chosen.bundle)}"] if chosen.bundle else []
    return "\n".join([labels, *rule, f'overload = "{overload}"', 'began = "2026-01-01T00:00:00Z"', *bundle, ""])


def listen(folder: Path, text: str, sources: dict[str, Path]) -> tuple[Records, dict[str, Any], float]:
    """Listen to sources until they end; return their records, the status, and the peak of memory in MB."""
    status = folder / "status.json"
    tables = (f"[sources.{name}]\nsource = {json.dumps(str(path))}\n" for name, path in sources.items())
    (folder / "post.toml").write_text(f"status = {json.dumps(str(status))}\n{text}" + "".join(tables))
    command = [*LISTEN, "--config", str(folder / "post.toml")]
    # notes go to a file: a pipe that nobody reads would fill, and stop what writes them
    with (folder / "records").open("w+") as records, (folder / "notes").open("w+") as notes:
        with subprocess.Popen(command, stdout=records, stderr=notes) as process:  # noqa: S603 - our own command
            peak = 0.0
            while process.poll() is None:
                peak = max(peak, _peak(process.pid))
                time.sleep(0.5)
        if process.returncode:
            notes.seek(0)
            raise SystemExit(notes.read())
        records.seek(0)
        found: Records = {name: [] for name in sources}
        for line in records:
            record = json.loads(line)
            found[record["source"]].append({key: value for key, value in record.items() if key not in VARYING})
    return found, json.loads(status.read_text()), peak


def _peak(process: int) -> float:
    """Return the peak of a process's memory in MB; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=60, help="of sound of each source")
    parser.add_argument("--speed", type=float, default=4, help="times as fast as real time, by each source")
    parser.add_argument("--bundle", help="directory; the demo model if none is named")
    parser.add_argument("--labels", help="label set, for a bundle without text tower one that it holds")
    parser.add_argument("--window", type=float, default=2.0, help="seconds")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = {path.stem: path for path in make(folder, chosen.sources, chosen.minutes)}
        together, status, peak = listen(folder, settings(chosen, speed=chosen.speed, overload="drop"), paths)
        same = 0
        for source, path in paths.items():
            alone, _, _ = listen(folder, settings(chosen, speed=0.0, overload="wait"), {source: path})
            same += alone[source] == together[source]
    counts, seconds = list(status["sources"].values()), 60 * chosen.minutes
    read, dropped = (sum(one[f"samples_{name}"] for one in counts) for name in ("read", "dropped"))
    slowest = max(one["window_ms"][0] for one in counts)
    print(
        f"{chosen.sources} sources, {chosen.minutes:g} minutes of sound each, {chosen.speed:g} times as fast",
        f"hop 1 s, window {chosen.window:g} s, {chosen.bundle or 'demo model'}",
        f"samples: {read} read, {dropped} dropped",
        f"events: {sum(map(len, together.values()))} records; the same as alone for {same} of {chosen.sources} sources",
        f"processor: {status['cpu_s']:.1f} s, {status['cpu_s'] / seconds:.1%} of a core in real time, start included",
        f"a window: {slowest:.0f} ms at the median of the slowest source, turns included",
        f"memory: {peak:.0f} MB at the peak",
        sep="\n",
    )


if __name__ == "__main__":
    main()
