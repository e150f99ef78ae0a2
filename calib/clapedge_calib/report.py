"""What a calibration found, as data; `report.json` is this, and the other forms are drawn from it."""

import platform
from collections.abc import Sequence
from importlib.metadata import version

import msgspec

from clapedge.model.cpu import usable_cores
from clapedge_calib.evaluation import Agreement, Evaluation


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One try of the search: how many layers were left in float, and what that gave."""

    restored: int
    cosine: float
    drop: float | None
    holds: bool


class Folding(msgspec.Struct, frozen=True, kw_only=True):
    """Whether outliers were moved into the weights that stand behind a LayerNorm, and why.

    Attributes:
        alpha: how much of them, as SmoothQuant counts it; None if that does not pay.
        best: the alpha that costs least of those that were tried.
        error: one minus the mean cosine with that, over clips to calibrate with.
        plain: the same without folding.
    """

    alpha: float | None
    best: float
    error: float
    plain: float

    def __str__(self) -> str:
        """Return it as people read it."""
        found = f"alpha {self.best:g} brings the error from {self.plain:.1e} to {self.error:.1e}"
        return f"{found}: folded" if self.alpha is not None else f"{found}, which does not pay: not folded"


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One variant that was measured.

    Attributes:
        name: `fp32`, `static int8` or `dynamic int8`.
        int8_layers: how many products are INT8.
        restored: layers that were put back to float, the most sensitive first.
        bytes: size of its file.
        latency_ms: median of one clip on this machine, all cores.
        cosine_mean: of the embeddings of held-out clips with those of fp32, fused ones included.
        cosine_min: the least.
        cosine_fused: mean over the fused ones; None for a model without fusion.
        agreement: of the scores, where there are labels.
        evaluation: accuracy, where the recordings have classes.
        drop: points of top-1 that it loses: of accuracy where that is known, else of agreement; None without labels.
        holds: whether it keeps what was asked for.
        steps: what the search tried.
        folding: of outliers into weights, where it was tried.
    """

    name: str
    int8_layers: int
    restored: tuple[str, ...] = ()
    bytes: int
    latency_ms: float
    cosine_mean: float
    cosine_min: float
    cosine_fused: float | None
    agreement: Agreement | None = None
    evaluation: Evaluation | None = None
    drop: float | None = None
    holds: bool = True
    steps: tuple[Step, ...] = ()
    folding: Folding | None = None


class Sensitivity(msgspec.Struct, frozen=True, kw_only=True):
    """What INT8 in one layer alone costs: one minus the mean cosine."""

    layer: str
    error: float


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A clip, and how far INT8 moved it; labels and probabilities are of the best label, where there are any."""

    file: str
    label: str | None
    cosine: float
    fused: bool
    before: str | None = None
    after: str | None = None
    probability_before: float | None = None
    probability_after: float | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All of it.

    Attributes:
        verdict: one sentence.
        chosen: name of the candidate that holds and is the fastest, or None.
        judged_by: what `drop` means here.
        cosines: of every held-out clip, of the best INT8 candidate.
        changes: the clips that changed most, of the same.
    """

    model: str
    weights: str
    target: str
    method: str
    percentile: float | None
    seed: int
    max_drop: float
    min_cosine: float
    verdict: str
    chosen: str | None
    judged_by: str
    calibration_recordings: int
    calibration_clips: int
    test_recordings: int
    test_clips: int
    left_out: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    sensitivities: tuple[Sensitivity, ...]
    cosines: tuple[float, ...]
    changes: tuple[Change, ...]
    machine: str
    made_with: dict[str, str]


def machine() -> str:
    """Describe this machine in a line."""
    return f"{platform.system()} {platform.machine()}, {usable_cores()} cores"


def made_with() -> dict[str, str]:
    """Return the versions that matter."""
    return {name: version(name) for name in ("clapedge", "onnx", "onnxruntime", "numpy")}


def markdown(report: Report) -> str:
    """Write the report for people who read text."""
    method = report.method + ("" if report.percentile is None else f" {report.percentile:g}")
    lines = [
        f"# INT8 of {report.model} for {report.target}",
        "",
        report.verdict,
        "",
        f"- Calibrated with {report.calibration_recordings} recordings ({report.calibration_clips} clips): {method}",
        f"- Judged by {report.test_recordings} others ({report.test_clips} clips): {report.judged_by}",
        f"- Asked for: at most {report.max_drop:g} points lost, mean cosine at least {report.min_cosine:g}",
        f"- Measured on {report.machine}; seed {report.seed}",
        "",
        *_candidate_table(report.candidates),
        "",
        "## Sensitivity: INT8 in one layer alone",
        "",
        "| layer | 1 − cosine |",
        "|---|---:|",
        *(f"| {each.layer} | {each.error:.2e} |" for each in report.sensitivities[:15]),
        "",
    ]
    if foldings := folding_lines(report.candidates):
        lines += ["## Outliers folded into weights", "", *(f"- {line}" for line in foldings), ""]
    for candidate in report.candidates:
        if candidate.steps:
            lines += _search_table(candidate)
    lines += _change_table(report.changes)
    if report.left_out:
        lines += ["## Recordings that could not be used", "", *(f"- {sentence}" for sentence in report.left_out), ""]
    lines.append("Made with " + ", ".join(f"{name} {number}" for name, number in report.made_with.items()) + ".")
    return "\n".join(lines) + "\n"


def folding_lines(candidates: Sequence[Candidate]) -> list[str]:
    """Say of each variant for which folding was tried what came of it."""
    return [f"{each.name}: {each.folding}." for each in candidates if each.folding is not None]


def printable(value: float | None, form: str = ".4f") -> str:
    """Return a figure, or a dash for none."""
    return "–" if value is None else format(value, form)


def _candidate_table(candidates: Sequence[Candidate]) -> list[str]:
    """Return one row a variant."""
    columns = (
        "variant",
        "INT8 layers",
        "size, MB",
        "latency, ms",
        "cosine, mean",
        "least",
        "fused",
        "top-1",
        "top-1 agreement",
        "rank agreement",
        "ECE",
        "drop, points",
        "holds",
    )
    rows = [
        f"| {' | '.join(columns)} |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for each in candidates:
        top1 = None if each.evaluation is None else each.evaluation.top1.value
        error = None if each.evaluation is None else each.evaluation.calibration_error
        agreed = None if each.agreement is None else each.agreement.top1.value
        rank = None if each.agreement is None else each.agreement.rank
        rows.append(
            f"| {each.name} | {each.int8_layers} | {each.bytes / 1e6:.1f} | {each.latency_ms:.1f} "
            f"| {each.cosine_mean:.5f} | {each.cosine_min:.5f} | {printable(each.cosine_fused, '.5f')} "
            f"| {printable(top1, '.1%')} | {printable(agreed, '.1%')} "
            f"| {printable(rank)} | {printable(error, '.3f')} | {printable(each.drop, '.2f')} "
            f"| {'yes' if each.holds else 'no'} |"
        )
    return rows


def _search_table(candidate: Candidate) -> list[str]:
    """Return what the search for one variant tried."""
    return [
        f"## Layers put back to float: {candidate.name}",
        "",
        "| layers in float | cosine, mean | drop, points | holds |",
        "|---:|---:|---:|---|",
        *(
            f"| {step.restored} | {step.cosine:.5f} | {printable(step.drop, '.2f')} | {'yes' if step.holds else 'no'} |"
            for step in candidate.steps
        ),
        "",
        f"Put back: {', '.join(candidate.restored) or 'none'}.",
        "",
    ]


def _change_table(changes: Sequence[Change]) -> list[str]:
    """Return the clips that changed most."""
    rows = ["## Clips that changed most", "", "| clip | cosine | fp32 hears | INT8 hears |", "|---|---:|---|---|"]
    for each in changes:
        before, after = (
            "–" if name is None else f"{name} {share:.1%}"
            for name, share in ((each.before, each.probability_before), (each.after, each.probability_after))
        )
        rows.append(f"| {each.file}{' (fused)' if each.fused else ''} | {each.cosine:.5f} | {before} | {after} |")
    return [*rows, ""]
