"""A session on a GPU for one batch size: fixed buffers, and a CUDA graph over them."""

import ctypes
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeAlias
from weakref import WeakSet

import numpy as np
import numpy.typing as npt
import onnxruntime

from clapedge.arrays import Float32Array
from clapedge.errors import BundleError, GpuLostError
from clapedge.model.gpu_memory import LARGE_BYTES, CudaRuntime
from clapedge.model.providers import ProviderConfig
from clapedge.model.sessions import failing_as_provider, open_session

NUMPY_TYPES: dict[str, type[np.generic]] = {"tensor(float)": np.float32, "tensor(bool)": np.bool_}
"""Element types of a tower's inputs and outputs, by ONNX Runtime's names."""

FEATURES = "input_features"
SAMPLES = "samples"
"""Names of the input of a tower that a front end fills, and of that front end's own."""

WARM_UP_RUNS = 2
"""Runs after which ONNX Runtime has allocated what it needs and captured its CUDA graph."""

OPENING = threading.Lock()
RUNNING = threading.Lock()
"""While a CUDA graph is captured, every copy, allocation and release fails that another thread of this process asks of
any GPU, and spoils the capture. So one session is opened at a time in a process, and no two run at a time (a first run
captures): a bundle may be opened while another one answers. Several GPUs are used best by a process each."""

Inputs: TypeAlias = Mapping[str, npt.NDArray[Any]]
"""Rows of each input, by its name."""


class _Bound:
    """A graph whose inputs lie at fixed addresses on a GPU, and whose output does too."""

    def __init__(self, model: Path, provider_config: ProviderConfig, *, batch: int) -> None:
        """Open the session; `bind` gives it its buffers."""
        self._model, self._provider_config = model, provider_config
        # the device computes; a thread of the CPU has only to launch
        self._session: Any = open_session(model, provider_config, threads=1, batch=batch)
        self._binding: Any = self._session.io_binding()
        self._runtime = CudaRuntime.loaded() if provider_config.on_gpu else None
        self.buffers: dict[str, onnxruntime.OrtValue] = {}
        self.output: Any = None
        self.rows: dict[str, npt.NDArray[Any]] = {}

    def bind(self, batch: int, output: onnxruntime.OrtValue | None) -> None:
        """Allocate a buffer for every input and the output, and bind them for good.

        Args:
            batch: rows of each.
            output: where the output goes instead: the input of another graph.

        Raises:
            BundleError: the graph was exported for another batch.
        """
        for node in self._session.get_inputs():
            if node.shape[0] != batch:
                raise BundleError(
                    f"{self._model} takes batches of {node.shape[0]}, not {batch}; "
                    "use another --precision, or --provider cpu"
                )
            self.rows[node.name] = np.zeros(node.shape, NUMPY_TYPES[node.type])
        for name, rows in self.rows.items():
            self.buffers[name] = self._allocated(rows.shape, rows.dtype.type)
            self._binding.bind_ortvalue_input(name, self.buffers[name])
        (node,) = self._session.get_outputs()
        self.output = output or self._allocated(node.shape, np.float32)
        self._binding.bind_ortvalue_output(node.name, self.output)

    def fill(self, parts: Sequence[Inputs]) -> None:
        """Copy rows in, those of the parts one behind the other; an input that no part holds keeps what it has."""
        for name in self.buffers.keys() & parts[0].keys():
            kept = self.rows[name]
            rows = [np.ascontiguousarray(part[name], kept.dtype) for part in parts]
            if self._runtime and kept[0].nbytes >= LARGE_BYTES:
                self._runtime.copy(self.buffers[name].data_ptr(), rows)
            else:
                self.buffers[name].update_inplace(_joined(kept, rows))

    def execute(self) -> None:
        """Run on what the buffers hold; returns when the device is done."""
        self._session.run_with_iobinding(self._binding)

    def let_go(self) -> None:
        """Drop what lies on the GPU."""
        self._binding = self.output = None
        self.buffers.clear()
        self._session = None

    def held(self) -> list[object]:
        """Return everything that keeps something on the GPU."""
        return [*vars(self).values(), *self.buffers.values()]

    def _allocated(self, shape: Sequence[int], kind: type[np.generic]) -> onnxruntime.OrtValue:
        """Return a buffer where the session runs."""
        place = ("cuda" if self._provider_config.on_gpu else "cpu", self._provider_config.device_id)
        return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, kind, *place)


class DeviceSession:
    """A tower on a GPU for one batch size: buffers at fixed addresses, and a CUDA graph captured over them.

    One thread opens it and runs it: a graph belongs to the thread that captured it, and another one would capture its
    own at its first runs, and keep it.

    With a front end it takes samples as well: a graph of their log-mels runs first, and leaves them where the tower
    takes them.
    """

    def __init__(
        self, model: Path, provider_config: ProviderConfig, *, batch: int, front_end: Path | None = None
    ) -> None:
        """Open the session, allocate its buffers and let it capture its graph.

        Args:
            model: path of the exported tower.
            provider_config: a provider on a GPU; the CPU's serves tests.
            batch: rows of every run.
            front_end: path of the graph that makes the log-mels of samples, or None.

        Raises:
            BundleError: ONNX Runtime cannot run a file, or it was exported for another batch.
            ProviderError: the session does not run where it was asked to.
        """
        self._provider_config = provider_config
        self._graphs: list[_Bound] = []
        LIVE.add(self)
        with OPENING, ExitStack() as undo:
            undo.callback(self._let_go)
            with _keeping_what_is_lost():
                self._open(model, batch)
                if front_end:
                    self._open(front_end, batch, output=self._graphs[0].buffers[FEATURES])
            undo.pop_all()

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the inputs by name, batch included."""
        return {name: rows.shape for graph in self._graphs for name, rows in graph.rows.items()}

    def run(self, *parts: Inputs) -> Float32Array:
        """Copy inputs in, run, and return a copy of the output.

        Args:
            *parts: rows of the batch, one behind the other, of log-mels or of samples; what is left of it keeps the
                rows of earlier runs, which changes nothing: no row depends on another.

        Returns:
            (N, E) float32 for the N rows of the parts.

        Raises:
            ProviderError: the GPU failed, or its memory is full.
        """
        tower, *front_end = self._graphs
        count = sum(len(next(iter(part.values()))) for part in parts)
        with RUNNING, _keeping_what_is_lost(), failing_as_provider(self._provider_config):
            for graph in front_end if SAMPLES in parts[0] else ():
                graph.fill(parts)
                graph.execute()
            tower.fill(parts)
            tower.execute()
            return np.array(tower.output.numpy()[:count], np.float32)

    def replay(self, *, front_end: bool = False) -> None:
        """Run once more on what the buffers hold: what the device does without the copies.

        Args:
            front_end: whether the front end runs before the tower.

        Raises:
            ProviderError: the GPU failed.
        """
        with RUNNING, _keeping_what_is_lost(), failing_as_provider(self._provider_config):
            for graph in reversed(self._graphs if front_end else self._graphs[:1]):
                graph.execute()

    def close(self) -> None:
        """Release what it holds on the GPU; it cannot be used afterwards."""
        with RUNNING:
            self._let_go()

    def held(self) -> list[object]:
        """Return everything that keeps something on the GPU."""
        return [thing for graph in self._graphs for thing in graph.held()]

    def _open(self, model: Path, batch: int, output: onnxruntime.OrtValue | None = None) -> None:
        """Open a graph, bind its buffers, and run it until its CUDA graph is captured."""
        graph = _Bound(model, self._provider_config, batch=batch)
        self._graphs.append(graph)
        with failing_as_provider(self._provider_config):
            graph.bind(batch, output)
        for _ in range(WARM_UP_RUNS):
            with RUNNING, failing_as_provider(self._provider_config):
                graph.fill([graph.rows])
                graph.execute()

    def _let_go(self) -> None:
        """Drop what lies on the GPU."""
        while self._graphs:
            self._graphs.pop().let_go()


def _joined(kept: npt.NDArray[Any], parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return a batch of parts one behind the other; a part that is a batch is not copied for it."""
    if len(parts) == 1 and len(parts[0]) == len(kept):
        return parts[0]
    start = 0
    for part in parts:
        kept[start : start + len(part)] = part
        start += len(part)
    return kept


LIVE: WeakSet[DeviceSession] = WeakSet()
"""The sessions of this process."""


@contextmanager
def _keeping_what_is_lost() -> Iterator[None]:
    """Keep what all sessions hold until the process has ended, if the GPU is lost: no destructor of it will ever run.

    ONNX Runtime ends the process (`std::terminate`) where it releases something on a GPU that was lost.
    """
    try:
        yield
    except GpuLostError:
        for session in list(LIVE):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(session.held()))
        raise
