"""Micro-batches for a GPU: clips of several requests run together within a few milliseconds."""

import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from clapedge.arrays import BoolArray, Float32Array
from clapedge.model.towers import BUCKETS
from clapedge.pipeline import Embedder
from clapedge.serve.metrics import Metrics

GATHER_SECONDS = 0.003
"""How long the first clip of a batch waits for company: about what a batch takes to run."""

BATCH = BUCKETS[1]
"""Clips of every batch, filled up with copies. Kernels of another batch size may sum in another order: with one size,
the bits of a result do not depend on who shared its batch."""


class _PendingClips(NamedTuple):
    """Clips that wait to be embedded."""

    features: Float32Array
    is_longer: BoolArray
    done: "Future[Float32Array]"


class Batcher:
    """Stands in front of a tower and runs what several threads ask for together."""

    def __init__(self, tower: Embedder, metrics: Metrics, *, size: int = BATCH, gather: float = GATHER_SECONDS) -> None:
        """Start the thread that runs the tower.

        Args:
            tower: embeds.
            metrics: where batches are counted.
            size: clips of every batch.
            gather: seconds that the first wish of a batch waits for others.
        """
        self._tower, self._metrics, self._size, self._gather = tower, metrics, size, gather
        self._waiting: deque[_PendingClips] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._runner = ThreadPoolExecutor(1, thread_name_prefix="clapedge-tower")
        self._thread = threading.Thread(target=self._work, name="clapedge-batches", daemon=True)
        self._thread.start()

    def embed(self, features: Float32Array, is_longer: BoolArray) -> Float32Array:
        """Embed clips, see `AudioTower.embed`; returns when their batches have run."""
        wishes = []
        for start in range(0, len(features), self._size):
            part = slice(start, start + self._size)
            wishes.append(_PendingClips(features[part], is_longer[part], Future()))
        with self._changed:
            self._waiting.extend(wishes)
            self._changed.notify()
        return np.concatenate([wish.done.result() for wish in wishes])

    def close(self) -> None:
        """Run what waits and end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._runner.shutdown()

    def _work(self) -> None:
        """Run batch after batch; whatever a run raises is raised again where its clips are waited for."""
        while batch := self._next():
            self._metrics.batches.observe(sum(len(wish.features) for wish in batch))
            run = self._runner.submit(self._run, batch)
            error = run.exception()
            ends = np.cumsum([len(wish.features) for wish in batch])
            for wish, end in zip(batch, ends, strict=True):
                if error is not None:
                    wish.done.set_exception(error)
                else:
                    wish.done.set_result(run.result()[end - len(wish.features) : end])

    def _run(self, batch: list[_PendingClips]) -> Float32Array:
        """Embed the clips of a batch, filled up with copies of the last one."""
        features = np.concatenate([wish.features for wish in batch])
        is_longer = np.concatenate([wish.is_longer for wish in batch])
        rows = np.minimum(np.arange(self._size), len(features) - 1)
        return self._tower.embed(features[rows], is_longer[rows])

    def _next(self) -> list[_PendingClips]:
        """Wait for wishes and return those of the next batch; none when it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            until = time.monotonic() + self._gather
            while not self._closed and self._clips() < self._size:
                if not self._changed.wait(max(0.0, until - time.monotonic())):
                    break
            batch: list[_PendingClips] = []
            clips = 0
            while self._waiting and clips + len(self._waiting[0].features) <= self._size:
                batch.append(self._waiting.popleft())
                clips += len(batch[-1].features)
            return batch

    def _clips(self) -> int:
        """Count the clips that wait."""
        return sum(len(wish.features) for wish in self._waiting)
