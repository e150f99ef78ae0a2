"""From WAV files to embeddings: in one process with some workers, and in several processes."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from clapedge import Engine
from clapedge.errors import AudioError
from clapedge.model.bundle import Variant
from clapedge.model.cpu import usable_cores
from clapedge.model.front_end_graph import FrontendWish
from gpu import signals
from gpu.run import Run
from gpu.steps import RowStep, Step
from gpu.timing import timings

ORDINARY_FILES = 64
RECORDINGS = 256
WORKERS: dict[FrontendWish, tuple[int, ...]] = {"device": (1, 2, 4, 8, 16, 32), "numpy": (1, 4, 16)}
PROCESSES: dict[FrontendWish, tuple[int, ...]] = {"device": (4, 8, 16), "numpy": (8, 16)}
WORKERS_OF_A_PROCESS = 4
STAGES = ("decode", "frontend", "tower", "total")

SHARE = Path(__file__).parents[1] / "gpu_share.py"


def time_end_to_end(run: Run, variant: Variant) -> Iterator[Step]:
    """Yield the times from WAV files to embeddings in this process."""
    with TemporaryDirectory() as name:
        paths = signals.write_ordinary(Path(name), ORDINARY_FILES)
        for frontend, counts in WORKERS.items():
            with run.engine(variant, frontend=frontend) as engine:
                labels = {"variant": variant, "frontend": frontend, "recordings": 1}
                yield RowStep(
                    "end_to_end", labels, partial(timings, partial(engine.embed_audio, paths[:1]), seconds=0.5)
                )
                for workers in counts:
                    labels = {"variant": variant, "frontend": frontend, "recordings": RECORDINGS, "workers": workers}
                    yield RowStep("end_to_end", labels, partial(throughput, engine, paths, workers))


def throughput(engine: Engine, paths: list[Path], workers: int) -> dict[str, Any]:
    """Return recordings a second, and the milliseconds that a recording spends in each stage."""
    list(engine.embed_many(paths, workers=workers))
    many = (paths * -(-RECORDINGS // len(paths)))[:RECORDINGS]
    began = time.perf_counter()
    found = [one for one in engine.embed_many(many, workers=workers) if not isinstance(one, AudioError)]
    rate = round(len(found) / (time.perf_counter() - began), 1)
    stages = {stage: round(float(np.median([getattr(one.timing, stage) for one in found])), 2) for stage in STAGES}
    return {"recordings_per_second": rate, "stages_ms": stages, "cores": usable_cores()}


def time_processes(run: Run, variant: Variant) -> Iterator[Step]:
    """Yield the recordings a second of several processes that share one GPU."""
    with TemporaryDirectory() as name:
        signals.write_ordinary(Path(name), ORDINARY_FILES)
        for frontend, counts in PROCESSES.items():
            for count in counts:
                labels = {"variant": variant, "frontend": frontend, "processes": count}
                yield RowStep("processes", labels, partial(processes, run, variant, frontend, count, Path(name)))


def processes(run: Run, variant: Variant, frontend: str, count: int, recordings: Path) -> dict[str, Any]:
    """Return the recordings a second of some processes, all of which begin when the last one is ready."""
    options = {"variant": variant, "provider": run.provider, "frontend": frontend, "count": RECORDINGS}
    options["workers"] = WORKERS_OF_A_PROCESS
    command = [sys.executable, str(SHARE), str(run.bundle.directory), str(recordings)]
    command += [f"--{name}={value}" for name, value in options.items()]
    began = time.perf_counter()
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
            )
            for _ in range(count)
        ]
        _expect("ready", started)
        ready = time.perf_counter()
        for process in started:
            print(file=process.stdin, flush=True)
        _expect("done", started)
        seconds = time.perf_counter() - ready
    rate = round(count * RECORDINGS / seconds, 1)
    return {
        "workers_each": WORKERS_OF_A_PROCESS,
        "recordings_per_second": rate,
        "ready_after_s": round(ready - began, 1),
    }


def _expect(word: str, started: "list[subprocess.Popen[str]]") -> None:
    """Wait until every process prints a word.

    Raises:
        RuntimeError: one of them ended before.
    """
    for process in started:
        if not (process.stdout and process.stdout.readline().strip() == word):
            raise RuntimeError(f"a process ended before it was {word}")
