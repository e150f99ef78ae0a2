"""What a label set knows beside its embeddings: how taught labels compare with words, and when no label fits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clapedge.arrays import Float32Array, Float64Array

SMALLEST_STEP = 1e-6
"""Similarity by which a threshold exceeds its floor at least, so that a fit is finite."""

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


@dataclass(frozen=True, eq=False)
class Rejection:
    """When no label fits: what background looks like to each of them, and what was promised of false alarms.

    A label's `threshold` is the similarity that background reaches as seldom as was promised.

    Attributes:
        floors: (labels,) float64, the median similarity of background; NaN where a label was not calibrated.
        share: windows of background, of all, in which a label may reach its threshold.
        windows: windows of background that it was calibrated with.
        hop: seconds from one of them to the next.
    """

    floors: Float64Array
    share: float
    windows: int
    hop: float

    def fits(
        self, similarities: npt.NDArray[np.floating], visible: Sequence[int], thresholds: Float64Array
    ) -> Float64Array:
        """Return how well labels fit, (N, visible): 0 as background does in the middle, 1 as a threshold asks.

        Args:
            similarities: (N, visible).
            visible: which labels they are of.
            thresholds: (visible,) their thresholds; NaN where there is none, which gives NaN.
        """
        floors = self.floors[list(visible)]
        return np.asarray((similarities - floors) / np.maximum(thresholds - floors, SMALLEST_STEP), np.float64)

    def arrays(self) -> dict[str, Any]:
        """Return what a label file stores, by name."""
        return {"floors": self.floors, "promise": np.array([self.share, self.windows, self.hop], np.float64)}

    @classmethod
    def restored(cls, arrays: Stored, *, count: int) -> "Rejection | None":
        """Return the rejection of stored arrays, or None if they have none.

        Raises:
            ValueError: it does not fit so many labels.
        """
        if "floors" not in arrays:
            return None
        floors, promise = arrays["floors"], arrays.get("promise", np.empty(0))
        if floors.shape != (count,) or floors.dtype != np.float64 or promise.shape != (3,):
            raise ValueError("its calibration does not fit its labels")
        share, windows, hop = promise.tolist()
        if not (0 <= share <= 1 and windows >= 0 and hop > 0):
            raise ValueError("its calibration has impossible values")
        return cls(floors, share, int(windows), hop)
