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
from clapedge.model.runtime_errors import ONNX_RUNTIME_ERRORS
from clapedge.model.sessions import session_options
from clapedge_calib.calibration_data import Clip
from clapedge_calib.progress import Steps, gather
from clapedge_calib.workers import Result, side_by_side

WARM_UPS, TIMED_RUNS = 3, 15
"""Runs before, and behind, a median latency."""


class GraphRunner:
    """A session; clips run side by side, a core each, which is faster than sharing the cores in every operator."""

    def __init__(self, model: ModelProto, *, threads: int = 1) -> None:
        """Open a session with so many threads an operator.

        Raises:
            BundleError: ONNX Runtime cannot run the graph.
        """
        options = session_options(threads)
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except ONNX_RUNTIME_ERRORS as error:
            raise BundleError(f"ONNX Runtime cannot run the audio tower ({error}); export the bundle again") from error
        self._inputs = {value.name: value.shape for value in self._session.get_inputs()}
        self._embeddings = [value.name for value in self._session.get_outputs()].index("embeddings")

    def run(self, clip: Clip) -> list[Float32Array]:
        """Return every output for one clip."""
        feed = {"input_features": clip.features(self._inputs["input_features"][1])}
        if "is_longer" in self._inputs:
            feed["is_longer"] = np.array([clip.is_longer])
        outputs: list[Float32Array] = self._session.run(None, feed)
        return outputs

    def map(self, reduce: Callable[[list[Float32Array]], Result], clips: Sequence[Clip]) -> Iterator[Result]:
        """Yield what `reduce` returns for the outputs of each clip, in their order; the outputs are not kept."""
        return side_by_side(lambda clip: reduce(self.run(clip)), clips)

    def embeddings(self, clips: Sequence[Clip]) -> Iterator[Float32Array]:
        """Yield the embedding (E,) of each clip."""
        return self.map(lambda outputs: outputs[self._embeddings][0], clips)


def embed(model: ModelProto, clips: Sequence[Clip], step: str) -> Steps[Float32Array]:
    """Embed clips with a graph: (N, E) float32."""
    return np.stack((yield from gather(GraphRunner(model).embeddings(clips), step, len(clips))))


def latencies(models: Sequence[ModelProto], clip: Clip) -> list[float]:
    """Return each graph's median milliseconds for a clip on all usable cores.

    The graphs take turns, so that other load on the machine affects all of them alike.
    """
    runners = [GraphRunner(model, threads=usable_cores()) for model in models]
    times: list[list[float]] = [[] for _ in runners]
    for _ in range(WARM_UPS + TIMED_RUNS):
        for runner, taken in zip(runners, times, strict=True):
            began = time.perf_counter()
            runner.run(clip)
            taken.append(time.perf_counter() - began)
    return [1e3 * statistics.median(taken[WARM_UPS:]) for taken in times]
