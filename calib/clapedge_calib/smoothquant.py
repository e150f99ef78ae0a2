"""SmoothQuant: outliers are moved from activations into weights, through the LayerNorm in front of a product.

The output of a LayerNorm is divided channel by channel, and the weights behind it are multiplied by the same factors:
the tower computes the same, but no single channel widens the range that eight bits must cover.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import ModelProto, NodeProto, numpy_helper

from clapedge.arrays import Float32Array
from clapedge_calib.collect import Extremes
from clapedge_calib.layers import NORM, Layer, weight_of
from clapedge_calib.mixed_precision import Probe
from clapedge_calib.progress import Progress, Steps
from clapedge_calib.ranges import Range
from clapedge_calib.report import Smoothing
from clapedge_export.smoothing import smoothing_logarithms

ALPHAS = (0.5, 0.65, 0.8)
"""How much of the outliers goes into the weights, from 0 (none) to 1 (all): 0.5 is SmoothQuant's own value (Xiao et al.
2023), and it takes more where activations are harder than weights."""

WORTH = 0.9
"""Smoothing is used if at most this part of the error is left: finer differences are chance."""

SMOOTHING_CLIPS = 128
"""Clips over which errors are compared: with the built-in model, the choice over 16 did not hold for other clips."""

LEAST = 1e-5
"""Magnitude below which a channel counts as this, so that a silent one is not blown up."""


@dataclass(frozen=True, eq=False)
class Tower:
    """A float32 tower, the ranges of its activations, and what smoothing it brought, if it was tried."""

    model: ModelProto
    ranges: Mapping[str, Range]
    smoothing: Smoothing | None = None


Quantize = Callable[[Tower], ModelProto]
"""Makes a float32 tower INT8."""


def choose_smoothing(
    model: ModelProto, layers: Sequence[Layer], extremes: Mapping[str, Extremes], quantize: Quantize, probe: Probe
) -> Steps[Tower]:
    """Smooth with the alpha that costs least in INT8, or not at all if that does not pay.

    Args:
        model: float32 tower.
        layers: those that become INT8.
        extremes: of their activations.
        quantize: makes a tower INT8.
        probe: measures its error.
    """
    towers = {alpha: _tower(*smooth(model, layers, extremes, alpha)) for alpha in ALPHAS}
    plain, errors = _tower(model, extremes), {}
    before = probe.error(quantize(plain))
    for done, alpha in enumerate(ALPHAS, 1):
        errors[alpha] = probe.error(quantize(towers[alpha]))
        yield Progress("smoothing", done, len(ALPHAS))
    best = min(ALPHAS, key=lambda alpha: errors[alpha])
    pays = errors[best] <= WORTH * before
    smoothing = Smoothing(alpha=best if pays else None, best=best, error=errors[best], plain=before)
    return replace(towers[best] if pays else plain, smoothing=smoothing)


def _tower(model: ModelProto, extremes: Mapping[str, Extremes]) -> Tower:
    """Join a tower with ranges that cover every value of its activations."""
    return Tower(model, {name: each.whole for name, each in extremes.items()})


def smooth(
    model: ModelProto, layers: Sequence[Layer], extremes: Mapping[str, Extremes], alpha: float
) -> tuple[ModelProto, dict[str, Extremes]]:
    """Return a copy that computes the same with smoother activations, and their extremes.

    A LayerNorm whose output is read by anything but the layers is left as it is.

    Args:
        model: float32 tower.
        layers: whose weights take up the factors.
        extremes: of their activations.
        alpha: how much of the outliers goes into the weights.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    smoothed = dict(extremes)
    for norm in [node for node in copy.graph.node if node.op_type == NORM]:
        readers = [layer for layer in layers if layer.activation == norm.output[0]]
        weights = {layer.weight for layer in readers}
        if (
            not readers
            or _uses(model, norm.output[0]) != len(readers)
            or any(_uses(model, each) > 1 for each in weights)
        ):
            continue
        before = extremes[norm.output[0]]
        factors = _factors(before, [weight_of(model, layer) for layer in readers], alpha)
        for place in range(1, len(norm.input)):
            _divide(copy, norm, place, factors)
        for layer in readers:
            _multiply(copy, layer, factors)
        smoothed[norm.output[0]] = Extremes(before.low / factors, before.high / factors)
    return copy, smoothed


def _factors(extremes: Extremes, weights: Sequence[Float32Array], alpha: float) -> Float32Array:
    """Return the divisor of each channel, (channels,) float32: SmoothQuant's formula, at 1 on average."""
    largest = np.max([np.abs(each).max(axis=1) for each in weights], axis=0)
    logarithms = smoothing_logarithms(extremes.magnitude, largest, alpha=alpha, least=LEAST)
    return np.asarray(np.exp2(logarithms - logarithms.mean()), np.float32)


def _uses(model: ModelProto, name: str) -> int:
    """Count the places where a tensor is read."""
    names = [each for node in model.graph.node for each in node.input]
    return names.count(name) + [value.name for value in model.graph.output].count(name)


def _divide(model: ModelProto, norm: NodeProto, place: int, factors: Float32Array) -> None:
    """Divide the scale or shift of a LayerNorm, which others may share, by one factor a channel."""
    if norm.input[place]:
        tensor = next(each for each in model.graph.initializer if each.name == norm.input[place])
        name = f"{norm.output[0]}_smoothed_{place}"
        model.graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(tensor) / factors, name))
        norm.input[place] = name


def _multiply(model: ModelProto, layer: Layer, factors: Float32Array) -> None:
    """Multiply the rows of a layer's weight, (inputs, channels), by a factor each."""
    tensor = next(each for each in model.graph.initializer if each.name == layer.weight)
    weight = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(weight * (factors if layer.transposed else factors[:, None]), layer.weight))
