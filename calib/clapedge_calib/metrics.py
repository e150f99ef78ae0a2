"""Figures of a classifier, from similarities and the truth."""

import math
from typing import TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.metrics import average_precision_score, confusion_matrix

from clapedge.arrays import Float32Array

IntArray: TypeAlias = npt.NDArray[np.int64]
FloatArray: TypeAlias = npt.NDArray[np.float64]

ECE_BINS = 15
"""Bins of the expected calibration error, as Guo et al. 2017 (On Calibration of Modern Neural Networks) use."""


class Share(msgspec.Struct, frozen=True):
    """A share of clips with its 95 % confidence interval (Wilson), in 0..1."""

    value: float
    low: float
    high: float
    of: int

    def __str__(self) -> str:
        """Return it in percent."""
        return f"{self.value:.1%} ({self.low:.1%} to {self.high:.1%})"


def share(hits: int, of: int) -> Share:
    """Return a share with its Wilson score interval, which stays within 0..1 and holds for few clips too."""
    if of == 0:
        return Share(math.nan, 0.0, 1.0, 0)
    interval = stats.binomtest(hits, of).proportion_ci(0.95, method="wilson")
    return Share(hits / of, float(interval.low), float(interval.high), of)


def ranks(similarity: Float32Array, truth: IntArray) -> IntArray:
    """Return the rank of the true label of each clip, 0 being the best; equal similarities keep the labels' order.

    Args:
        similarity: (N, labels).
        truth: (N,) index of the true label.
    """
    return _places(similarity)[np.arange(len(truth)), truth]


def average_precision(score: FloatArray, relevant: npt.NDArray[np.bool_]) -> float:
    """Return the area under precision over recall: the mean precision at the rank of each relevant clip.

    Clips of equal score count together, so that the order of files changes nothing.

    Args:
        score: (N,) of one label.
        relevant: (N,) whether the clip is of that label; NaN is returned where none is.
    """
    return float(average_precision_score(relevant, score)) if relevant.any() else math.nan


def confusion(truth: IntArray, predicted: IntArray, labels: int) -> IntArray:
    """Count (labels, labels): how often the column's label was predicted for a clip of the row's."""
    counts = confusion_matrix(truth, predicted, labels=range(labels + 1))  # it warns of a single label
    return np.asarray(counts[:labels, :labels], np.int64)


def calibration_error(probability: FloatArray, truth: IntArray) -> float:
    """Return the expected calibration error: the gap between confidence and accuracy, in 0..1.

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
    labels = similarity.shape[1]
    distance = ((_places(similarity) - _places(reference)).astype(np.float64) ** 2).sum(axis=1)
    return float(np.mean(1 - 6 * distance / (labels * (labels**2 - 1))))


def _places(similarity: Float32Array) -> IntArray:
    """Return the rank of every label (N, labels) for each clip, 0 being the best."""
    return np.asarray(stats.rankdata(-similarity, method="ordinal", axis=1) - 1, np.int64)
