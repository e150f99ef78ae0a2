"""A session on a GPU for one batch size: fixed buffers, and a CUDA graph over them."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from clapedge.arrays import Float32Array
from clapedge.errors import BundleError
from clapedge.model.providers import ProviderConfig
from clapedge.model.sessions import _failing_as_provider, open_session

NUMPY_TYPES: dict[str, type[np.generic]] = {"tensor(float)": np.float32, "tensor(bool)": np.bool_}
"""Element types of a tower's inputs and outputs, by ONNX Runtime's names."""


WARM_UP_RUNS = 2
"""Runs after which ONNX Runtime has allocated what it needs and captured its CUDA graph."""


class DeviceSession:
    """A tower on a GPU for one batch size: buffers at fixed addresses, and a CUDA graph captured over them.

    ONNX Runtime replays a captured graph on the addresses that it saw, and allows one run at a time.
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
        # the device computes; a thread of the CPU has only to launch
        self._session = open_session(model, provider_config, threads=1, batch=batch)
        self._lock = threading.Lock()
        self._binding = self._session.io_binding()
        self._inputs: dict[str, tuple[onnxruntime.OrtValue, tuple[int, ...], type[np.generic]]] = {}
        for node in self._session.get_inputs():
            if node.shape[0] != batch:
                raise BundleError(
                    f"{model} takes batches of {node.shape[0]}, not {batch}; use another --precision, or --provider cpu"
                )
        with _failing_as_provider(provider_config):
            self._bind()
        for _ in range(WARM_UP_RUNS):
            self.run({name: np.zeros(shape, kind) for name, (_, shape, kind) in self._inputs.items()})

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the inputs by name, batch included."""
        return {name: shape for name, (_, shape, _) in self._inputs.items()}

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Float32Array:
        """Copy inputs in, run, and return a copy of the output: (batch, E) float32.

        Raises:
            ProviderError: the GPU failed, or its memory is full.
        """
        with self._lock, _failing_as_provider(self._provider_config):
            for name, (buffer, _, kind) in self._inputs.items():
                buffer.update_inplace(np.ascontiguousarray(inputs[name], kind))
            self._execute()
            return np.array(self._output.numpy(), np.float32)

    def replay(self) -> None:
        """Run once more on what the buffers hold: what the device does without the copies."""
        with self._lock:
            self._execute()

    def _bind(self) -> None:
        """Allocate a buffer for every input and the output, and bind them for good."""
        place = ("cuda" if self._provider_config.on_gpu else "cpu", self._provider_config.device_id)
        for node in self._session.get_inputs():
            kind = NUMPY_TYPES[node.type]
            buffer = onnxruntime.OrtValue.ortvalue_from_shape_and_type(node.shape, kind, *place)
            self._binding.bind_ortvalue_input(node.name, buffer)
            self._inputs[node.name] = (buffer, tuple(node.shape), kind)
        (output,) = self._session.get_outputs()
        self._output = onnxruntime.OrtValue.ortvalue_from_shape_and_type(output.shape, np.float32, *place)
        self._binding.bind_ortvalue_output(output.name, self._output)

    def _execute(self) -> None:
        """Run on the bound buffers; returns when the device is done."""
        self._session.run_with_iobinding(self._binding)
