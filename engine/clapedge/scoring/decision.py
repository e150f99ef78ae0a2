"""How well labels fit, and how that becomes an answer: the types alone, so that who shows results needs no NumPy."""

import math
from dataclasses import dataclass

from clapedge.errors import UsageError

UNSURE_MARGIN = 0.1
"""Two best probabilities closer than this: the recording could be either."""

UNSURE_SIMILARITY = 0.02
"""A similarity closer than this to its threshold could be on either side: padding alone moves it as much."""

THRESHOLD = 0.3
"""Similarity from which a label without a threshold of its own counts as present: where published CLAP models put
recordings and their own captions. Every model and label has its own place, so it is a beginning, not a result."""


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


@dataclass(frozen=True)
class DecidedScore(Score):
    """A score of a label that is decided apart from the others.

    Attributes:
        threshold: similarity from which it counts as present.
        present: whether it does.
    """

    threshold: float
    present: bool


@dataclass(frozen=True)
class Decision:
    """How scores become an answer.

    Attributes:
        multi: whether labels are decided apart, each by its own similarity, so that several or none may be present;
            else they share the probability, and the best one is the answer.
        unsure_margin: how close a decision is unsure: the probability between the two best labels (None means 0.1)
            or, with `multi`, the similarity between a label and its threshold (None means 0.02).
        threshold: similarity from which a label is present that has no threshold of its own; used with `multi` alone.
    """

    multi: bool = False
    unsure_margin: float | None = None
    threshold: float = THRESHOLD

    def __post_init__(self) -> None:
        """Refuse values that decide nothing."""
        if self.unsure_margin is not None and not 0 <= self.unsure_margin <= 1:
            raise UsageError(f"the margin of unsure is {self.unsure_margin}; give a number from 0 to 1")
        if not (math.isfinite(self.threshold) and -1 <= self.threshold <= 1):
            raise UsageError(f"the threshold is {self.threshold}; a similarity lies between -1 and 1")

    @property
    def margin(self) -> float:
        """The margin within which a decision is unsure."""
        if self.unsure_margin is not None:
            return self.unsure_margin
        return UNSURE_SIMILARITY if self.multi else UNSURE_MARGIN
