"""Embeddings to similarities, probabilities, ranks and decisions. Pure NumPy."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clapedge.arrays import Float32Array, Float64Array
from clapedge.labels import NOVELTY, EmbeddedLabels, LabelSet
from clapedge.scoring.decision import DecidedScore, Decision, Score


class Scorer:
    """Scores embeddings against one label set. Immutable, so that threads may share it.

    Attributes:
        labels: the embedded labels.
        logit_scale: what similarities are multiplied by before the softmax, the labels' temperature included.
        visible: indices of the labels that are not hidden, in the user's order; novelty is the last.
        names: their names.
    """

    def __init__(self, labels: EmbeddedLabels, logit_scale: float) -> None:
        """Join labels with the model's logit scale, see `Manifest.logit_scale`."""
        self.labels = labels
        self.logit_scale = logit_scale / labels.temperature
        every = labels.label_set.labels
        background = None if labels.examples is None else labels.examples.where(kind="background").vectors()
        self._background = background if background is not None and len(background) else None
        novel = [] if self._background is None else [at for at, label in enumerate(every) if label.name == NOVELTY]
        shown = [at for at, label in enumerate(every) if not label.hidden and at not in novel]
        self.visible = [*shown, *novel]
        self._ranked = len(shown) or len(novel)
        self._novel, self._shared = novel, [at for at in range(len(every)) if at not in novel]
        self.names = tuple(every[index].name for index in self.visible)
        self.thresholds = tuple(every[index].threshold for index in self.visible)
        self._novel_limit = [2.0 if (limit := every[at].threshold) is None else limit for at in novel]
        self._limits = np.array([np.nan if limit is None else limit for limit in self.thresholds])

    def similarities(self, embeddings: Float32Array) -> Float32Array:
        """Return the similarities (N, labels), hidden labels included, of unit embeddings (N, E).

        They are cosines; those of taught labels are moved to where cosines of words lie, see `Placement`. That of
        novelty is one less the cosine to the nearest window of the background.
        """
        found = similarities(embeddings, self.labels.embeddings)
        if self.labels.placement is not None:
            found = self.labels.placement.similarities(found)
        if self._novel and self._background is not None:
            nearest = similarities(embeddings, self._background).max(axis=1)
            found[:, self._novel] = np.minimum(1 - nearest, 1)[:, None]
        return found

    def visible_scores(self, embeddings: Float32Array) -> tuple[Float64Array, Float32Array]:
        """Return the probabilities and similarities (N, visible labels) of unit embeddings (N, E), as events need them.

        Hidden labels take their share of the probability. Of a calibrated set, a label below its threshold has none.
        Novelty shares none with labels: it is 1 where it reaches its threshold.
        """
        probability, similarity = self._scores(embeddings)
        if self.labels.rejection is None:
            return probability, similarity
        return np.where(similarity < self._limits, 0.0, probability), similarity

    def _scores(self, embeddings: Float32Array) -> tuple[Float64Array, Float32Array]:
        """Return probabilities and similarities of the visible labels, whether or not one fits."""
        similarity = self.similarities(embeddings)
        probability = np.empty(similarity.shape)
        probability[:, self._novel] = similarity[:, self._novel] >= self._novel_limit
        if self._shared:
            probability[:, self._shared] = probabilities(similarity[:, self._shared], self.logit_scale)
        return probability[:, self.visible], similarity[:, self.visible]

    def rank(self, embeddings: Float32Array) -> list[tuple[Score, ...]]:
        """Return, for each unit embedding (N, E), the labels that are not hidden, best first.

        Equal ones stay in the user's order. Novelty is no answer among labels: it is ranked where it is alone.
        """
        probability, similarity = (scores[:, : self._ranked] for scores in self._scores(embeddings))
        orders = np.argsort(-similarity, axis=-1, kind="stable").tolist()
        return [
            tuple(Score(self.names[i], chances[i], cosines[i]) for i in order)
            for order, chances, cosines in zip(orders, probability.tolist(), similarity.tolist(), strict=True)
        ]

    def decide(self, embeddings: Float32Array, decision: Decision | None = None) -> list["Decided"]:
        """Return, for each unit embedding (N, E), its ranked scores and what is decided by them."""
        decided = (decide(ranked, self.labels.label_set, decision) for ranked in self.rank(embeddings))
        return [Decided(scores, unsure, *self._fit(scores[0])) for scores, unsure in decided]

    def _fit(self, best: Score) -> tuple[float | None, bool | None]:
        """Return how well the best label fits, and whether that is too little for any; None if not calibrated."""
        if self.labels.rejection is None:
            return None, None
        limit = self.thresholds[self.names.index(best.name)]
        return best.similarity, None if limit is None else best.similarity < limit


class Decided(NamedTuple):
    """What is decided about one embedding, see `Result` for the fields."""

    labels: tuple[Score, ...]
    unsure: bool
    fit: float | None
    unknown: bool | None

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of a `Result` that this makes."""
        return self._asdict()


def similarities(embeddings: Float32Array, labels: Float32Array) -> Float32Array:
    """Return the cosines (N, labels) of unit embeddings (N, E) and (labels, E).

    Not as a matrix product, whose last bits depend on how many rows there are: a score must not.
    """
    return np.asarray(np.einsum("ne,le->nl", embeddings, labels), np.float32)


def probabilities(similarity: npt.NDArray[np.floating], logit_scale: float) -> Float64Array:
    """Return the softmax over the last axis of similarities times a logit scale."""
    logits = np.asarray(similarity, np.float64) * logit_scale
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def mean_embedding(clips: Float32Array) -> Float32Array:
    """Return the mean (E,) of the unit embeddings of clips (N, E), normalised again."""
    if len(clips) == 1:
        return np.asarray(clips[0])
    mean = clips.mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), float(np.finfo(np.float32).tiny)), np.float32)


def is_unsure(scores: tuple[Score, ...], margin: float) -> bool:
    """Return whether the two best labels are closer in probability than a margin."""
    return len(scores) > 1 and scores[0].probability - scores[1].probability < margin


def decide(
    scores: tuple[Score, ...], label_set: LabelSet, decision: Decision | None = None
) -> tuple[tuple[Score, ...], bool]:
    """Return the scores, with `multi` as `DecidedScore`, and whether the decision is unsure.

    Args:
        scores: of the labels that are not hidden, best first.
        label_set: the labels, for their thresholds.
        decision: how to decide.
    """
    decision = decision or Decision()
    if not decision.multi:
        return scores, is_unsure(scores, decision.margin)
    own = {label.name: label.threshold for label in label_set.labels}
    limits = [decision.threshold if (limit := own[score.name]) is None else limit for score in scores]
    decided = tuple(
        DecidedScore(score.name, score.probability, score.similarity, limit, score.similarity >= limit)
        for score, limit in zip(scores, limits, strict=True)
    )
    close = (abs(score.similarity - limit) < decision.margin for score, limit in zip(scores, limits, strict=True))
    return decided, any(close)
