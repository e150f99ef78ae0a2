"""Whether a tower distinguishes its inputs: embeddings of different inputs that nearly coincide have collapsed."""

from dataclasses import dataclass

import numpy as np

from clapedge.arrays import Float32Array, Float64Array

HIGHEST_COSINE = 0.999
"""Cosine above which embeddings of different inputs are the same to any score: they are at most 0.045 apart, of which
a third embedding of 512 numbers sees 0.002 as a rule, and the probability of a label, whose logit is 14.3 times that in
a new CLAP, a percent. What an export gives its towers stayed below 0.99 in the demo model and with random weights."""

ROWS = 512
"""Most embeddings that are compared, the first ones: 512 take a few milliseconds and 1 MB of cosines."""

UNIT_TOLERANCE = 0.01
"""Largest deviation from norm 1; rounding to half precision stays below a tenth of it."""


@dataclass(frozen=True)
class Likeness:
    """How alike the embeddings of different inputs are.

    Attributes:
        valid: whether all are numbers, of unit norm.
        count: how many were compared.
        median: of the cosines of all pairs.
        highest: of these cosines.
        nearest: the two rows that have it.
    """

    valid: bool
    count: int
    median: float
    highest: float
    nearest: tuple[int, int]

    @property
    def fault(self) -> str | None:
        """What is wrong with a tower that gives such embeddings, to follow its name; None if they differ."""
        if not self.valid:
            return "gives no numbers of unit norm"
        if self.median > HIGHEST_COSINE:
            return (
                f"has collapsed: it gives nearly the same embedding for whatever it is given (median cosine "
                f"{self.median:.6f} of {self.count} different inputs, at most {HIGHEST_COSINE})"
            )
        return None


def likeness(embeddings: Float32Array) -> Likeness:
    """Compare embeddings (N, E) of different inputs, each with each; fewer than two are alike by 0."""
    rows = np.asarray(embeddings[:ROWS], np.float64)
    if not (np.abs(np.linalg.norm(rows, axis=1) - 1) <= UNIT_TOLERANCE).all():  # also false of NaN
        return Likeness(valid=False, count=len(rows), median=0.0, highest=0.0, nearest=(0, 0))
    one, other = np.triu_indices(len(rows), 1)
    if not len(one):
        return Likeness(valid=True, count=len(rows), median=0.0, highest=0.0, nearest=(0, 0))
    cosines = (rows @ rows.T)[one, other]
    best = int(cosines.argmax())
    return Likeness(
        valid=True,
        count=len(rows),
        median=_median(cosines),
        highest=float(cosines[best]),
        nearest=(int(one[best]), int(other[best])),
    )


def _median(values: Float64Array) -> float:
    """Return what `np.median` returns of numbers; that one imports `numpy.ma`, 10 ms of a program's first score."""
    middle = [(len(values) - 1) // 2, len(values) // 2]
    return float(np.partition(values, middle)[middle].mean())
