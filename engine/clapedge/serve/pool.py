"""Workers behind a bounded queue; a task that does not fit is rejected at once."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from clapedge.serve.errors import BusyError, NotReadyError
from clapedge.serve.metrics import Metrics

T = TypeVar("T")

SMOOTHING = 0.1
"""Weight of the newest task in the mean duration, from which `Retry-After` is estimated."""

LONGEST_WAIT = 60
"""The largest `Retry-After`, in seconds."""


class Pool:
    """A fixed number of workers and a bounded queue before them."""

    def __init__(self, *, workers: int, queue: int, metrics: Metrics) -> None:
        """Make a pool; workers start with the first tasks.

        Args:
            workers: tasks that run at once.
            queue: tasks that may wait besides.
            metrics: counts the tasks.
        """
        self.workers, self._queue = workers, queue
        self._metrics = metrics
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="clapedge")
        self._lock = threading.Lock()
        self._inside = self._running = 0
        self._seconds = 0.05
        self._closed = False

    @property
    def alone(self) -> bool:
        """Whether there is at most one task, so that it may use every core."""
        return self._inside <= 1

    @property
    def inside(self) -> int:
        """Number of tasks that wait or run."""
        return self._inside

    def check_room(self) -> None:
        """Raise if a task would not fit, before the body of its request is read.

        Raises:
            BusyError: the queue is full.
        """
        with self._lock:
            self._raise_if_full()

    def submit(self, task: Callable[[], T]) -> "Future[T]":
        """Queue a task; cancelling its future takes it out of the queue.

        Raises:
            BusyError: the queue is full.
            NotReadyError: the service is shutting down.
        """
        with self._lock:
            if self._closed:
                raise NotReadyError("the service is ending; send it again in a moment")
            self._raise_if_full()
            self._inside += 1
            self._count()
            future = self._executor.submit(self._run, task, time.perf_counter())
        future.add_done_callback(self._leave)
        return future

    def close(self) -> None:
        """Finish the accepted tasks and end the workers."""
        with self._lock:
            self._closed = True
        self._executor.shutdown(wait=True)

    def _raise_if_full(self) -> None:
        """Raise `BusyError` if another task would not fit."""
        ahead = self._inside - self.workers
        if ahead >= self._queue:
            seconds = self._inside * self._seconds / self.workers
            raise BusyError(min(LONGEST_WAIT, max(1, round(seconds))))

    def _run(self, task: Callable[[], T], queued: float) -> T:
        """Run a task in a worker."""
        began = time.perf_counter()
        self._metrics.stages.labels("queue").observe(began - queued)
        with self._lock:
            self._running += 1
            self._count()
        try:
            return task()
        finally:
            with self._lock:
                self._running -= 1
                self._seconds += SMOOTHING * (time.perf_counter() - began - self._seconds)

    def _leave(self, _: "Future[T]") -> None:
        """Free the place of a task that ended or was cancelled."""
        with self._lock:
            self._inside -= 1
            self._count()

    def _count(self) -> None:
        """Update the metrics."""
        self._metrics.working.set(self._running)
        self._metrics.waiting.set(self._inside - self._running)
