"""Embeddings to similarities, probabilities and a decision. Pure NumPy."""

import numpy as np
import numpy.typing as npt

from clapedge.arrays import Float32Array
from clapedge.labels import LabelSet
from clapedge.scoring.decision import UNSURE_MARGIN, DecidedScore, Decision, Score


def similarities(audio: Float32Array, labels: Float32Array) -> Float32Array:
    """Return the cosines (N, labels) of unit embeddings (N, E) and (labels, E).

    Not as a matrix product, whose last bits depend on how many rows there are: a score must not.
    """
    return np.asarray(np.einsum("ne,le->nl", audio, labels), np.float32)


def probabilities(similarity: npt.NDArray[np.floating], logit_scale: float) -> npt.NDArray[np.float64]:
    """Return the softmax over the last axis of similarities times the model's logit scale."""
    logits = np.asarray(similarity, np.float64) * logit_scale
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def merge(embeddings: Float32Array) -> Float32Array:
    """Return the one embedding (E,) of a recording heard in several clips (N, E): their mean, normalised again."""
    if len(embeddings) == 1:
        return np.asarray(embeddings[0])
    mean = embeddings.mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), float(np.finfo(np.float32).tiny)), np.float32)


def rank(audio: Float32Array, labels: Float32Array, label_set: LabelSet, logit_scale: float) -> tuple[Score, ...]:
    """Score one recording by its embedding (E,), see `rank_many`."""
    return rank_many(audio[None], labels, label_set, logit_scale)[0]


def rank_many(
    audio: Float32Array, labels: Float32Array, label_set: LabelSet, logit_scale: float
) -> list[tuple[Score, ...]]:
    """Score recordings: of each the labels that are not hidden, best first (ties in the user's order).

    Args:
        audio: (N, E) unit embeddings of the recordings.
        labels: (labels, E) unit embeddings.
        label_set: the labels, in the same order.
        logit_scale: the model's, see `Manifest.logit_scale`.
    """
    similarity = similarities(audio, labels)
    probability = probabilities(similarity, logit_scale).tolist()
    orders = np.argsort(-similarity, axis=-1, kind="stable").tolist()
    shown = [not label.hidden for label in label_set.labels]
    names = [label.name for label in label_set.labels]
    return [
        tuple(Score(names[i], chances[i], cosines[i]) for i in order if shown[i])
        for order, chances, cosines in zip(orders, probability, similarity.tolist(), strict=True)
    ]


def is_unsure(scores: tuple[Score, ...], margin: float = UNSURE_MARGIN) -> bool:
    """Tell whether the two best labels are too close to choose between."""
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
