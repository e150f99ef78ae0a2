"""The report of a calibration as data: `report.json` is this, and Markdown and HTML are made from it."""

import platform
from importlib.metadata import version

import msgspec

from clapedge.model.cpu import usable_cores
from clapedge_calib.evaluation import Agreement, Evaluation


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the search: how many layers were left in float, and what that gave."""

    restored: int
    cosine: float
    drop: float | None
    holds: bool


class Smoothing(msgspec.Struct, frozen=True, kw_only=True):
    """Whether outliers were moved into the weights behind a LayerNorm, as SmoothQuant does, and why.

    Attributes:
        alpha: SmoothQuant's migration strength; None if smoothing does not pay.
        best: the alpha that costs least of those that were tried.
        error: one minus the mean cosine with that, over clips to calibrate with.
        plain: the same without smoothing.
    """

    alpha: float | None
    best: float
    error: float
    plain: float

    def __str__(self) -> str:
        """Return the finding in words."""
        found = f"alpha {self.best:g} brings the error from {self.plain:.1e} to {self.error:.1e}"
        return f"{found}: smoothed" if self.alpha is not None else f"{found}, which does not pay: not smoothed"


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One variant that was measured.

    Attributes:
        name: `fp32`, `static int8` or `dynamic int8`.
        int8_layers: how many products are INT8.
        restored: layers that were put back to float, the most sensitive first.
        bytes: size of its file.
        latency_ms: median of one clip on this machine, on all cores.
        cosine_mean: of the embeddings of held-out clips with those of fp32, fused ones included.
        cosine_min: the least of them.
        cosine_fused: mean over the fused clips; None for a model without fusion.
        agreement: of the scores, where there are labels.
        evaluation: accuracy, where the recordings have classes.
        drop: points of top-1 that it loses: of accuracy where that is known, else of agreement; None without labels.
        holds: whether it is within the limits.
        steps: what the search tried.
        smoothing: of outliers, where it was tried.
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
    smoothing: Smoothing | None = msgspec.field(default=None, name="folding")


class Sensitivity(msgspec.Struct, frozen=True, kw_only=True):
    """The error of INT8 in one layer alone: one minus the mean cosine."""

    layer: str
    error: float


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A clip and how INT8 changed it: the best label and its probability before and after, where there are labels."""

    file: str
    label: str | None
    cosine: float
    fused: bool
    before: str | None = None
    after: str | None = None
    probability_before: float | None = None
    probability_after: float | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The whole report.

    Attributes:
        verdict: one sentence.
        chosen: name of the fastest candidate that holds, or None.
        judged_by: what `drop` is measured in.
        cosines: of every held-out clip, by the best INT8 candidate.
        changes: the clips that this candidate changed most.
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
    """Return a line that describes this machine."""
    return f"{platform.system()} {platform.machine()}, {usable_cores()} cores"


def made_with() -> dict[str, str]:
    """Return the versions of the packages that shape the result."""
    return {name: version(name) for name in ("clapedge", "onnx", "onnxruntime", "numpy")}
