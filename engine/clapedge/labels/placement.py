"""What a label set knows beside its embeddings: how taught labels compare with words, and when no label fits."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clapedge.arrays import Float32Array

KNEE = 0.5
"""Similarity from which those of taught labels rise ever more slowly, so that they stay below 1 as cosines do."""

Stored = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Placement:
    """How the cosines of labels become similarities: a taught label's lie elsewhere than those of words.

    Attributes:
        scales: (labels,) float32, what cosines are multiplied by; 1 for words.
        offsets: (labels,) float32, what is then added; 0 for words.
    """

    scales: Float32Array
    offsets: Float32Array

    def similarities(self, cosines: Float32Array) -> Float32Array:
        """Return the similarities (N, labels) of cosines (N, labels); those of words stay as they are, bit for bit."""
        taught = (self.scales != 1) | (self.offsets != 0)
        moved = cosines * self.scales + self.offsets
        excess = np.maximum(moved - KNEE, 0) / (1 - KNEE)
        moved = np.minimum(moved, KNEE) + (1 - KNEE) * np.tanh(excess)
        return np.where(taught, np.maximum(moved, -1), cosines).astype(np.float32)

    def arrays(self) -> dict[str, Any]:
        """Return what a label file stores, by name."""
        return {"scales": self.scales, "offsets": self.offsets}

    @classmethod
    def restored(cls, arrays: Stored, *, count: int) -> "Placement | None":
        """Return the placement of stored arrays, or None if they have none.

        Raises:
            ValueError: it does not fit so many labels.
        """
        if "scales" not in arrays:
            return None
        found = [arrays.get(name) for name in ("scales", "offsets")]
        values = [one for one in found if one is not None and one.shape == (count,) and one.dtype == np.float32]
        if len(values) < len(found) or not np.isfinite(values).all():
            raise ValueError("its placement does not fit its labels")
        return cls(values[0], values[1])


@dataclass(frozen=True)
class Rejection:
    """What was promised of false alarms when labels got their thresholds from background.

    Attributes:
        share: windows of background, of all, in which a label may reach its threshold.
        windows: windows of background that it was calibrated with.
        hop: seconds from one of them to the next.
    """

    share: float
    windows: int
    hop: float

    def arrays(self) -> dict[str, Any]:
        """Return what a label file stores, by name."""
        return {"promise": np.array([self.share, self.windows, self.hop], np.float64)}

    @classmethod
    def restored(cls, arrays: Stored) -> "Rejection | None":
        """Return the rejection of stored arrays, or None if they have none.

        Raises:
            ValueError: its values are impossible.
        """
        if "promise" not in arrays:
            return None
        promise = arrays["promise"]
        share, windows, hop = promise.tolist() if promise.shape == (3,) else (-1, -1, -1)
        if not (0 <= share <= 1 and windows >= 0 and hop > 0):
            raise ValueError("its calibration has impossible values")
        return cls(share, int(windows), hop)
