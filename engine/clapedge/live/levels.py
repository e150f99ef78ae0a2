"""How loud live sound is: for the gate, and to notice a muted microphone."""

from collections import deque

import numpy as np

from clapedge.arrays import Float32Array
from clapedge.audio import SAMPLE_RATE
from clapedge.audio.level_meter import SILENCE_PEAK

PIECE_SAMPLES = SAMPLE_RATE // 10
"""Levels of tenths of a second: a click does not open the gate, and a long window does not hide a short event."""

MUTE_SECONDS = 60.0
"""Digital silence for so long is a muted microphone, not a quiet room."""


class LevelHistory:
    """The root mean square of the latest tenths of a second, without the constant offset of cheap microphones."""

    def __init__(self, seconds: float) -> None:
        """Begin at silence; levels are kept for so many seconds."""
        self._powers: deque[tuple[float, float]] = deque(maxlen=round(seconds * SAMPLE_RATE) // PIECE_SAMPLES + 2)
        self._rest = np.empty(0, np.float32)
        self._pieces = 0
        self._silent_seconds = 0.0

    def push(self, samples: Float32Array) -> bool:
        """Measure samples (n,) at 48 kHz; return whether digital silence has just lasted for `MUTE_SECONDS`."""
        joined = np.concatenate([self._rest, samples])
        whole = len(joined) // PIECE_SAMPLES
        pieces = joined[: whole * PIECE_SAMPLES].reshape(whole, PIECE_SAMPLES)
        self._rest = joined[whole * PIECE_SAMPLES :]
        self._powers.extend(_power(piece) for piece in pieces)
        self._pieces += whole
        audible = len(samples) and float(np.ptp(samples)) / 2 >= SILENCE_PEAK
        before = self._silent_seconds
        self._silent_seconds = 0.0 if audible else before + len(samples) / SAMPLE_RATE
        return before < MUTE_SECONDS <= self._silent_seconds

    def loudest(self, first: int, stop: int) -> float:
        """Return the level of the loudest tenth of a second that touches the samples [first, stop), in dBFS.

        The median of what these tenths are around is an offset, and no sound.
        """
        oldest = self._pieces - len(self._powers)
        low, high = max(0, first // PIECE_SAMPLES - oldest), max(0, -(-stop // PIECE_SAMPLES) - oldest)
        powers = [self._powers[index] for index in range(low, min(high, len(self._powers)))]
        if len(self._rest) and stop > self._pieces * PIECE_SAMPLES:
            powers.append(_power(self._rest))
        offset = float(np.median([mean for mean, _ in powers])) if powers else 0.0
        loudest = max((variance + (mean - offset) ** 2 for mean, variance in powers), default=0.0)
        return float(10.0 * np.log10(max(loudest, 1e-20)))


def _power(samples: Float32Array) -> tuple[float, float]:
    """Return the mean of samples, and the mean square of what differs from it."""
    return float(np.mean(samples, dtype=np.float64)), float(np.var(samples, dtype=np.float64))
