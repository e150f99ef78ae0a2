"""Time clapedge beside its peers in one run, with the same weights and clips, and write docs/performance.md's tables.

    python bench/bench_peers.py [--rounds N] [--fresh] [--report]

Peers: transformers (eager, torch.compile, its pipeline), ONNX Runtime on a plain export, OpenVINO in three precisions.
Each answer is compared with that of transformers. Full-size random weights are made below build/ once.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from material import BUNDLE, CHECKPOINT, LABEL_FILE, LABELS, RECORDING, SMALL, make
from peers import EAGER, PIPELINE, SCORERS, TOWERS
from report import write_report
from turns import CALM_SECONDS, THREAD_VARIABLES, Figures, measure

ROOT = Path(__file__).resolve().parents[1]
MATERIAL = ROOT / "build" / "bench"
RESULTS = ROOT / "bench" / "results" / "peers.json"
THREADS = (4, 1)
COLD_RUNS = 7
FILES = 32
PACKAGES = ("numpy", "onnxruntime", "openvino", "nncf", "torch", "transformers")

PIPELINE_SCRIPT = """
import sys
from transformers import pipeline
classify = pipeline("zero-shot-audio-classification", model=sys.argv[1])
for recording in sys.argv[3:]:
    print(classify(recording, candidate_labels=sys.argv[2].split(",")))
"""
"""What a user writes; arguments: model, labels, recordings."""

CLAPEDGE_SCRIPT = """
import sys
from clapedge.cli import run
sys.argv[0] = "clapedge"
run()
"""
"""What the installed command `clapedge` runs."""

PEAK = """
import atexit, pathlib, sys
status = pathlib.Path("/proc/self/status")
atexit.register(lambda: print(status.read_text().split("VmHWM:")[1].split()[0], file=sys.stderr))
"""
"""Before a script: its peak of resident memory, in kB, becomes its last line on stderr (Linux)."""


def towers(rounds: int, threads: int) -> Figures:
    """Time every way to embed a clip; `cosine` is the least one, over the clips, to the answer of transformers."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    figures, answers = measure(TOWERS, MATERIAL, rounds, answers=4)
    for name, rows in answers.items():
        figures[name]["cosine"] = min(float(row @ other) for row, other in zip(rows, answers[EAGER], strict=True))
    return figures


def scorers(rounds: int, threads: int) -> Figures:
    """Time every way from a file to scores; `difference` is the largest one of a probability to the pipeline's."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    figures, answers = measure(SCORERS, MATERIAL, rounds)
    for name, rows in answers.items():
        figures[name]["difference"] = float(np.abs(np.subtract(rows[0], answers[PIPELINE][0])).max())
    return figures


def command(script: str, recordings: int) -> list[str]:
    """Return the command that scores a number of recordings with the pipeline or with the audio-only bundle."""
    files = [str(MATERIAL / RECORDING)] * recordings
    if script == PIPELINE_SCRIPT:
        return [str(MATERIAL / CHECKPOINT), ",".join(LABELS), *files]
    stored = Path(LABEL_FILE).stem
    return ["score", *files, "--bundle", str(MATERIAL / SMALL), "--labels", stored, "--fusion", "always"]


def processes() -> dict[str, dict[str, float]]:
    """Measure whole processes, in turns: milliseconds to score one recording, peak memory of scoring three."""
    environment = {name: value for name, value in os.environ.items() if name not in THREAD_VARIABLES}
    environment |= {"HF_HUB_OFFLINE": "1"}

    def run(script: str, recordings: int) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-c", script, *command(script.removeprefix(PEAK), recordings)]
        return subprocess.run(line, check=True, capture_output=True, text=True, env=environment, cwd=MATERIAL)  # noqa: S603 - ours

    scripts = {PIPELINE: PIPELINE_SCRIPT, "clapedge score": CLAPEDGE_SCRIPT}
    taken: dict[str, list[float]] = {name: [] for name in scripts}
    for turn in range(COLD_RUNS + 1):
        for name, script in scripts.items():
            began = time.perf_counter()
            run(script, 1)
            if turn:  # the first one reads the files from the disk
                taken[name].append(1e3 * (time.perf_counter() - began))
    # `run` leaves before what tells the peak, `main` does not
    peaks = {
        name: int(run(PEAK + script.replace("run", "main"), 3).stderr.split()[-1]) / 1e3
        for name, script in scripts.items()
    }
    return {name: {"median_ms": median(ms), "least_ms": min(ms), "peak_mb": peaks[name]} for name, ms in taken.items()}


def throughput(rounds: int) -> dict[str, float]:
    """Compare `Engine.embed_audio` over many files with a loop of single scores, in turns: files per second."""
    from clapedge import Engine

    warnings.simplefilter("ignore")
    files = [MATERIAL / RECORDING] * FILES
    engine = Engine.load(MATERIAL / BUNDLE, precision="int8")
    labels = engine.embed_labels(LABELS)

    def loop(recordings: Sequence[Path]) -> None:
        for recording in recordings:
            engine.score(recording, labels)

    ways: dict[str, Callable[[Sequence[Path]], object]] = {"loop of score": loop, "embed_audio": engine.embed_audio}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            time.sleep(CALM_SECONDS)
            way(files[: FILES // 2])
            began = time.perf_counter()
            way(files)
            seconds[name].append(time.perf_counter() - began)
    return {name: FILES / median(values) for name, values in seconds.items()}


def sizes() -> dict[str, float]:
    """Return the size of both bundles in MB."""
    return {
        name: sum(path.stat().st_size for path in (MATERIAL / name).rglob("*") if path.is_file()) / 1e6
        for name in (BUNDLE, SMALL)
    }


def show(title: str, figures: Figures, reference: str) -> None:
    """Print one table; ratios are of medians."""
    print(f"\n{title:42}{'steady':>10}{'least':>12}{'paused':>8}{'ratio':>8}")
    for name, row in figures.items():
        ratio = row["median_ms"] / figures[reference]["median_ms"]
        rest = "".join(f"  {key} {row[key]:.6f}" for key in ("cosine", "difference") if key in row)
        times = f"{row['median_ms']:8.1f}{row['least_ms']:12.1f}{row['after_pause_ms']:8.1f}"
        print(f"  {name:40}{times}{ratio:8.3f}{rest}", flush=True)


def about() -> dict[str, Any]:
    """Describe the machine and the packages."""
    model = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    machine = {"processor": model or platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    return machine | {name: version(name) for name in PACKAGES}


def keep(results: dict[str, Any]) -> None:
    """Write what has been measured so far."""
    RESULTS.parent.mkdir(exist_ok=True)
    unfinished = RESULTS.with_suffix(".tmp")
    unfinished.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(RESULTS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, keep the results and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=12, help="turns of a candidate on 4 threads, half as many on 1 (default 12)"
    )
    parser.add_argument("--fresh", action="store_true", help="make weights and bundles again")
    parser.add_argument("--report", action="store_true", help="write the report from the results that are there")
    options = parser.parse_args(arguments)
    if not options.report:
        missing = [name for name in PACKAGES if find_spec(name) is None]
        if missing:
            sys.exit(f"{', '.join(missing)}: not installed; make bench does that")
        make(MATERIAL, fresh=options.fresh)
        results: dict[str, Any] = {"about": about(), "rounds": options.rounds, "bundle_mb": sizes()}
        for threads in THREADS:
            for kind, function, reference in (("tower", towers, EAGER), ("file", scorers, PIPELINE)):
                figures = function(options.rounds if threads > 1 else -(-options.rounds // 2), threads)
                results[f"{kind}, threads {threads}"] = figures
                keep(results)
                show(f"{kind}, threads: {threads} (ms)", figures, reference)
        results["throughput"] = throughput(max(3, options.rounds // 2))
        results["processes"] = processes()
        keep(results)
    write_report(json.loads(RESULTS.read_text(encoding="utf-8")), ROOT / "docs")


if __name__ == "__main__":
    main()
