"""The values that activations take, without keeping any: extremes in a first pass, histograms in a second."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from clapedge.arrays import Float32Array
from clapedge.errors import AudioError
from clapedge_calib.calibration_data import Sound
from clapedge_calib.graph_runner import Running
from clapedge_calib.layers import Layer, weight_of
from clapedge_calib.progress import Progress
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


def extremes(
    model: ModelProto, layers: Sequence[Layer], sounds: Sequence[Sound], *, progress: Progress
) -> dict[str, Extremes]:
    """Return the extremes of each activation that the layers multiply; the graph itself reduces them.

    Raises:
        AudioError: a value is not finite.
    """
    running = Running(_reduced(model, layers))
    names = list(dict.fromkeys(layer.activation for layer in layers))
    found: list[Float32Array] | None = None
    for outputs in running.each(sounds, lambda outputs: outputs[1:], progress=progress, step="measuring extremes"):
        if found is None:
            found = outputs
        else:
            for place, (known, value) in enumerate(zip(found, outputs, strict=True)):
                found[place] = np.minimum(known, value) if place % 2 == 0 else np.maximum(known, value)
    if found is None or not all(np.isfinite(value).all() for value in found):
        raise AudioError("an activation is not finite; look for damaged recordings, or export the bundle again")
    return {name: Extremes(found[2 * place], found[2 * place + 1]) for place, name in enumerate(names)}


def histograms(
    model: ModelProto, found: Mapping[str, Extremes], sounds: Sequence[Sound], *, progress: Progress
) -> dict[str, Histogram]:
    """Count the values of each activation between its extremes."""
    names = list(found)
    bounds = {name: (float(found[name].low.min()), float(found[name].high.max())) for name in names}
    exposed = ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)

    def count(outputs: list[Float32Array]) -> list[FloatArray]:
        return [_counts(values, *bounds[name]) for name, values in zip(names, outputs[1:], strict=True)]

    totals = [np.zeros(BINS) for _ in names]
    for counts in Running(exposed).each(sounds, count, progress=progress, step="counting values"):
        totals = [total + each for total, each in zip(totals, counts, strict=True)]
    return {name: Histogram(*bounds[name], total) for name, total in zip(names, totals, strict=True)}


def _counts(values: Float32Array, low: float, high: float) -> FloatArray:
    """Count values in equal bins."""
    width = max(high - low, float(np.finfo(np.float32).tiny))
    bins = ((values.ravel() - np.float32(low)) * np.float32(BINS / width)).astype(np.int32)
    return np.bincount(np.minimum(bins, BINS - 1), minlength=BINS).astype(np.float64)


def _reduced(model: ModelProto, layers: Sequence[Layer]) -> ModelProto:
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
