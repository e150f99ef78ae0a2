"""The report as one HTML page that needs nothing else: no script, no network, plots as SVG."""

import math
from collections.abc import Sequence
from html import escape

from clapedge_calib.report import Candidate, Report, folding_lines, printable

WIDTH, HEIGHT = 640, 280
LEFT, RIGHT, TOP, BOTTOM = 70, 40, 16, 44
"""Margins of a plot, in its units."""

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1d2733; }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.2rem }
.verdict { border-left: 5px solid #2a7f4f; background: #edf7f0; padding: .8rem 1rem }
.refused { border-color: #b3372f; background: #fbeeed }
table { border-collapse: collapse; font-size: .88rem; width: 100% } .wide { overflow-x: auto }
th, td { padding: .3rem .55rem; text-align: right; border-bottom: 1px solid #dde3ea; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
svg { width: 100%; height: auto; max-width: 46rem; font: 12px system-ui, sans-serif }
.axis { stroke: #8793a0; fill: none } .mark { fill: #2f6fb2 } .bad { fill: #b3372f }
text { fill: #3c4856; paint-order: stroke; stroke: #fff; stroke-width: 4px }
"""

COLUMNS = (
    *("variant", "INT8 layers", "MB", "ms", "cosine mean", "least", "fused"),
    *("top-1 (95 %)", "agreement", "rank", "ECE", "drop", "holds"),
)

BINS = 30
SHOWN_LAYERS = 20


def page(report: Report) -> str:
    """Return the page."""
    refused = "" if report.chosen else " refused"
    method = report.method + ("" if report.percentile is None else f" {report.percentile:g}")
    facts = (
        f"Calibrated with {report.calibration_recordings} recordings ({report.calibration_clips} clips, {method}), "
        f"judged by {report.test_recordings} others ({report.test_clips} clips) by {report.judged_by}. At most "
        f"{report.max_drop:g} points may be lost, and the mean cosine must be {report.min_cosine:g} or more. "
        f"Measured on {report.machine}. Weights: {report.weights}."
    )
    parts = [
        f"<h1>INT8 of {escape(report.model)} for {report.target}</h1>",
        f'<p class="verdict{refused}">{escape(report.verdict)}</p>',
        f"<p>{escape(facts)}</p>",
        "<h2>Variants</h2>",
        _variants(report.candidates),
        "<h2>Accuracy against latency</h2>",
        _latency_plot(report),
        "<h2>Cosine with fp32, clip by clip</h2>",
        _cosine_plot(report.cosines),
        "<h2>Sensitivity: one minus cosine with INT8 in this layer alone</h2>",
        _sensitivity_plot(report),
        "<h2>Clips that changed most</h2>",
        _changes(report),
    ]
    if foldings := folding_lines(report.candidates):
        parts += ["<h2>Outliers folded into weights</h2>", _list(foldings)]
    searched = [each for each in report.candidates if each.steps]
    for each in searched:
        parts += [f"<h2>Layers put back to float: {each.name}</h2>", _search(each)]
    if report.left_out:
        parts += ["<h2>Recordings that could not be used</h2>", _list(report.left_out)]
    parts.append(f"<p>{escape(', '.join(f'{name} {number}' for name, number in report.made_with.items()))}</p>")
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>INT8 of {escape(report.model)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _list(sentences: Sequence[str]) -> str:
    """Return a list of sentences."""
    return "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "</ul>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; its cells are text."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{top}</tr>{body}</table></div>'


def _variants(candidates: Sequence[Candidate]) -> str:
    """Return one row a variant."""
    rows = []
    for each in candidates:
        figures, agreed = each.evaluation, each.agreement
        rows.append(
            [
                each.name,
                str(each.int8_layers),
                f"{each.bytes / 1e6:.1f}",
                f"{each.latency_ms:.1f}",
                f"{each.cosine_mean:.5f}",
                f"{each.cosine_min:.5f}",
                printable(each.cosine_fused, ".5f"),
                "–" if figures is None else str(figures.top1),
                "–" if agreed is None else f"{agreed.top1.value:.1%}",
                "–" if agreed is None else f"{agreed.rank:.4f}",
                "–" if figures is None else f"{figures.calibration_error:.3f}",
                printable(each.drop, ".2f"),
                "yes" if each.holds else "no",
            ]
        )
    return _table(COLUMNS, rows)


def _changes(report: Report) -> str:
    """Return the clips that changed most."""
    rows = [
        [
            each.file + (" (fused)" if each.fused else ""),
            f"{each.cosine:.5f}",
            each.label or "–",
            "–" if each.before is None else f"{each.before} {printable(each.probability_before, '.1%')}",
            "–" if each.after is None else f"{each.after} {printable(each.probability_after, '.1%')}",
        ]
        for each in report.changes
    ]
    return _table(["clip", "cosine", "truth", "fp32 hears", "INT8 hears"], rows)


def _search(candidate: Candidate) -> str:
    """Return what the search tried."""
    rows = [
        [str(step.restored), f"{step.cosine:.5f}", printable(step.drop, ".2f"), "yes" if step.holds else "no"]
        for step in candidate.steps
    ]
    back = escape(", ".join(candidate.restored) or "none")
    return _table(["layers in float", "cosine", "drop", "holds"], rows) + f"<p>Put back: {back}.</p>"


def _latency_plot(report: Report) -> str:
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
        above = y - 26 - 18 * place  # names stand one above the other, since marks may lie close together
        marks.append(
            f'<path class="axis" d="M{x:.1f} {y:.1f}V{above + 4:.1f}"/>'
            f'<circle class="{"mark" if each.holds else "bad"}" cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
            f'<text x="{x:.1f}" y="{above:.1f}" text-anchor="middle">{escape(each.name)}</text>'
        )
    ticks = _x_ticks(0, slowest, ".0f") + _y_ticks(low, high, ".3f")
    return _plot("".join(marks) + ticks, "milliseconds a clip", name)


def _cosine_plot(cosines: Sequence[float]) -> str:
    """Draw the distribution of cosines."""
    low, high = min(cosines), 1.0
    low = min(low, high - 1e-6)
    counts = [0] * BINS
    for cosine in cosines:
        counts[min(BINS - 1, max(0, int((cosine - low) / (high - low) * BINS)))] += 1
    most = max(counts)
    bars = []
    for place, count in enumerate(counts):
        x, y = _x(place / BINS), _y(count / most)
        bars.append(
            f'<rect class="mark" x="{x + 1:.1f}" y="{y:.1f}" width="{(WIDTH - LEFT - RIGHT) / BINS - 2:.1f}" '
            f'height="{HEIGHT - BOTTOM - y:.1f}"/>'
        )
    return _plot("".join(bars) + _x_ticks(low, high, ".5f") + _y_ticks(0, most, "g"), "cosine with fp32", "clips")


def _sensitivity_plot(report: Report) -> str:
    """Draw the most sensitive layers as bars on a logarithmic scale; those that were put back are red."""
    layers = [each for each in report.sensitivities if each.error > 0][:SHOWN_LAYERS]
    if not layers:
        return "<p>No layer moves any clip.</p>"
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
    """Return the place of a part (0..1) of the horizontal axis."""
    return LEFT + part * (WIDTH - LEFT - RIGHT)


def _y(part: float) -> float:
    """Return the place of a part (0..1) of the vertical axis."""
    return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
