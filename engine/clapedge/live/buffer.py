"""The bounded buffer between the thread that reads a source and the listener; when it is full, the oldest goes."""

import threading
from collections import deque
from dataclasses import dataclass
from typing import Literal

from clapedge.arrays import Float32Array
from clapedge.errors import AudioError

KEPT_SHARE = 0.5
"""Share of a full buffer that is kept: dropping bit by bit would leave no window without a gap."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some sound, as it arrived.

    Attributes:
        frames: (n, channels) float32.
        sample_rate: Hz.
        start: where it begins, in seconds of sound read so far.
        fresh: whether it is the first of a connection.
        monotonic: when it arrived, by the monotonic clock.
        wall: when it arrived, by the wall clock.
    """

    frames: Float32Array
    sample_rate: int
    start: float
    fresh: bool
    monotonic: float
    wall: float

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.frames) / self.sample_rate

    @property
    def end(self) -> float:
        """Where it ends, in seconds of sound read so far."""
        return self.start + self.seconds


class AudioBuffer:
    """A queue of chunks, for one thread that pushes and one that pops.

    Attributes:
        pushed: frames that were pushed.
        popped: frames that were popped.
        dropped: frames that were dropped because they were not popped in time.
        dropped_seconds: how long those lasted.
        drops: how often that happened.
        failure: why the source was given up, if it was.
    """

    def __init__(self, seconds: float, *, lossless: bool = False) -> None:
        """Make an empty buffer.

        Args:
            seconds: of sound that it holds at most.
            lossless: whether `push` waits for room, as with a file; else the oldest chunks are dropped.
        """
        self._capacity, self._lossless = seconds, lossless
        self._chunks: deque[Chunk] = deque()
        self._held = 0.0
        self._closed = False
        self._changed = threading.Condition()
        self.pushed = self.popped = self.dropped = self.drops = 0
        self.dropped_seconds = 0.0
        self.failure: AudioError | None = None

    def push(self, chunk: Chunk) -> None:
        """Add a chunk; a closed buffer ignores it."""
        with self._changed:
            while self._lossless and self._held >= self._capacity and not self._closed:
                self._changed.wait()
            if self._closed:
                return
            self.pushed += len(chunk.frames)
            self._chunks.append(chunk)
            self._held += chunk.seconds
            if self._held > self._capacity and not self._lossless:
                self.drops += 1
                while self._held > KEPT_SHARE * self._capacity and len(self._chunks) > 1:
                    oldest = self._chunks.popleft()
                    self._held -= oldest.seconds
                    self.dropped += len(oldest.frames)
                    self.dropped_seconds += oldest.seconds
            self._changed.notify_all()

    def pop(self, timeout: float) -> Chunk | Literal["stalled", "ended"]:
        """Return the oldest chunk, waiting up to `timeout` seconds for one, or what is left after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._chunks or self._closed, timeout)
            if not self._chunks:
                return "ended" if self._closed else "stalled"
            chunk = self._chunks.popleft()
            self._held = self._held - chunk.seconds if self._chunks else 0.0
            self.popped += len(chunk.frames)
            self._changed.notify_all()
            return chunk

    def close(self, failure: AudioError | None = None) -> None:
        """Accept no more chunks."""
        with self._changed:
            self._closed = True
            self.failure = self.failure or failure
            self._changed.notify_all()
