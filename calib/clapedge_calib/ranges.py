"""The range of values that eight bits cover: from the histogram of an activation to its range."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from clapedge.errors import UsageError

FloatArray: TypeAlias = npt.NDArray[np.float64]
Method = Literal["minmax", "entropy", "percentile", "mse"]
Cost: TypeAlias = Callable[["Histogram", float, float], float]

LEVELS = 256
"""Values that eight bits distinguish."""

BINS = 2048
"""Bins of a histogram: eight to a level of the widest range, so that narrower ones differ."""

STEPS = 40
"""Ranges that are tried for each end of a histogram, from all of it down to nothing."""


@dataclass(frozen=True)
class Range:
    """The values from `low` to `high`, zero included: padding and Relu give exactly zero."""

    low: float
    high: float

    def symmetric(self) -> "Range":
        """Return the range around zero that covers this one."""
        widest = max(-self.low, self.high)
        return Range(-widest, widest)


@dataclass(frozen=True, eq=False)
class Histogram:
    """How often values occur: `counts` (BINS,) in equal bins from `low` to `high`."""

    low: float
    high: float
    counts: FloatArray

    @property
    def centres(self) -> FloatArray:
        """The middle of each bin."""
        width = (self.high - self.low) / len(self.counts)
        return np.asarray(self.low + width * (np.arange(len(self.counts)) + 0.5))


def choose(histogram: Histogram, method: Method, *, percentile: float = 99.99, symmetric: bool = False) -> Range:
    """Choose the range of a tensor.

    Args:
        histogram: of its values.
        method: `minmax` covers every value; `percentile` leaves out the same share at both ends; `mse` and `entropy`
            minimize the squared error or the loss of information (Kullback-Leibler divergence).
        percentile: share of values that `percentile` covers, in percent.
        symmetric: whether the range must be symmetric around zero, as TensorRT's is.
    """
    if method == "minmax":
        found = Range(min(histogram.low, 0.0), max(histogram.high, 0.0))
    elif method == "percentile":
        found = _percentile(histogram, percentile)
    else:
        found = _search(histogram, _squared_error if method == "mse" else _divergence, symmetric=symmetric)
    return found.symmetric() if symmetric else found


def check_percentile(percentile: float) -> None:
    """Raise if a percentile covers nothing, or more than everything."""
    if not 50 < percentile <= 100:  # noqa: PLR2004 - half and all
        raise UsageError(f"percentile is {percentile:g}; give more than 50 and at most 100, such as 99.99")


def _percentile(histogram: Histogram, percentile: float) -> Range:
    """Leave out the same share of values at both ends."""
    share = np.cumsum(histogram.counts) / histogram.counts.sum()
    cut = (100 - percentile) / 200
    width = (histogram.high - histogram.low) / len(histogram.counts)
    low = histogram.low + width * int(np.searchsorted(share, cut, side="right"))
    high = histogram.low + width * (int(np.searchsorted(share, 1 - cut)) + 1)
    return Range(min(low, 0.0), max(min(high, histogram.high), 0.0))


def _search(histogram: Histogram, cost: Cost, *, symmetric: bool) -> Range:
    """Shrink one end after the other (both at once around zero) as long as that costs less."""
    whole = Range(min(histogram.low, 0.0), max(histogram.high, 0.0))
    factors = np.linspace(1.0, 0.0, STEPS, endpoint=False)
    if symmetric:
        widest = whole.symmetric().high
        best = min(factors, key=lambda factor: cost(histogram, -widest * factor, widest * factor))
        return Range(-widest * best, widest * best)
    low, high = whole.low, whole.high
    high = min((whole.high * factor for factor in factors), key=lambda value: cost(histogram, low, value))
    low = min((whole.low * factor for factor in factors), key=lambda value: cost(histogram, value, high))
    return Range(float(low), float(high))


def _levels(histogram: Histogram, low: float, high: float) -> npt.NDArray[np.int64]:
    """Return the level of each bin; bins beyond the range take its ends."""
    step = max((high - low) / (LEVELS - 1), np.finfo(np.float32).tiny)
    return np.asarray(np.clip(np.rint((histogram.centres - low) / step), 0, LEVELS - 1), np.int64)


def _squared_error(histogram: Histogram, low: float, high: float) -> float:
    """Return the mean squared error of rounding and clipping to a range."""
    step = (high - low) / (LEVELS - 1)
    error = low + step * _levels(histogram, low, high) - histogram.centres
    width = (histogram.high - histogram.low) / len(histogram.counts)
    # values spread within a bin: rounding adds the variance of a level, or that of the bin if it is narrower
    rounding = min(step, width) ** 2 / 12
    return float((histogram.counts * (error**2 + rounding)).sum() / histogram.counts.sum())


def _divergence(histogram: Histogram, low: float, high: float) -> float:
    """Return the Kullback-Leibler divergence of the clipped histogram from its quantized form."""
    inside = (histogram.centres >= low) & (histogram.centres <= high)
    if not inside.any():
        return np.inf
    places = np.flatnonzero(inside)
    kept = histogram.counts[places].copy()
    kept[0] += histogram.counts[: places[0]].sum()
    kept[-1] += histogram.counts[places[-1] + 1 :].sum()
    level = _levels(histogram, low, high)[places]
    # the values of a level spread evenly over those of its bins that hold any, as in TensorRT's calibration
    filled = histogram.counts[places] > 0
    totals = np.bincount(level, weights=histogram.counts[places], minlength=LEVELS)
    bins = np.bincount(level, weights=filled, minlength=LEVELS)
    left = np.where(filled, totals[level] / np.maximum(bins[level], 1), 0.0)
    whole = left.sum()
    if whole == 0:
        return np.inf
    before, after = kept / kept.sum(), left / whole
    counted = before > 0
    smallest = 1e-9  # of an edge bin that only clipped values fill
    return float((before[counted] * np.log(before[counted] / np.maximum(after[counted], smallest))).sum())
