"""When no label fits: thresholds by split conformal prediction from background of the site, and what they promise."""

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from clapedge.arrays import Float32Array
from clapedge.errors import AudioError, ClapEdgeWarning, UsageError
from clapedge.labels import EmbeddedLabels, LabelSet
from clapedge.labels.placement import Rejection
from clapedge.scoring.similarity import similarities

SECONDS = {"day": 86_400.0, "hour": 3_600.0}
"""Seconds of each unit of time in which false alarms are counted."""

OWN_SHARE = 0.6
"""Of what its own clips reach in the middle, that a taught label asks for at least: background may be so unlike it that
any other sound would pass. It rejects a quarter more of other sounds, and 5 in 1,000 of its own at 0 dB (measured with
the sounds that the method was chosen with)."""

FEWEST_WINDOWS = 100
"""With fewer, the middle of the background is not known, let alone its end."""


@dataclass(frozen=True)
class FalseAlarms:
    """How often a label may reach its threshold in background.

    Attributes:
        count: false alarms a unit.
        unit: `day` or `hour` of listening, or `1000` clips.
    """

    count: float = 1.0
    unit: str = "day"

    @classmethod
    def parse(cls, text: str) -> "FalseAlarms":
        """Read a rate such as 1/day, 2/hour or 5/1000.

        Raises:
            UsageError: it is not such a rate.
        """
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*/\s*(day|hour|1000)\s*", text)
        if not found or not float(found[1]) > 0:
            raise UsageError(f"{text!r:.40} is not a rate of false alarms; write it as 1/day, 2/hour or 5/1000 (clips)")
        return cls(float(found[1]), found[2])

    def share(self, hop: float) -> float:
        """Return the share of windows, one every `hop` seconds, in which a label may reach its threshold."""
        return self.count / (SECONDS[self.unit] / hop if self.unit in SECONDS else 1000)

    def of_share(self, share: float, hop: float) -> float:
        """Return how many false alarms a unit a share of windows comes to."""
        return share / FalseAlarms(1.0, self.unit).share(hop)


def calibrate(
    labels: EmbeddedLabels, windows: Iterable[Float32Array], *, alarms: FalseAlarms, hop: float
) -> EmbeddedLabels:
    """Return labels with thresholds that background reaches as seldom as is asked for, or as it can promise.

    Of n windows of background and one more like them, each is the k-th nearest to a label with the same chance: so the
    next one exceeds the k-th of the n with a chance of k / (n + 1) at most, whatever their distribution.

    Args:
        labels: the labels; hidden ones are calibrated too.
        windows: similarities (n, labels) of windows of background.
        alarms: what is asked for.
        hop: seconds from one window to the next.

    Raises:
        AudioError: there is too little background.
    """
    background = _collected(windows)
    count = len(background)
    check_enough(count)
    share = alarms.share(hop)
    if share >= 1 / 2:
        raise UsageError(f"{alarms.count:g} false alarms a {alarms.unit} are every second window; ask for fewer")
    rank = int(share * (count + 1) + 1e-9)
    if rank < 1:
        rank, share = 1, 1 / (count + 1)
        warnings.warn(
            f"{count} windows of background can promise {alarms.of_share(share, hop):.3g} false alarms a label and "
            f"{alarms.unit}, not {alarms.count:g}; for that, give {1 / alarms.share(hop):.0f} windows "
            f"({hop / alarms.share(hop) / 3600:.3g} h)",
            ClapEdgeWarning,
            stacklevel=2,
        )
    reached = np.partition(background, count - rank, axis=0)[count - rank]
    limits = np.minimum(np.maximum(np.nextafter(reached, np.float32(2)), _least(labels)), 1.0)
    every = (
        replace(label, threshold=float(limit)) for label, limit in zip(labels.label_set.labels, limits, strict=True)
    )
    return replace(labels, label_set=LabelSet(tuple(every)), rejection=Rejection(share, count, hop))


def check_enough(count: int) -> None:
    """Raise if so many windows are too little background.

    Raises:
        AudioError: they are fewer than `FEWEST_WINDOWS`.
    """
    if count < FEWEST_WINDOWS:
        raise AudioError(f"{count} windows of background are fewer than {FEWEST_WINDOWS}; record more of it")


def _least(labels: EmbeddedLabels) -> Float32Array:
    """Return the least threshold of each label (labels,): of a taught one a share of what its own clips reach."""
    least = np.full(len(labels.embeddings), -1, np.float32)
    if labels.examples is None or labels.placement is None:
        return least
    for at, label in enumerate(labels.label_set.labels):
        own = labels.examples.where(label=label.name, kind="example").vectors()
        if len(own):
            reached = labels.placement.similarities(similarities(own, labels.embeddings))[:, at]
            least[at] = OWN_SHARE * np.median(reached)
    return least


def _collected(windows: Iterable[Float32Array]) -> Float32Array:
    """Return all similarities."""
    parts = list(windows)
    return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)
