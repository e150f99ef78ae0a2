"""Graphs against the float32 tower, over clips that were held out from calibration."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from clapedge.arrays import Float32Array
from clapedge.errors import LabelError
from clapedge.labels import EmbeddedLabels
from clapedge.scoring.similarity import probabilities, similarities
from clapedge_calib.calibration_data import Clip
from clapedge_calib.evaluation import Agreement, Evaluation, agreement, evaluate, truth_of
from clapedge_calib.graph_runner import embed
from clapedge_calib.metrics import FloatArray, IntArray, cosines
from clapedge_calib.progress import Steps
from clapedge_calib.report import Candidate, Change

MOST_CHANGED = 10


@dataclass(frozen=True, eq=False)
class Figures:
    """The figures of one graph: fields of `Candidate`, and the cosine of each clip."""

    embeddings: Float32Array
    cosines: FloatArray
    cosine_fused: float | None
    agreement: Agreement | None
    evaluation: Evaluation | None
    drop: float | None
    holds: bool


class Evaluator:
    """Compares graphs with the float32 tower.

    Attributes:
        clips: held out from calibration.
        reference: the figures of the float32 tower itself.
    """

    def __init__(
        self,
        reference: Float32Array,
        clips: Sequence[Clip],
        labels: EmbeddedLabels | None,
        *,
        logit_scale: float,
        max_drop: float,
        min_cosine: float,
    ) -> None:
        """Measure the float32 tower.

        Args:
            reference: (N, E) its embeddings of the clips.
            clips: held out from calibration.
            labels: what is scored against, or None.
            logit_scale: the model's.
            max_drop: points of top-1 that a variant may lose.
            min_cosine: mean cosine that it must keep.

        Raises:
            LabelError: a class of the recordings is not a label.
        """
        self.clips = clips
        self._labels, self._scale = labels, logit_scale
        self._max_drop, self._min_cosine = max_drop, min_cosine
        self._default = np.array([clip.is_default for clip in clips])
        self._fused = np.array([clip.is_longer for clip in clips])
        self._truth = self._find_truth()
        self._reference = reference
        self.reference = self._figures(reference, "fp32")

    @property
    def criterion(self) -> str:
        """What a drop is measured in."""
        if self._labels is None:
            return "nothing but the cosine, since there are no labels"
        return "top-1 agreement with fp32" if self._truth is None else "top-1 accuracy"

    def measure(self, model: ModelProto, name: str) -> Steps[Figures]:
        """Embed the clips with a graph and compare with float32."""
        return self._figures((yield from embed(model, self.clips, f"evaluating {name}")), name)

    def candidate(self, name: str, model: ModelProto, figures: Figures, **facts: object) -> Candidate:
        """Describe a graph; `facts` are further fields of `Candidate`."""
        return Candidate(
            name=name,
            bytes=model.ByteSize(),
            cosine_mean=float(figures.cosines.mean()),
            cosine_min=float(figures.cosines.min()),
            cosine_fused=figures.cosine_fused,
            agreement=figures.agreement,
            evaluation=figures.evaluation,
            drop=figures.drop,
            holds=figures.holds,
            **facts,  # type: ignore[arg-type]
        )

    def changes(self, figures: Figures) -> tuple[Change, ...]:
        """Return the clips that a graph changed most."""
        order = np.argsort(figures.cosines, kind="stable")[:MOST_CHANGED]
        scored = None
        if self._labels is not None:
            names = [label.name for label in self._labels.label_set.labels]
            scored = [self._probabilities(rows) for rows in (self._reference, figures.embeddings)]
        changes = []
        for place in order:
            clip, facts = self.clips[place], {}
            if scored is not None:
                before, after = (int(each[place].argmax()) for each in scored)
                facts = {
                    "before": names[before],
                    "after": names[after],
                    "probability_before": float(scored[0][place, before]),
                    "probability_after": float(scored[1][place, after]),
                }
            changes.append(
                Change(
                    file=clip.example.name,
                    label=clip.example.label,
                    cosine=float(figures.cosines[place]),
                    fused=clip.is_longer,
                    **facts,  # type: ignore[arg-type]
                )
            )
        return tuple(changes)

    def _figures(self, rows: Float32Array, name: str) -> Figures:
        """Compare embeddings with float32's."""
        cosine = cosines(rows, self._reference)
        fused = float(cosine[self._fused].mean()) if self._fused.any() else None
        default, reference = rows[self._default], self._reference[self._default]
        agreed = evaluation = drop = None
        if self._labels is not None:
            agreed = agreement(default, "fp32", reference, self._labels, logit_scale=self._scale)
            drop = 100 * (1 - agreed.top1.value)
        if self._labels is not None and self._truth is not None:
            evaluation = evaluate(name, default, self._truth, self._labels, logit_scale=self._scale)
            before = evaluation if name == "fp32" else self.reference.evaluation
            drop = 100 * (before.top1.value - evaluation.top1.value) if before else None
        # half a ten-thousandth of a point is rounding, not loss
        holds = bool(cosine.mean() >= self._min_cosine) and (drop is None or drop <= self._max_drop + 5e-5)
        return Figures(rows, cosine, fused, agreed, evaluation, drop, holds)

    def _probabilities(self, rows: Float32Array) -> FloatArray:
        """Return the probabilities (N, labels) of embeddings."""
        if self._labels is None:
            raise LabelError("there are no labels to score against; name a label set")
        return probabilities(similarities(rows, self._labels.embeddings), self._scale / self._labels.temperature)

    def _find_truth(self) -> IntArray | None:
        """Return the true label of each recording, or None where a recording has no class."""
        classes = [clip.example.label for clip in self.clips if clip.is_default]
        named = [name for name in classes if name is not None]
        return truth_of(named, self._labels) if self._labels is not None and len(named) == len(classes) else None
