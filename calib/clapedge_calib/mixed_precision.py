"""Mixed precision: how much INT8 costs in each layer, and the fewest layers that must stay in float."""

from collections.abc import Callable, Sequence

import numpy as np
from onnx import ModelProto

from clapedge.arrays import Float32Array
from clapedge_calib.calibration_data import Clip
from clapedge_calib.evaluator import Evaluator, Figures
from clapedge_calib.graph_runner import GraphRunner
from clapedge_calib.layers import Layer
from clapedge_calib.metrics import cosines
from clapedge_calib.progress import Progress, Steps
from clapedge_calib.report import Sensitivity, Step

SENSITIVITY_CLIPS = 16
"""Clips over which an error is averaged: layers differ by factors, which few clips show."""

Build = Callable[[Sequence[Layer]], ModelProto]
"""Makes the graph in which the layers given are INT8."""


class Probe:
    """Some clips, and their embeddings by the float32 tower."""

    def __init__(self, reference: ModelProto, clips: Sequence[Clip], *, most: int) -> None:
        """Take at most so many of the clips, evenly from all."""
        places = np.linspace(0, len(clips) - 1, min(most, len(clips))).round().astype(int)
        self._clips = [clips[place] for place in places]
        self._expected = self._embed(reference)

    def error(self, model: ModelProto) -> float:
        """Return one minus the mean cosine of a tower's embeddings with those in float32."""
        return float(np.maximum(0, 1 - cosines(self._embed(model), self._expected)).mean())

    def _embed(self, model: ModelProto) -> Float32Array:
        """Embed the clips."""
        return np.stack(list(GraphRunner(model).embeddings(self._clips)))


def measure_sensitivities(
    layers: Sequence[Layer], build: Build, probe: Probe
) -> Steps[list[tuple[Layer, Sensitivity]]]:
    """Measure what INT8 in each layer alone costs, the costliest first (ties in the order in which they run)."""
    found = []
    for done, layer in enumerate(layers, 1):
        found.append((layer, Sensitivity(layer=layer.name, error=probe.error(build([layer])))))
        yield Progress("measuring each layer alone", done, len(layers))
    return sorted(found, key=lambda pair: -pair[1].error)


def restore_fewest(
    ranked: Sequence[Layer], build: Build, evaluator: Evaluator, name: str, *, most: int
) -> Steps[tuple[int, Figures, tuple[Step, ...]]]:
    """Find the fewest layers, taken from the most sensitive on, that must stay in float for a variant to hold.

    The number is found by bisection, as more layers in float lose less.

    Args:
        ranked: layers, the most sensitive first.
        build: makes the graph.
        evaluator: decides whether it holds.
        name: of the variant.
        most: layers that may be put back.

    Returns:
        How many are put back, what that gives (it does not hold if nothing does), and what was tried.
    """
    tried: dict[int, Figures] = {}

    def figures(count: int) -> Steps[Figures]:
        if count not in tried:
            left = set(ranked[:count])
            tried[count] = yield from evaluator.measure(build([layer for layer in ranked if layer not in left]), name)
        return tried[count]

    count = 0
    if not (yield from figures(0)).holds:
        low, count = 0, most
        while (yield from figures(most)).holds and count - low > 1:
            middle = (low + count) // 2
            low, count = (low, middle) if (yield from figures(middle)).holds else (middle, count)
    steps = tuple(
        Step(restored=each, cosine=float(tried[each].cosines.mean()), drop=tried[each].drop, holds=tried[each].holds)
        for each in sorted(tried)
    )
    return count, tried[count], steps if len(steps) > 1 else ()
