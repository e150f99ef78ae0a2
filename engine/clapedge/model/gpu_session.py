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
from clapedge.model.providers import ProviderConfig
from clapedge.model.sessions import failing_as_provider, open_session

NUMPY_TYPES: dict[str, type[np.generic]] = {"tensor(float)": np.float32, "tensor(bool)": np.bool_}
"""Element types of a tower's inputs and outputs, by ONNX Runtime's names."""

WARM_UP_RUNS = 2
"""Runs after which ONNX Runtime has allocated what it needs and captured its CUDA graph."""

OPENING = threading.Lock()
RUNNING = threading.Lock()
"""While a CUDA graph is captured, every copy, allocation and release fails that another thread of this process asks of
any GPU, and spoils the capture. So one session is opened at a time in a process, and no two run at a time (a first run
captures): a bundle may be opened while another one answers. Several GPUs are used best by a process each."""

Inputs: TypeAlias = Mapping[str, npt.NDArray[Any]]
"""Rows of each input, by its name."""


class DeviceSession:
    """A tower on a GPU for one batch size: buffers at fixed addresses, and a CUDA graph captured over them.

    One thread opens it and runs it: a graph belongs to the thread that captured it, and another one would capture its
    own at its first runs, and keep it.

    Copies go through pageable memory and hold the GIL: ONNX Runtime gives Python no pinned memory of its CUDA
    provider, and no way to write into a buffer that lets other threads run meanwhile.
    """

    def __init__(self, model: Path, provider_config: ProviderConfig, *, batch: int) -> None:
        """Open the session, allocate its buffers and let it capture its graph.

        Args:
            model: path of the exported tower.
            provider_config: a provider on a GPU; the CPU's serves tests.
            batch: rows of every run.

        Raises:
            BundleError: ONNX Runtime cannot run the file, or it was exported for another batch.
            ProviderError: the session does not run where it was asked to.
        """
        self.batch, self._provider_config = batch, provider_config
        self._session: Any = None
        self._binding: Any = None
        self._output: Any = None
        self._buffers: dict[str, onnxruntime.OrtValue] = {}
        self._rows: dict[str, npt.NDArray[Any]] = {}
        LIVE.add(self)
        with OPENING, ExitStack() as undo:
            undo.callback(self._let_go)
            with _keeping_what_is_lost():
                self._open(model)
            undo.pop_all()

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the inputs by name, batch included."""
        return {name: rows.shape for name, rows in self._rows.items()}

    def run(self, *parts: Inputs) -> Float32Array:
        """Copy inputs in, run, and return a copy of the output.

        Args:
            *parts: rows of the batch, one after another; what is left of it keeps the rows of earlier runs, which
                changes nothing: no row depends on another.

        Returns:
            (N, E) float32 for the N rows of the parts.

        Raises:
            ProviderError: the GPU failed, or its memory is full.
        """
        rows = {name: self._filled(name, [part[name] for part in parts]) for name in self._rows}
        count = sum(len(next(iter(part.values()))) for part in parts)
        with RUNNING, _keeping_what_is_lost(), failing_as_provider(self._provider_config):
            for name, buffer in self._buffers.items():
                buffer.update_inplace(rows[name])
            self._execute()
            return np.array(self._output.numpy()[:count], np.float32)

    def replay(self) -> None:
        """Run once more on what the buffers hold: what the device does without the copies.

        Raises:
            ProviderError: the GPU failed.
        """
        with RUNNING, _keeping_what_is_lost(), failing_as_provider(self._provider_config):
            self._execute()

    def close(self) -> None:
        """Release what it holds on the GPU; it cannot be used afterwards."""
        with RUNNING:
            self._let_go()

    def _open(self, model: Path) -> None:
        """Open the session, bind its buffers, and run it until its graph is captured."""
        # the device computes; a thread of the CPU has only to launch
        self._session = open_session(model, self._provider_config, threads=1, batch=self.batch)
        self._binding = self._session.io_binding()
        for node in self._session.get_inputs():
            if node.shape[0] != self.batch:
                raise BundleError(
                    f"{model} takes batches of {node.shape[0]}, not {self.batch}; "
                    "use another --precision, or --provider cpu"
                )
            self._rows[node.name] = np.zeros(node.shape, NUMPY_TYPES[node.type])
        with failing_as_provider(self._provider_config):
            self._bind()
        for _ in range(WARM_UP_RUNS):
            self.run(self._rows)

    def _let_go(self) -> None:
        """Drop what lies on the GPU."""
        self._binding = self._output = None
        self._buffers.clear()
        self._session = None

    def _filled(self, name: str, parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Return the rows of an input, from parts one after another; a part that is a batch is not copied for it."""
        rows = self._rows[name]
        if len(parts) == 1 and len(parts[0]) == self.batch:
            return np.ascontiguousarray(parts[0], rows.dtype)
        start = 0
        for part in parts:
            rows[start : start + len(part)] = part
            start += len(part)
        return rows

    def _bind(self) -> None:
        """Allocate a buffer for every input and the output, and bind them for good."""
        place = ("cuda" if self._provider_config.on_gpu else "cpu", self._provider_config.device_id)
        for name, rows in self._rows.items():
            self._buffers[name] = onnxruntime.OrtValue.ortvalue_from_shape_and_type(rows.shape, rows.dtype.type, *place)
            self._binding.bind_ortvalue_input(name, self._buffers[name])
        (output,) = self._session.get_outputs()
        self._output = onnxruntime.OrtValue.ortvalue_from_shape_and_type(output.shape, np.float32, *place)
        self._binding.bind_ortvalue_output(output.name, self._output)

    def _execute(self) -> None:
        """Run on the bound buffers; returns when the device is done."""
        self._session.run_with_iobinding(self._binding)


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
            ctypes.pythonapi.Py_IncRef(ctypes.py_object([*vars(session).values(), *session._buffers.values()]))  # noqa: SLF001
        raise
