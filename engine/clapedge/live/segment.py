"""A segment of sound without gaps, which a listener hears as it would hear a recording."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from clapedge.arrays import Float32Array
from clapedge.audio import SAMPLE_RATE
from clapedge.audio.level_meter import SILENCE_PEAK
from clapedge.live.buffer import Chunk

Taken = Chunk | Literal["stalled", "ended"]

PIECE_SAMPLES = SAMPLE_RATE // 10
"""Levels are taken of tenths of a second: a click wakes nobody, and a short event is not lost in a long window."""

MUTE_SECONDS = 60.0
"""Digital silence for so long is a muted microphone, not a quiet room."""


class ContinuousSegment:
    """Chunks that follow one another, as a decoder that `clapedge.audio.Stream` reads.

    Attributes:
        sample_rate: Hz.
        start: where it begins, in seconds of sound.
        ended_by: why it ended, once it did: `gap`, `stalled` or `ended`; None before.
        following: the chunk behind the gap.
    """

    frames: int | None = None
    exact = False

    def __init__(self, first: Chunk, take: Callable[[], Taken]) -> None:
        """Begin with a chunk.

        Args:
            first: the first one.
            take: waits for the next one.
        """
        self.sample_rate, self.start = first.rate, first.start
        self.notes: list[str] = []
        self.ended_by: Literal["gap", "stalled", "ended"] | None = None
        self.following: Chunk | None = None
        self._latest, self._take = first, take
        self._arrivals: deque[tuple[float, float]] = deque()

    def blocks(self, first: int, stop: int | None) -> Iterator[Float32Array]:  # noqa: ARG002 - as all decoders
        """Yield all frames; they come once."""
        chunk = self._latest
        while True:
            self._latest = chunk
            self._arrivals.append((chunk.end, chunk.monotonic))
            yield chunk.frames
            taken = self._take()
            if not isinstance(taken, Chunk):
                self.ended_by = taken
                return
            if not self._continues(taken):
                self.ended_by, self.following = "gap", taken
                return
            chunk = taken

    def arrival_of(self, place: float) -> float:
        """Return when the sound at a place arrived; earlier places are forgotten, so ask in order."""
        while len(self._arrivals) > 1 and self._arrivals[0][0] < place:
            self._arrivals.popleft()
        return self._arrivals[0][1]

    def _continues(self, chunk: Chunk) -> bool:
        """Tell whether a chunk begins where the one before it ends."""
        latest = self._latest
        alike = chunk.rate == self.sample_rate and chunk.frames.shape[1] == latest.frames.shape[1]
        return alike and not chunk.fresh and chunk.start == latest.end


class Levels:
    """How loud the latest sound is: the root mean square of tenths of a second."""

    def __init__(self, seconds: float, *, muted: Callable[[], None]) -> None:
        """Begin at silence.

        Args:
            seconds: how far back levels are kept.
            muted: called once, when nothing came for a minute but silence that no microphone makes.
        """
        self._most = round(seconds * SAMPLE_RATE) // PIECE_SAMPLES + 2
        self._powers: deque[float] = deque(maxlen=self._most)
        self._rest = np.empty(0, np.float32)
        self._pieces = 0
        self._mute, self._muted = 0.0, muted

    def hear(self, samples: Float32Array) -> None:
        """Take samples (n,) at 48 kHz."""
        joined = np.concatenate([self._rest, samples])
        whole = len(joined) // PIECE_SAMPLES
        pieces = joined[: whole * PIECE_SAMPLES].reshape(whole, PIECE_SAMPLES)
        self._rest = joined[whole * PIECE_SAMPLES :]
        self._powers.extend(_power(piece) for piece in pieces)
        self._pieces += whole
        audible = len(samples) and float(np.abs(samples).max()) >= SILENCE_PEAK
        before, self._mute = self._mute, 0.0 if audible else self._mute + len(samples) / SAMPLE_RATE
        if before < MUTE_SECONDS <= self._mute:
            self._muted()

    def loudest(self, first: int, stop: int) -> float:
        """Return the level of the loudest tenth of a second that touches the samples [first, stop), in dBFS."""
        oldest = self._pieces - len(self._powers)
        low, high = max(0, first // PIECE_SAMPLES - oldest), max(0, -(-stop // PIECE_SAMPLES) - oldest)
        powers = [self._powers[place] for place in range(low, min(high, len(self._powers)))]
        if len(self._rest) and stop > self._pieces * PIECE_SAMPLES:
            powers.append(_power(self._rest))
        return float(10.0 * np.log10(max(max(powers, default=0.0), 1e-20)))


def _power(samples: Float32Array) -> float:
    """Return the mean square of samples."""
    return float(np.mean(np.square(samples), dtype=np.float64))
