"""Sound that is missing by a recording's time stamps counts as silence, so that seconds are those of a player."""

from collections.abc import Iterator

import numpy as np

from clapedge.arrays import Float32Array
from clapedge.audio.decoder import BLOCK_VALUES, note_once

GAP_SECONDS = 0.1
"""Stamps that differ from the count of samples by more are a gap; encoders' delays and rounded stamps stay below it."""

MAX_SILENCE_SECONDS = 3600
"""Silence put in for all gaps of a pass: stamps that jump further are a clock that was set, or an attack."""

BACK_SECONDS = 1.0
"""Stamps that go back by less are a clock that drifts, which nobody needs to know."""


class Gaps:
    """Gaps of a recording as passes over it find them, and the notes on them."""

    def __init__(self, notes: list[str]) -> None:
        """Write to the notes of a decoder."""
        self._notes = notes
        self._sentence = ""
        self._lengths: dict[float, float] = {}

    def found(self, at: float, seconds: float) -> None:
        """Remember that `seconds` of sound are missing from second `at` on; another pass may find it again."""
        self._lengths[round(at, 1)] = seconds
        if self._sentence in self._notes:
            self._notes.remove(self._sentence)
        begin, length = next(iter(sorted(self._lengths.items())))
        places, total = len(self._lengths), sum(self._lengths.values())
        where = f"from {begin:.2f} to {begin + length:.2f} s" if begin else f"from its beginning to {length:.2f} s"
        more = f", and in {places - 1} more places, {total:.2f} s in all" if places > 1 else ""
        self._sentence = f"sound is missing {where}{more}; it counts as silence"
        self._notes.append(self._sentence)

    def jumped(self, at: float, seconds: float) -> None:
        """Note that stamps jump by what cannot be a gap."""
        note_once(
            self._notes,
            f"its time stamps jump by {seconds:.1f} s at {at:.2f} s; seconds behind it are counted by its samples",
        )


class Clock:
    """Compares the time stamps of one pass with its count of samples."""

    def __init__(self, gaps: Gaps, sample_rate: int) -> None:
        """Begin without a difference."""
        self._gaps = gaps
        self._rate = sample_rate
        self._shift = 0
        self._silence = 0

    def missing(self, stamped: int | None, position: int) -> int:
        """Return how many frames of silence precede a frame of sound.

        Args:
            stamped: where it begins by its time stamp, in frames; None without one.
            position: where it begins by the count of frames.
        """
        jump = 0 if stamped is None else stamped - self._shift - position
        if abs(jump) <= GAP_SECONDS * self._rate:
            return 0
        if jump > 0 and self._silence + jump <= MAX_SILENCE_SECONDS * self._rate:
            self._silence += jump
            self._gaps.found(position / self._rate, jump / self._rate)
            return jump
        self._shift += jump
        if not -BACK_SECONDS * self._rate < jump < 0:
            self._gaps.jumped(position / self._rate, jump / self._rate)
        return 0


def silence(frames: int, channels: int) -> Iterator[Float32Array]:
    """Yield zeros (n, channels) of so many frames in all, in blocks."""
    step = max(1, BLOCK_VALUES // channels)
    for at in range(0, frames, step):
        yield np.zeros((min(step, frames - at), channels), np.float32)
