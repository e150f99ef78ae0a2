"""A segment of live sound without gaps, which is read like a recording."""

from collections import deque
from collections.abc import Iterator
from typing import Literal

from clapedge.arrays import Float32Array
from clapedge.live.buffer import AudioBuffer, Chunk
from clapedge.live.clock import Clock, Stamps


class ContinuousSegment:
    """Chunks that follow one another, as a decoder that `clapedge.audio.Stream` reads.

    Attributes:
        sample_rate: Hz.
        start: where it begins, in seconds of sound.
        ended_by: why it ended: `gap`, `paused`, `stalled` or `ended`; None before.
        following: the chunk after the gap.
        waited: seconds spent on waiting for chunks.
    """

    frames: int | None = None
    exact = False

    def __init__(self, first: Chunk, buffer: AudioBuffer, *, clock: Clock, stamps: Stamps, timeout: float) -> None:
        """Begin with a chunk.

        Args:
            first: the first one.
            buffer: holds the following ones.
            clock: measures the time spent on waiting.
            stamps: follow the clock with each chunk.
            timeout: seconds without a chunk that end the segment.
        """
        self.sample_rate, self.start = first.sample_rate, first.start
        self.notes: list[str] = []
        self.ended_by: Literal["gap", "paused", "stalled", "ended"] | None = None
        self.following: Chunk | None = None
        self.waited = 0.0
        self._latest, self._buffer, self._clock, self._stamps, self._timeout = first, buffer, clock, stamps, timeout
        self._arrivals: deque[tuple[float, float]] = deque()

    def blocks(self, first: int, stop: int | None) -> Iterator[Float32Array]:  # noqa: ARG002 - as all decoders
        """Yield all frames; this works once."""
        chunk = self._latest
        while True:
            self._latest = chunk
            self._arrivals.append((chunk.end, chunk.monotonic))
            yield chunk.frames
            popped = self._pop()
            if not isinstance(popped, Chunk):
                self.ended_by = popped
                return
            if not self._continues(popped):
                self.ended_by, self.following = "gap", popped
                return
            chunk = popped

    def arrival_of(self, position: float) -> float:
        """Return when the sound at a position arrived; earlier positions are forgotten, so ask in order."""
        while len(self._arrivals) > 1 and self._arrivals[0][0] < position:
            self._arrivals.popleft()
        return self._arrivals[0][1]

    def _pop(self) -> Chunk | Literal["paused", "stalled", "ended"]:
        """Wait for the next chunk."""
        began = self._clock.monotonic()
        popped = self._buffer.pop(self._timeout)
        self.waited += self._clock.monotonic() - began
        if isinstance(popped, Chunk) and not popped.fresh:  # else events before it are to be stamped first
            self._stamps.follow(popped.end, monotonic=popped.monotonic, wall=popped.wall, fresh=False)
        return popped

    def _continues(self, chunk: Chunk) -> bool:
        """Return whether a chunk begins where the one before it ends."""
        latest = self._latest
        alike = chunk.sample_rate == self.sample_rate and chunk.frames.shape[1] == latest.frames.shape[1]
        return alike and not chunk.fresh and chunk.start == latest.end
