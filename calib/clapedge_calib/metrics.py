"""Figures of a classifier, from similarities and the truth. Pure NumPy."""

import math
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from clapedge.arrays import Float32Array

IntArray: TypeAlias = npt.NDArray[np.int64]
FloatArray: TypeAlias = npt.NDArray[np.float64]

Z95 = 1.959964
"""Quantile of the normal distribution that leaves 5 % outside on both sides together."""

ECE_BINS = 15
"""Bins of the expected calibration error, as Guo et al. 2017 (On Calibration of Modern Neural Networks) use."""


class Share(msgspec.Struct, frozen=True):
    """A share of clips with its 95 % confidence interval (Wilson), in 0..1."""

    value: float
    low: float
    high: float
    of: int

    def __str__(self) -> str:
        """Return it as people read it."""
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%})"


def share(hits: int, of: int) -> Share:
    """Return a share with its Wilson score interval, which stays within 0..1 and holds for few clips too."""
    if of == 0:
        return Share(math.nan, 0.0, 1.0, 0)
    rate, spread = hits / of, Z95**2 / of
    centre = (rate + spread / 2) / (1 + spread)
    half = math.sqrt(rate * (1 - rate) * spread + spread**2 / 4) / (1 + spread)
    return Share(rate, max(0.0, centre - half), min(1.0, centre + half), of)


def ranks(similarity: Float32Array, truth: IntArray) -> IntArray:
    """Return at which place the true label stands for each clip, 0 being the best.

    Args:
        similarity: (N, labels).
        truth: (N,) index of the true label.
    """
    order = np.argsort(-similarity, axis=1, kind="stable")
    return np.asarray(np.argmax(order == truth[:, None], axis=1), np.int64)


def average_precision(score: FloatArray, relevant: npt.NDArray[np.bool_]) -> float:
    """Return the area under precision over recall: the mean precision at the place of each relevant clip.

    Clips of equal score count together, so that the order of files changes nothing.

    Args:
        score: (N,) of one label.
        relevant: (N,) whether the clip is of that label; NaN is returned where none is.
    """
    if not relevant.any():
        return math.nan
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    hits = np.cumsum(relevant[order])[ends]
    precision = hits / (ends + 1)
    return float((np.diff(hits, prepend=0) * precision).sum() / relevant.sum())


def confusion(truth: IntArray, heard: IntArray, labels: int) -> IntArray:
    """Count (labels, labels): how often a clip of the row's label was heard as the column's."""
    counts = np.bincount(truth * labels + heard, minlength=labels * labels)
    return np.asarray(counts.reshape(labels, labels), np.int64)


def calibration_error(probability: FloatArray, truth: IntArray) -> float:
    """Return the expected calibration error: how far confidence and accuracy lie apart, in 0..1.

    Args:
        probability: (N, labels).
        truth: (N,) index of the true label.
    """
    confidence, right = probability.max(axis=1), probability.argmax(axis=1) == truth
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = np.bincount(bins, weights=confidence - right, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / len(truth))


def cosines(rows: Float32Array, reference: Float32Array) -> FloatArray:
    """Return the cosine of each row (N, E) with that of the reference."""
    one, other = rows.astype(np.float64), reference.astype(np.float64)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(axis=1) / np.maximum(norms, np.finfo(np.float64).tiny))


def rank_agreement(similarity: Float32Array, reference: Float32Array) -> float:
    """Return the mean Spearman correlation of the labels' order with that of the reference, (N, labels) each."""
    if similarity.shape[1] < 2:  # noqa: PLR2004 - one label has one order
        return 1.0
    places = [np.argsort(np.argsort(-each, axis=1, kind="stable"), axis=1) for each in (similarity, reference)]
    labels = similarity.shape[1]
    distance = ((places[0] - places[1]).astype(np.float64) ** 2).sum(axis=1)
    return float(np.mean(1 - 6 * distance / (labels * (labels**2 - 1))))
