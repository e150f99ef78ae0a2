"""The audio tower on a GPU: one thread that does everything there, and runs that several callers share."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from clapedge.arrays import BoolArray, Float32Array
from clapedge.errors import GpuMemoryError, ProviderError, UsageError
from clapedge.model.gpu_memory import CudaRuntime, LentRows
from clapedge.model.gpu_session import FEATURES, RUNNING, SAMPLES, DeviceSession, Inputs
from clapedge.model.providers import ProviderConfig
from clapedge.model.sessions import checked
from clapedge.model.tensorrt import locate

COSTS: Mapping[int, float] = {1: 0.68, 8: 1.63, 32: 5.05}
"""Batch sizes that a GPU is given, each with its own session, buffers and CUDA graph, and the ms that a run of the
full-size FP16 tower takes on an H200, without copies (docs/measured/gpu.md). Only their ratios count."""

BUCKETS = tuple(COSTS)

SAMPLES_DIMENSIONS = 2
"""Of an array of samples, (N, 480000); log-mels have four."""

SHARED_BATCH = 8
"""Clips of a run that several callers share. A caller waits for its clips before it brings the next, so no more of them
come together than there are workers, one more than cores; a run of 8 takes a third of the time of one of 32, which
would stay half empty."""

GATHER_SECONDS = 0.001
"""How long the first clips of a shared run wait for company: less than the run takes. While the device is busy they
wait for it anyway, and gather without a delay."""


class GpuAudioTower:
    """Log-mels to embeddings on a GPU. Threads may share it.

    All sessions are opened, captured, run and released by one thread, see `DeviceSession`. Callers queue up before it,
    each with one call at a time, and wait for their own clips.

    The batch size that a clip is run in follows from its call alone, never from timing or company, and within a batch
    size no row depends on another: the same call gives the same bits. Kernels of another batch size may sum in
    another order, so that the last bits of a clip may differ between `embed` and `shared.embed`.
    """

    def __init__(
        self, model: str | os.PathLike[str], *, provider_config: ProviderConfig, front_end: Path | None = None
    ) -> None:
        """Open a session for every batch size and capture its CUDA graph, so that no request waits for that.

        Args:
            model: path of the exported tower.
            provider_config: a provider on a GPU.
            front_end: path of the graph that makes log-mels; with it, clips may be samples as well.

        Raises:
            BundleError: ONNX Runtime cannot run the file.
            ProviderError: a session does not run where it was asked to.
        """
        self._model, self._provider_config, self.front_end = Path(model), provider_config, front_end
        self._sessions: dict[int, DeviceSession] = {}
        self._lent_rows = LentRows(None, ())
        self._failure: ProviderError | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="clapedge-gpu")
        with ExitStack() as undo:
            undo.callback(self.close)
            self._thread.submit(self._open).result()
            undo.pop_all()
        shapes = self._sessions[SHARED_BATCH].input_shapes
        self._fused = "is_longer" in shapes
        self.channels: int = shapes[FEATURES][1]
        """Mels per clip: 4 for a fusion model, else 1."""
        self.shared = SharedRuns(self)
        """The same tower for callers that work side by side: their clips share runs."""

    def embed(self, features: Float32Array, is_longer: BoolArray) -> Float32Array:
        """Embed clips in runs of their own, see `AudioTower.embed`.

        Args:
            features: (N, channels, 1001, 64) float32 dB, or with a front end (N, 480000) samples.
            is_longer: (N,) bool.

        Raises:
            ProviderError: what comes out is no numbers, or the GPU failed, now or before.
            UsageError: the tower is closed.
        """
        with ExitStack() as lent:
            runs = []
            for start, stop, batch in split(len(features)):
                parts = lent.enter_context(self.inputs(features[start:stop], is_longer[start:stop]))
                runs.append(self.start(batch, partial(list, parts)))
            return self.checked([run.result() for run in runs])

    @contextmanager
    def inputs(self, features: Float32Array, is_longer: BoolArray) -> Iterator[list[Inputs]]:
        """Yield clips as the inputs of a session, in memory from which a GPU copies fast as far as there is some."""
        name, start = SAMPLES if features.ndim == SAMPLES_DIMENSIONS else FEATURES, 0
        with self._lent_rows.copied(features) as parts:
            inputs: list[Inputs] = []
            for part in parts:
                flags = {"is_longer": is_longer[start : start + len(part)]} if self._fused else {}
                inputs.append({name: part, **flags})
                start += len(part)
            yield inputs

    def start(self, batch: int, gather: Callable[[], Sequence[Inputs]]) -> "Future[Float32Array]":
        """Queue up for a run of a batch size.

        Args:
            batch: its size.
            gather: gives the rows; called by the thread of the device when it comes to the run.

        Raises:
            UsageError: the tower is closed.
        """
        with self._lock:
            if self._closed:
                raise UsageError(f"the tower of {self._model} is closed; load the engine again: Engine.load(...)")
            return self._thread.submit(self._run, batch, gather)

    def checked(self, parts: Sequence[Float32Array]) -> Float32Array:
        """Join embeddings.

        Raises:
            ProviderError: they are no numbers.
        """
        return checked(np.concatenate(parts), self._model, self._provider_config)

    def close(self) -> None:
        """Run what waits, release the sessions and end the thread."""
        with self._lock:
            if not self._closed:
                self._thread.submit(self._release)
            self._closed = True
        self._thread.shutdown()

    def _open(self) -> None:
        """Open the session of every batch size."""
        for batch in BUCKETS:
            model, provider_config = locate(self._model, self._provider_config, batch=batch)
            self._sessions[batch] = DeviceSession(model, provider_config, batch=batch, front_end=self.front_end)
        shapes = self._sessions[SHARED_BATCH].input_shapes
        with RUNNING:
            self._lent_rows = LentRows(CudaRuntime.loaded(), shapes[SAMPLES if self.front_end else FEATURES][1:])

    def _run(self, batch: int, gather: Callable[[], Sequence[Inputs]]) -> Float32Array:
        """Run one batch; a GPU that failed otherwise than by a full memory is not touched again."""
        parts = gather()
        if self._failure:
            raise type(self._failure)(f"the audio tower failed before and is closed: {self._failure}")
        try:
            return self._sessions[batch].run(*parts)
        except GpuMemoryError:
            raise
        except ProviderError as error:
            self._failure = error
            raise

    def _release(self) -> None:
        """Release the sessions and the memory that is lent."""
        while self._sessions:
            self._sessions.popitem()[1].close()
        with RUNNING:
            self._lent_rows.release()


class _SharedRun:
    """A run that callers may still join: it is queued up, and neither full nor begun."""

    def __init__(self) -> None:
        """Begin without clips."""
        self.parts: list[Inputs] = []
        self.clips = 0
        self.until = time.monotonic() + GATHER_SECONDS
        self.full = threading.Event()

    def takes(self, inputs: Sequence[Inputs], clips: int) -> bool:
        """Return whether clips fit, and are what the others are: log-mels or samples."""
        return self.clips + clips <= SHARED_BATCH and inputs[0].keys() == self.parts[0].keys()


class SharedRuns:
    """Clips of several callers in runs of `SHARED_BATCH`; the bits of a clip do not depend on who shared its run."""

    def __init__(self, tower: GpuAudioTower) -> None:
        """Stand in front of a tower."""
        self._tower = tower
        self._lock = threading.Lock()
        self._joined: tuple[_SharedRun, Future[Float32Array]] | None = None
        self.observe: Callable[[int], object] = int
        """Called with the clips of every run as it begins; whoever counts them sets it."""

    def embed(self, features: Float32Array, is_longer: BoolArray) -> Float32Array:
        """Embed clips together with those of other callers, see `GpuAudioTower.embed`."""
        with ExitStack() as lent:
            waited_for = []
            for start in range(0, len(features), SHARED_BATCH):
                part = slice(start, start + SHARED_BATCH)
                inputs = lent.enter_context(self._tower.inputs(features[part], is_longer[part]))
                waited_for.append(self._join(inputs, len(features[part])))
            return self._tower.checked([run.result()[rows] for run, rows in waited_for])

    def _join(self, inputs: Sequence[Inputs], clips: int) -> "tuple[Future[Float32Array], slice]":
        """Join the run that is open, or open one; return its result to come, and the rows that are one's own in it."""
        with self._lock:
            if self._joined and not self._joined[0].takes(inputs, clips):
                self._seal(self._joined[0])
            if not self._joined:
                run = _SharedRun()
                self._joined = run, self._tower.start(SHARED_BATCH, partial(self._gather, run))
            run, result = self._joined
            rows = slice(run.clips, run.clips + clips)
            run.parts.extend(inputs)
            run.clips += clips
            if run.clips == SHARED_BATCH:
                self._seal(run)
            return result, rows

    def _seal(self, run: _SharedRun) -> None:
        """Let nobody else join a run; the lock is held."""
        run.full.set()
        self._joined = None

    def _gather(self, run: _SharedRun) -> Sequence[Inputs]:
        """Wait until a run is full or nobody else is waited for, and return its rows."""
        run.full.wait(max(0.0, run.until - time.monotonic()))
        with self._lock:
            if not run.full.is_set():
                self._seal(run)
        self.observe(run.clips)
        return run.parts


def split(count: int, costs: Mapping[int, float] = COSTS) -> Iterator[tuple[int, int, int]]:
    """Yield (start, stop, batch) of the runs of least cost in sum that so many clips are run in, largest first.

    Args:
        count: clips.
        costs: cost of a run by its batch size.

    Example:
        >>> list(split(40))
        [(0, 32, 32), (32, 40, 8)]
        >>> list(split(3))  # five rows are computed in vain, and yet it is quicker than three runs of one
        [(0, 3, 8)]
    """
    cheapest = [(0.0, 0)]  # of so many clips: the cost in sum, and a batch size in it
    for clips in range(1, count + 1):
        cheapest.append(min((cheapest[max(0, clips - batch)][0] + cost, batch) for batch, cost in costs.items()))
    batches = []
    left = count
    while left > 0:
        batches.append(cheapest[left][1])
        left -= batches[-1]
    start = 0
    for batch in sorted(batches, reverse=True):
        yield start, min(start + batch, count), batch
        start += batch
