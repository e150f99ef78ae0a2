"""The values that activations take: extremes in a first pass, histograms in a second, and no value is kept.

ONNX Runtime's own calibrators keep every tensor of every clip.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from clapedge.arrays import Float32Array
from clapedge.errors import AudioError
from clapedge_calib.calibration_data import Clip
from clapedge_calib.graph_runner import GraphRunner
from clapedge_calib.layers import Layer, weight_of
from clapedge_calib.progress import Progress, Steps
from clapedge_calib.ranges import BINS, FloatArray, Histogram, Range


@dataclass(frozen=True, eq=False)
class Extremes:
    """Least and largest value of each channel of an activation, (channels,) each."""

    low: Float32Array
    high: Float32Array

    @property
    def magnitude(self) -> Float32Array:
        """Largest magnitude of each channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    @property
    def whole(self) -> Range:
        """The range of all channels together, and zero."""
        return Range(min(float(self.low.min()), 0.0), max(float(self.high.max()), 0.0))


def measure_extremes(model: ModelProto, layers: Sequence[Layer], clips: Sequence[Clip]) -> Steps[dict[str, Extremes]]:
    """Return the extremes of each activation that the layers multiply; the graph itself reduces them.

    Raises:
        AudioError: a value is not finite.
    """
    names = list(dict.fromkeys(layer.activation for layer in layers))
    reduced = GraphRunner(_reducing(model, layers)).map(lambda outputs: outputs[1:], clips)
    found = next(reduced)
    yield Progress("measuring extremes", 1, len(clips))
    for done, outputs in enumerate(reduced, 2):
        for place, (known, value) in enumerate(zip(found, outputs, strict=True)):
            found[place] = np.minimum(known, value) if place % 2 == 0 else np.maximum(known, value)
        yield Progress("measuring extremes", done, len(clips))
    if not all(np.isfinite(value).all() for value in found):
        raise AudioError("an activation is not finite; look for damaged recordings, or export the bundle again")
    return {name: Extremes(found[2 * place], found[2 * place + 1]) for place, name in enumerate(names)}


def count_values(
    model: ModelProto, extremes: Mapping[str, Extremes], clips: Sequence[Clip]
) -> Steps[dict[str, Histogram]]:
    """Count the values of each activation between its extremes."""
    names = list(extremes)
    bounds = {name: (float(extremes[name].low.min()), float(extremes[name].high.max())) for name in names}
    exposed = ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)

    def count(outputs: list[Float32Array]) -> list[FloatArray]:
        return [_counts(values, *bounds[name]) for name, values in zip(names, outputs[1:], strict=True)]

    totals = [np.zeros(BINS) for _ in names]
    for done, counts in enumerate(GraphRunner(exposed).map(count, clips), 1):
        totals = [total + each for total, each in zip(totals, counts, strict=True)]
        yield Progress("counting values", done, len(clips))
    return {name: Histogram(*bounds[name], total) for name, total in zip(names, totals, strict=True)}


def _counts(values: Float32Array, low: float, high: float) -> FloatArray:
    """Count values in equal bins."""
    width = max(high - low, float(np.finfo(np.float32).tiny))
    bins = ((values.ravel() - np.float32(low)) * np.float32(BINS / width)).astype(np.int32)
    return np.bincount(np.minimum(bins, BINS - 1), minlength=BINS).astype(np.float64)


def _reducing(model: ModelProto, layers: Sequence[Layer]) -> ModelProto:
    """Return a copy that also gives the least and largest value of each channel of the activations."""
    copy = ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    graph.initializer.append(numpy_helper.from_array(np.array([0]), "calibration/axes"))
    for name, layer in {layer.activation: layer for layer in layers}.items():
        channels = len(weight_of(model, layer))
        shape = numpy_helper.from_array(np.array([-1, channels]), f"{name}/rows_shape")
        graph.initializer.append(shape)
        graph.node.append(helper.make_node("Reshape", [name, shape.name], [f"{name}/rows"]))
        for op in ("ReduceMin", "ReduceMax"):
            reduced = f"{name}/{op}"
            graph.node.append(helper.make_node(op, [f"{name}/rows", "calibration/axes"], [reduced], keepdims=0))
            graph.output.append(helper.make_tensor_value_info(reduced, TensorProto.FLOAT, [channels]))
    return copy
