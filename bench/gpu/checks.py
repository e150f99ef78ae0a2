"""What has to hold of an audio tower on a GPU. Each check takes the tower as a function, so that tests plant faults."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from clapedge.arrays import BoolArray, Float32Array
from gpu.steps import CheckStep, Figure

Embed: TypeAlias = Callable[[Float32Array, BoolArray], Float32Array]
"""(N, channels, 1001, 64) and (N,) to (N, E), as `AudioTower.embed`."""

BATCHES = (1, 8, 32)
MIXED_BATCHES = (1, 3, 8, 20, 32)
THREADS = 16
CALLS_OF_A_THREAD = 10
REPEATS = 20
CALLS_FOR_MEMORY = 100

COSINE_DISTANCE = {"fp32": 1e-5, "fp16": 1e-4}
"""How far a clip may lie from the CPU's FP32: rounding in another order, and in half precision."""

OTHER_BATCH = {"fp32": 1e-5, "fp16": 2e-3}
"""How much an element of a unit embedding may differ between batch sizes: their kernels sum in another order."""

SAME_KERNELS = 1e-6
"""How much it may differ between a replay of a CUDA graph and the same kernels launched one by one."""

MEMORY_GROWTH = 16 << 20
"""Bytes that a GPU may hold in addition after many calls: what allocators round up to, not what a capture takes."""


@dataclass(frozen=True)
class Subject:
    """A tower that is checked.

    Attributes:
        name: begins the name of every check, such as `fp16`.
        variant: of its file.
        embed: the tower.
        features: clips, (N, channels, 1001, 64).
        is_longer: (N,).
        expected: (N, E), what FP32 on the CPU gives for them.
    """

    name: str
    variant: str
    embed: Embed
    features: Float32Array
    is_longer: BoolArray
    expected: Float32Array

    def rows(self, batch: int, *, first: int = 0) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        """Return which clips make a batch of some size, from one of them on and around."""
        return np.arange(first, first + batch) % len(self.features)

    def embedded(self, rows: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Float32Array:
        """Embed some of the clips in one call."""
        return self.embed(self.features[rows], self.is_longer[rows])


def tower_checks(subject: Subject) -> Iterator[CheckStep]:
    """Yield the checks of one tower: right, independent of neighbours, the same again."""
    for batch in BATCHES:
        name = f"{subject.name}, batch {batch}"
        yield CheckStep(f"{name}: like FP32 on the CPU (1 - cosine)", partial(distance, subject, batch))
        yield CheckStep(f"{name}: a clip beside other clips", partial(beside_others, subject, batch))
        yield CheckStep(f"{name}: the same {REPEATS} times", partial(repeated, subject, batch))
    yield CheckStep(f"{subject.name}: a clip in other batch sizes", partial(across_batches, subject))
    yield CheckStep(f"{subject.name}: {THREADS} threads, mixed batches", partial(from_threads, subject))


def distance(subject: Subject, batch: int) -> Figure:
    """Return how far the farthest clip lies from the CPU's embedding, in runs of one batch size."""
    most, at = 0.0, 0
    count = len(subject.features)
    for first in range(0, count, batch):
        rows = subject.rows(batch, first=first)
        found = subject.embedded(rows)
        norms = np.abs(np.linalg.norm(found, axis=1) - 1)
        apart = np.maximum(1 - (found * subject.expected[rows]).sum(axis=1), norms)
        if not np.isfinite(apart).all():
            return Figure(float("nan"), COSINE_DISTANCE[subject.variant], f"clip {rows[~np.isfinite(apart)][0]}")
        if apart.max() > most:
            most, at = float(apart.max()), int(rows[apart.argmax()])
    return Figure(most, COSINE_DISTANCE[subject.variant], f"farthest: clip {at}")


def beside_others(subject: Subject, batch: int) -> Figure:
    """Return the greatest difference of a clip's embedding when the other rows of its batch are others."""
    rows = subject.rows(batch)
    first = subject.embedded(rows)
    differences = []
    for shift in (1, 5, 11):
        others = (rows + shift) % len(subject.features)
        others[0] = rows[0]
        differences.append(farthest(subject.embedded(others)[:1], first[:1]))
    return Figure(worst(differences), 0.0, "bit by bit")


def repeated(subject: Subject, batch: int) -> Figure:
    """Return the greatest difference between repeated calls with the same clips."""
    rows = subject.rows(batch, first=3)
    first = subject.embedded(rows)
    return Figure(worst([farthest(subject.embedded(rows), first) for _ in range(REPEATS)]), 0.0, "bit by bit")


def across_batches(subject: Subject) -> Figure:
    """Return the greatest difference of a clip between runs of different batch sizes."""
    count = len(subject.features)
    alone = np.concatenate([subject.embedded(subject.rows(1, first=clip)) for clip in range(count)])
    runs = [subject.rows(batch) for batch in MIXED_BATCHES]
    return Figure(worst([farthest(subject.embedded(rows), alone[rows]) for rows in runs]), OTHER_BATCH[subject.variant])


def from_threads(subject: Subject) -> Figure:
    """Return the greatest difference of what threads get side by side from what each of their calls gives alone."""
    calls = [subject.rows(MIXED_BATCHES[number % len(MIXED_BATCHES)], first=number) for number in range(THREADS)]
    alone = [subject.embedded(rows) for rows in calls]
    differences: list[float] = []

    def work(number: int) -> None:
        for turn in range(CALLS_OF_A_THREAD):
            call = (number + turn) % len(calls)
            differences.append(farthest(subject.embedded(calls[call]), alone[call]))

    in_threads([partial(work, number) for number in range(THREADS)])
    if len(differences) < THREADS * CALLS_OF_A_THREAD:
        return Figure(float("nan"), 0.0, f"only {len(differences)} of {THREADS * CALLS_OF_A_THREAD} calls came back")
    return Figure(worst(differences), 0.0, f"{len(differences)} calls, bit by bit")


def memory_growth(subject: Subject, used: Callable[[], int]) -> Figure:
    """Return by how many bytes the memory in use grows over many calls, each from a thread of its own.

    Args:
        subject: the tower.
        used: returns the bytes in use now.
    """

    def calls(count: int) -> None:
        for number in range(count):
            batch = MIXED_BATCHES[number % len(MIXED_BATCHES)]
            in_threads([partial(subject.embedded, subject.rows(batch, first=number))])

    calls(2 * len(MIXED_BATCHES))
    before = used()
    calls(CALLS_FOR_MEMORY)
    return Figure(max(0, used() - before), MEMORY_GROWTH, f"bytes after {CALLS_FOR_MEMORY} calls")


def like(found: Callable[[], Float32Array], other: Callable[[], Float32Array], limit: float) -> Figure:
    """Return the greatest difference between two ways to the same embeddings."""
    return Figure(farthest(found(), other()), limit)


def embeddings_apart(found: Callable[[], Float32Array], expected: Callable[[], Float32Array], limit: float) -> Figure:
    """Return the greatest 1 - cosine between two ways to the same embeddings."""
    rows = (found() * expected()).sum(axis=1)
    return Figure(float(np.max(1 - rows)), limit)


def farthest(found: Float32Array, expected: Float32Array) -> float:
    """Return the greatest difference of an element; NaN if there is one."""
    return float(np.abs(found - expected).max())


def worst(differences: Sequence[float]) -> float:
    """Return the greatest of some figures; NaN if there is one, which `max` would pass over."""
    return float(np.max(differences))


def in_threads(work: Sequence[Callable[[], object]]) -> None:
    """Run functions each in a thread of its own, and return when all of them ended."""
    threads = [threading.Thread(target=function) for function in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
