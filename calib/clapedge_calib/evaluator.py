"""A graph to the figures by which it is judged, over held-out sounds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from clapedge.arrays import Float32Array
from clapedge.errors import LabelError
from clapedge.labels import EmbeddedLabels
from clapedge.scoring.similarity import probabilities, similarities
from clapedge_calib.calibration_data import Sound
from clapedge_calib.evaluation import Agreement, Evaluation, agreement, evaluate, truth_of
from clapedge_calib.graph_runner import Running
from clapedge_calib.metrics import FloatArray, IntArray, cosines
from clapedge_calib.progress import Progress
from clapedge_calib.report import Candidate, Change

MOST_CHANGED = 10


@dataclass(frozen=True, eq=False)
class Figures:
    """What one graph came to: fields of `Candidate`, and the cosine of each sound."""

    embeddings: Float32Array
    cosines: FloatArray
    cosine_fused: float | None
    agreement: Agreement | None
    evaluation: Evaluation | None
    drop: float | None
    holds: bool


class Judge:
    """Holds graphs against the float32 tower."""

    def __init__(
        self,
        reference: ModelProto,
        sounds: Sequence[Sound],
        labels: EmbeddedLabels | None,
        *,
        logit_scale: float,
        max_drop: float,
        min_cosine: float,
        progress: Progress,
    ) -> None:
        """Let the float32 tower embed the sounds.

        Args:
            reference: the float32 tower.
            sounds: held out from calibration.
            labels: what is scored against, or None.
            logit_scale: the model's.
            max_drop: points of top-1 that a variant may lose.
            min_cosine: mean cosine that it must keep.
            progress: takes how far it is.

        Raises:
            LabelError: a class of the sounds is no label.
        """
        self.sounds = sounds
        self.labels = labels
        self.max_drop, self.min_cosine = max_drop, min_cosine
        self._scale, self._progress = logit_scale, progress
        self._first = np.array([sound.heard_first for sound in sounds])
        self._fused = np.array([sound.is_longer for sound in sounds])
        self._truth = self._find_truth()
        self._reference = Running(reference).embed(sounds, progress=progress, step="embedding in fp32")
        self.reference = self._measure(self._reference, "fp32")

    @property
    def judged_by(self) -> str:
        """What a drop is measured in."""
        if self.labels is None:
            return "nothing but the cosine, since there are no labels"
        return "top-1 agreement with fp32" if self._truth is None else "top-1 accuracy"

    def measure(self, model: ModelProto, name: str) -> Figures:
        """Embed the sounds with a graph and hold them against float32."""
        return self._measure(Running(model).embed(self.sounds, progress=self._progress, step=f"judging {name}"), name)

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
        """Return the sounds that a graph moved most."""
        order = np.argsort(figures.cosines, kind="stable")[:MOST_CHANGED]
        scored = None
        if self.labels is not None:
            names = [label.name for label in self.labels.label_set.labels]
            scored = [self._probabilities(rows) for rows in (self._reference, figures.embeddings)]
        changes = []
        for place in order:
            sound, facts = self.sounds[place], {}
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
                    file=sound.example.name,
                    label=sound.example.label,
                    cosine=float(figures.cosines[place]),
                    fused=sound.is_longer,
                    **facts,  # type: ignore[arg-type]
                )
            )
        return tuple(changes)

    def _measure(self, rows: Float32Array, name: str) -> Figures:
        """Hold embeddings against float32's."""
        cosine = cosines(rows, self._reference)
        fused = float(cosine[self._fused].mean()) if self._fused.any() else None
        first, reference = rows[self._first], self._reference[self._first]
        agreed = evaluation = drop = None
        if self.labels is not None:
            agreed = agreement(first, "fp32", reference, self.labels, logit_scale=self._scale)
            drop = 100 * (1 - agreed.top1.value)
        if self.labels is not None and self._truth is not None:
            evaluation = evaluate(name, first, self._truth, self.labels, logit_scale=self._scale)
            before = evaluation if name == "fp32" else self.reference.evaluation
            drop = 100 * (before.top1.value - evaluation.top1.value) if before else None
        # half a ten-thousandth of a point is rounding, not loss
        holds = bool(cosine.mean() >= self.min_cosine) and (drop is None or drop <= self.max_drop + 5e-5)
        return Figures(rows, cosine, fused, agreed, evaluation, drop, holds)

    def _probabilities(self, rows: Float32Array) -> FloatArray:
        """Return the probabilities (N, labels) of embeddings."""
        if self.labels is None:
            raise LabelError("there are no labels to score against; name a label set")
        return probabilities(similarities(rows, self.labels.embeddings), self._scale / self.labels.temperature)

    def _find_truth(self) -> IntArray | None:
        """Return the true label of each recording, or None where a recording has no class."""
        classes = [sound.example.label for sound in self.sounds if sound.heard_first]
        named = [name for name in classes if name is not None]
        return truth_of(named, self.labels) if self.labels is not None and len(named) == len(classes) else None
