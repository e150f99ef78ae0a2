"""A graph in memory, run clip by clip by ONNX Runtime on the CPU."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnxruntime
from onnx import ModelProto

from clapedge.arrays import Float32Array
from clapedge.errors import BundleError
from clapedge.model.cpu import usable_cores
from clapedge.model.sessions import LOG_ERRORS_ONLY, ONNX_RUNTIME_ERRORS
from clapedge_calib.calibration_data import Sound
from clapedge_calib.progress import Progress
from clapedge_calib.workers import Result, side_by_side

WARM_UPS, TIMED_RUNS = 3, 15
"""Runs before, and behind, a median latency."""


class Running:
    """An open session; its clips run side by side, a core each, which does more than sharing every operator."""

    def __init__(self, model: ModelProto, *, threads: int = 1) -> None:
        """Open a session with so many threads an operator.

        Raises:
            BundleError: ONNX Runtime cannot run the graph.
        """
        options = onnxruntime.SessionOptions()
        options.log_severity_level = LOG_ERRORS_ONLY
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except ONNX_RUNTIME_ERRORS as error:
            raise BundleError(f"ONNX Runtime cannot run the audio tower ({error}); export the bundle again") from error
        self._inputs = {value.name: value.shape for value in self._session.get_inputs()}
        self.outputs = [value.name for value in self._session.get_outputs()]

    def run(self, sound: Sound) -> list[Float32Array]:
        """Return every output for one sound."""
        feed = {"input_features": sound.features(self._inputs["input_features"][1])}
        if "is_longer" in self._inputs:
            feed["is_longer"] = np.array([sound.is_longer])
        outputs: list[Float32Array] = self._session.run(None, feed)
        return outputs

    def each(
        self,
        sounds: Sequence[Sound],
        take: Callable[[list[Float32Array]], Result],
        *,
        progress: Progress,
        step: str,
    ) -> Iterator[Result]:
        """Return what `take` makes of the outputs for each sound, in their order; no outputs are kept."""
        return side_by_side(lambda sound: take(self.run(sound)), sounds, progress=progress, step=step)

    def embed(self, sounds: Sequence[Sound], *, progress: Progress, step: str) -> Float32Array:
        """Embed sounds: (N, E) float32."""
        place = self.outputs.index("embeddings")
        return np.stack(list(self.each(sounds, lambda outputs: outputs[place][0], progress=progress, step=step)))


def latencies(models: Sequence[ModelProto], sound: Sound) -> list[float]:
    """Return the median milliseconds of one clip on all usable cores, of graphs that take turns.

    What else the machine does meanwhile then falls on all of them.
    """
    opened = [Running(model, threads=usable_cores()) for model in models]
    times: list[list[float]] = [[] for _ in opened]
    for _ in range(WARM_UPS + TIMED_RUNS):
        for running, taken in zip(opened, times, strict=True):
            began = time.perf_counter()
            running.run(sound)
            taken.append(time.perf_counter() - began)
    return [1e3 * statistics.median(taken[WARM_UPS:]) for taken in times]
