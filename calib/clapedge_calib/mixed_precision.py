"""Which layers INT8 costs most, and the fewest that must go back to float."""

from collections.abc import Callable, Sequence

import numpy as np
from onnx import ModelProto

from clapedge.arrays import Float32Array
from clapedge_calib.calibration_data import Sound
from clapedge_calib.evaluator import Figures, Judge
from clapedge_calib.graph_runner import Running
from clapedge_calib.layers import Layer
from clapedge_calib.metrics import cosines
from clapedge_calib.progress import Progress, silent
from clapedge_calib.report import Sensitivity, Step

SENSITIVITY_SOUNDS = 16
"""Sounds over which an error is averaged: layers differ by factors, which few sounds show."""

Build = Callable[[Sequence[Layer]], ModelProto]
"""Makes the graph in which the layers given are INT8."""


class Probe:
    """Some sounds, and what the float32 tower makes of them."""

    def __init__(self, reference: ModelProto, sounds: Sequence[Sound], *, most: int) -> None:
        """Take at most so many of the sounds, evenly from all."""
        places = np.linspace(0, len(sounds) - 1, min(most, len(sounds))).round().astype(int)
        self._sounds = [sounds[place] for place in places]
        self._expected = self._embed(reference)

    def error(self, model: ModelProto) -> float:
        """Return one minus the mean cosine of a tower's embeddings with those in float32."""
        return float(np.maximum(0, 1 - cosines(self._embed(model), self._expected)).mean())

    def _embed(self, model: ModelProto) -> Float32Array:
        """Embed the sounds."""
        return Running(model).embed(self._sounds, progress=silent, step="")


def sensitivities(
    layers: Sequence[Layer], build: Build, probe: Probe, *, progress: Progress
) -> list[tuple[Layer, Sensitivity]]:
    """Measure what INT8 in each layer alone costs, the costliest first (ties in the order in which they run)."""
    found = []
    for done, layer in enumerate(layers, 1):
        found.append((layer, Sensitivity(layer=layer.name, error=probe.error(build([layer])))))
        progress("measuring each layer alone", done, len(layers))
    return sorted(found, key=lambda pair: -pair[1].error)


def restore_fewest(
    ranked: Sequence[Layer], build: Build, judge: Judge, name: str, *, most: int
) -> tuple[int, Figures, tuple[Step, ...]]:
    """Find the fewest layers, taken from the most sensitive on, that must stay in float for a variant to hold.

    The number is found by bisection, as more layers in float lose less.

    Args:
        ranked: layers, the most sensitive first.
        build: makes the graph.
        judge: says whether it holds.
        name: of the variant.
        most: layers that may be put back.

    Returns:
        How many are put back, what that gives (it does not hold if nothing does), and what was tried.
    """
    tried: dict[int, Figures] = {}

    def figures(count: int) -> Figures:
        if count not in tried:
            left = set(ranked[:count])
            tried[count] = judge.measure(build([layer for layer in ranked if layer not in left]), name)
        return tried[count]

    count = 0
    if not figures(0).holds:
        low, count = 0, most
        while figures(most).holds and count - low > 1:
            middle = (low + count) // 2
            low, count = (low, middle) if figures(middle).holds else (middle, count)
    steps = tuple(
        Step(restored=each, cosine=float(tried[each].cosines.mean()), drop=tried[each].drop, holds=tried[each].holds)
        for each in sorted(tried)
    )
    return count, tried[count], steps if len(steps) > 1 else ()
