"""Candidates side by side: each lives in a process of its own, and they take turns.

What one library allocates would otherwise change the allocator under the next, and whatever else the machine does
meets all alike.
"""

import itertools
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Candidate: TypeAlias = Callable[[], Any]
Prepare: TypeAlias = Callable[[Path], Candidate]
Figures: TypeAlias = dict[str, dict[str, float]]

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

CALM_SECONDS = 0.3
"""Between two turns: idle threads of the one before may spin for some milliseconds."""

WARMING_CALLS, STEADY_CALLS = 2, 5
"""Of a turn. The first warming call tells what a call costs after a pause: threads asleep, a neighbour's caches."""


def measure(
    suite: dict[str, Prepare], material: Path, rounds: int, *, answers: int = 1
) -> tuple[Figures, dict[str, list[Any]]]:
    """Time the candidates of a suite.

    Args:
        suite: name of each candidate, and what prepares it in its own process.
        material: a path that is handed to each of them.
        rounds: turns that each candidate takes.
        answers: results of the first calls that are returned.

    Returns:
        Milliseconds of each candidate, and its first answers: median and least of the steady calls, and the median of
        the first calls of its turns, which come after a pause.
    """
    context = multiprocessing.get_context("spawn")
    ends, processes = {}, []
    for name, prepare in suite.items():
        ends[name], far = context.Pipe()
        processes.append(context.Process(target=serve, args=(far, prepare, material, answers), daemon=True))
        processes[-1].start()
        far.close()
    computed = {name: end.recv() for name, end in ends.items()}
    taken: dict[str, list[list[float]]] = {name: [] for name in suite}
    for _ in range(rounds):
        for name, end in ends.items():
            time.sleep(CALM_SECONDS)
            end.send(True)  # noqa: FBT003 - the message of a turn
            taken[name].append(end.recv())
    for end in ends.values():
        end.send(False)  # noqa: FBT003 - the message that ends it
    for process in processes:
        process.join()
    return {name: _figures(np.array(turns)) for name, turns in taken.items()}, computed


def serve(turns: Connection, prepare: Prepare, material: Path, answers: int) -> None:
    """Live as one candidate: send the first answers, then milliseconds of calls at each turn, until told to stop."""
    candidate = prepare(material)
    turns.send([candidate() for _ in range(answers)])
    while turns.recv():
        moments = [time.perf_counter()]
        for _ in range(WARMING_CALLS + STEADY_CALLS):
            candidate()
            moments.append(time.perf_counter())
        turns.send([1e3 * (after - before) for before, after in itertools.pairwise(moments)])


def _figures(turns: npt.NDArray[np.float64]) -> dict[str, float]:
    """Sum up milliseconds (turns, calls)."""
    steady, after_pause = turns[:, WARMING_CALLS:], turns[:, 0]
    return {
        "median_ms": float(np.median(steady)),
        "least_ms": float(steady.min()),
        "after_pause_ms": float(np.median(after_pause)),
    }
