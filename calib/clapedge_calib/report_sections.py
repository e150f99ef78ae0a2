"""The sections of a report, for its Markdown and its HTML."""

from collections.abc import Sequence
from dataclasses import dataclass

from clapedge_calib.report import Candidate, Report

SHOWN_LAYERS = 20
"""Layers whose sensitivity is shown, the most sensitive first."""

VARIANT_COLUMNS = (
    *("variant", "INT8 layers", "MB", "ms", "cosine, mean", "least", "fused"),
    *("top-1 (95 %)", "agreement", "rank", "ECE", "drop, points", "holds"),
)


@dataclass(frozen=True)
class Section:
    """A title above a table, a list, or both.

    Attributes:
        title: of the section.
        columns: names of the columns, where there is a table.
        rows: its cells.
        items: of the list.
    """

    title: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    items: Sequence[str] = ()


def title(report: Report) -> str:
    """Return the title of a report."""
    return f"INT8 of {report.model} for {report.target}"


def facts(report: Report) -> list[str]:
    """Return how the towers were made and evaluated, in sentences."""
    method = report.method + ("" if report.percentile is None else f" {report.percentile:g}")
    return [
        f"Calibrated with {report.calibration_recordings} recordings ({report.calibration_clips} clips): {method}.",
        f"Evaluated with {report.test_recordings} others ({report.test_clips} clips): {report.judged_by}.",
        f"Required: at most {report.max_drop:g} points lost, mean cosine at least {report.min_cosine:g}.",
        f"Measured on {report.machine}; seed {report.seed}; weights: {report.weights}.",
        f"Made with {', '.join(f'{name} {number}' for name, number in report.made_with.items())}.",
    ]


def sections(report: Report) -> list[Section]:
    """Return the sections: the variants first, then the sensitivity of the layers, then what else there is."""
    smoothings = [f"{each.name}: {each.smoothing}." for each in report.candidates if each.smoothing is not None]
    shown = report.sensitivities[:SHOWN_LAYERS]
    return [
        Section("Variants", VARIANT_COLUMNS, [_variant_row(each) for each in report.candidates]),
        Section(
            "Sensitivity: INT8 in one layer alone",
            ["layer", "1 − cosine"],
            [[each.layer, f"{each.error:.2e}"] for each in shown],
        ),
        _changes(report),
        *([Section("Outliers moved into weights (SmoothQuant)", items=smoothings)] if smoothings else []),
        *(_search(each) for each in report.candidates if each.steps),
        *([Section("Recordings that could not be used", items=report.left_out)] if report.left_out else []),
    ]


def _variant_row(candidate: Candidate) -> list[str]:
    """Return the cells of `VARIANT_COLUMNS`."""
    figures, agreed = candidate.evaluation, candidate.agreement
    agreement = ["–", "–"] if agreed is None else [f"{agreed.top1.value:.1%}", f"{agreed.rank:.4f}"]
    return [
        candidate.name,
        str(candidate.int8_layers),
        f"{candidate.bytes / 1e6:.1f}",
        f"{candidate.latency_ms:.1f}",
        f"{candidate.cosine_mean:.5f}",
        f"{candidate.cosine_min:.5f}",
        _cell(candidate.cosine_fused, ".5f"),
        "–" if figures is None else str(figures.top1),
        *agreement,
        "–" if figures is None else f"{figures.calibration_error:.3f}",
        _cell(candidate.drop, ".2f"),
        "yes" if candidate.holds else "no",
    ]


def _changes(report: Report) -> Section:
    """Return the clips that changed most."""
    rows = []
    for each in report.changes:
        before, after = (
            "–" if name is None else f"{name} {_cell(probability, '.1%')}"
            for name, probability in ((each.before, each.probability_before), (each.after, each.probability_after))
        )
        clip = each.file + (" (fused)" if each.fused else "")
        rows.append([clip, f"{each.cosine:.5f}", each.label or "–", before, after])
    return Section("Clips that changed most", ["clip", "cosine", "class", "best in fp32", "best in INT8"], rows)


def _search(candidate: Candidate) -> Section:
    """Return what the search for one variant tried."""
    return Section(
        f"Layers put back to float: {candidate.name}",
        ["layers in float", "cosine, mean", "drop, points", "holds"],
        [
            [str(step.restored), f"{step.cosine:.5f}", _cell(step.drop, ".2f"), "yes" if step.holds else "no"]
            for step in candidate.steps
        ],
        [f"Put back: {', '.join(candidate.restored) or 'none'}."],
    )


def _cell(value: float | None, form: str) -> str:
    """Return a figure, or a dash for none."""
    return "–" if value is None else format(value, form)
