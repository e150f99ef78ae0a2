"""Embeddings to similarities, probabilities and a decision. Pure NumPy."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clapedge.labels import LabelSet
from clapedge.mel import Float32Array

UNSURE_MARGIN = 0.1
"""Two best probabilities closer than this: the recording could be either."""


@dataclass(frozen=True)
class Score:
    """How well a label fits a recording.

    Attributes:
        name: the label.
        probability: softmax over the whole label set, hidden labels included; in 0..1.
        similarity: cosine of the two embeddings; in -1..1.
    """

    name: str
    probability: float
    similarity: float


def similarities(audio: Float32Array, labels: Float32Array) -> Float32Array:
    """Return the cosines (N, labels) of unit embeddings (N, E) and (labels, E)."""
    return np.asarray(audio @ labels.T, np.float32)


def probabilities(similarity: npt.NDArray[np.floating], logit_scale: float) -> npt.NDArray[np.float64]:
    """Return the softmax over the last axis of similarities times the model's logit scale."""
    logits = np.asarray(similarity, np.float64) * logit_scale
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def merge(embeddings: Float32Array) -> Float32Array:
    """Return the one embedding (E,) of a recording heard in several clips (N, E): their mean, normalised again."""
    mean = embeddings.mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), float(np.finfo(np.float32).tiny)), np.float32)


def rank(audio: Float32Array, labels: Float32Array, label_set: LabelSet, logit_scale: float) -> tuple[Score, ...]:
    """Score one recording: the labels that are not hidden, best first (ties in the user's order).

    Args:
        audio: (E,) unit embedding of the recording.
        labels: (labels, E) unit embeddings.
        label_set: the labels, in the same order.
        logit_scale: the model's, see `Manifest.logit_scale`.
    """
    similarity = similarities(audio[None], labels)[0]
    probability = probabilities(similarity, logit_scale)
    order = np.argsort(-similarity, kind="stable")
    return tuple(
        Score(label_set.labels[i].name, float(probability[i]), float(similarity[i]))
        for i in order
        if not label_set.labels[i].hidden
    )


def is_unsure(scores: tuple[Score, ...], margin: float = UNSURE_MARGIN) -> bool:
    """Tell whether the two best labels are too close to choose between."""
    return len(scores) > 1 and scores[0].probability - scores[1].probability < margin
