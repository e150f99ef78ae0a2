"""The plots of a report as small inline SVG."""

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from clapedge_calib.report import Candidate, Report
from clapedge_calib.report_sections import SHOWN_LAYERS

WIDTH, HEIGHT = 640, 280
LEFT, RIGHT, TOP, BOTTOM = 70, 40, 16, 44
"""Margins of a plot, in its units."""

BINS = 30
"""Bars of a distribution."""


def latency_plot(report: Report) -> str:
    """Draw each variant: latency to the right, accuracy (or agreement, or cosine) upwards."""

    def height(each: Candidate) -> float:
        if each.evaluation is not None:
            return each.evaluation.top1.value
        return each.agreement.top1.value if each.agreement is not None else each.cosine_mean

    name = "mean cosine"
    if report.candidates[0].agreement is not None:
        name = "top-1 accuracy" if report.candidates[0].evaluation is not None else "top-1 agreement"
    slowest = 4 * math.ceil(1.15 * max(each.latency_ms for each in report.candidates) / 4)  # four whole steps
    values = [height(each) for each in report.candidates]
    low, high = _padded(min(values), max(values))
    marks = []
    for place, (each, value) in enumerate(zip(report.candidates, values, strict=True)):
        x, y = _x(each.latency_ms / slowest), _y((value - low) / (high - low))
        above = y - 26 - 18 * place  # each name above the last, since marks may lie close together
        marks.append(
            f'<path class="axis" d="M{x:.1f} {y:.1f}V{above + 4:.1f}"/>'
            f'<circle class="{"mark" if each.holds else "bad"}" cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
            f'<text x="{x:.1f}" y="{above:.1f}" text-anchor="middle">{escape(each.name)}</text>'
        )
    ticks = _x_ticks(0, slowest, ".0f") + _y_ticks(low, high, ".3f")
    return _plot("".join(marks) + ticks, "milliseconds a clip", name)


def cosine_plot(cosines: Sequence[float]) -> str:
    """Draw the distribution of cosines."""
    low, high = min(cosines), 1.0
    low = min(low, high - 1e-6)
    counts, _ = np.histogram(np.minimum(cosines, high), BINS, (low, high))
    most = int(counts.max())
    bars = []
    for place, count in enumerate(counts):
        x, y = _x(place / BINS), _y(count / most)
        bars.append(
            f'<rect class="mark" x="{x + 1:.1f}" y="{y:.1f}" width="{(WIDTH - LEFT - RIGHT) / BINS - 2:.1f}" '
            f'height="{HEIGHT - BOTTOM - y:.1f}"/>'
        )
    return _plot("".join(bars) + _x_ticks(low, high, ".5f") + _y_ticks(0, most, "g"), "cosine with fp32", "clips")


def sensitivity_plot(report: Report) -> str:
    """Draw the most sensitive layers as bars on a logarithmic scale; those that were put back are red."""
    layers = [each for each in report.sensitivities if each.error > 0][:SHOWN_LAYERS]
    if not layers:
        return "<p>No layer changes any clip.</p>"
    chosen = next((each for each in report.candidates if each.name == report.chosen), report.candidates[-1])
    high = math.ceil(math.log10(layers[0].error))
    low = min(high - 1, math.floor(math.log10(layers[-1].error)))
    row, left = 18, 170
    tall = row * len(layers) + 30
    bars = []
    for place, each in enumerate(layers):
        wide = (WIDTH - left - RIGHT - 70) * (math.log10(each.error) - low) / (high - low)
        y = place * row + 4
        kind = "bad" if each.layer in chosen.restored else "mark"
        bars.append(
            f'<text x="{left - 8}" y="{y + 11}" text-anchor="end">{escape(each.layer)}</text>'
            f'<rect class="{kind}" x="{left}" y="{y}" width="{max(wide, 1):.1f}" height="{row - 5}"/>'
            f'<text x="{left + max(wide, 1) + 6:.1f}" y="{y + 11}">{each.error:.1e}</text>'
        )
    note = f'<text x="{left}" y="{tall - 8}">logarithmic; red: put back to float</text>'
    return f'<svg viewBox="0 0 {WIDTH} {tall}" role="img" aria-label="sensitivity">{"".join(bars)}{note}</svg>'


def _plot(content: str, below: str, beside: str) -> str:
    """Put axes around marks."""
    bottom, middle = HEIGHT - BOTTOM, (TOP + HEIGHT - BOTTOM) / 2
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{beside} by {below}">'
        f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}"/>{content}'
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{below}</text>'
        f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{beside}</text></svg>'
    )


def _x_ticks(low: float, high: float, form: str) -> str:
    """Return five numbers along the horizontal axis."""
    return "".join(
        f'<text x="{_x(part / 4):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">'
        f"{format(low + (high - low) * part / 4, form)}</text>"
        for part in range(5)
    )


def _y_ticks(low: float, high: float, form: str) -> str:
    """Return three numbers along the vertical axis."""
    return "".join(
        f'<text x="{LEFT - 6}" y="{_y(part / 2) + 4:.1f}" text-anchor="end">'
        f"{format(low + (high - low) * part / 2, form)}</text>"
        for part in range(3)
    )


def _padded(low: float, high: float) -> tuple[float, float]:
    """Widen a span so that no mark lies on its edge."""
    room = max((high - low) * 0.2, 0.01)
    return low - room, high + 3 * room  # the names of the marks stand above them


def _x(part: float) -> float:
    """Return where a part (0..1) of the horizontal axis lies."""
    return LEFT + part * (WIDTH - LEFT - RIGHT)


def _y(part: float) -> float:
    """Return where a part (0..1) of the vertical axis lies."""
    return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
