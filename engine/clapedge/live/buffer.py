"""The buffer between who reads sound and who hears it: bounded in seconds; where it is full, the oldest is dropped."""

import threading
from collections import deque
from dataclasses import dataclass
from typing import Literal

from clapedge.arrays import Float32Array
from clapedge.errors import AudioError

KEPT_SHARE = 0.5
"""Of a full buffer so much is kept: dropping bit by bit would leave no window without a gap."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some sound, as it arrived.

    Attributes:
        frames: (n, channels) float32.
        rate: Hz.
        start: where it begins, in seconds of sound read so far.
        fresh: whether it is the first of a connection.
        monotonic: when it arrived, by the clock that nobody can set.
        wall: when it arrived, by the wall clock.
    """

    frames: Float32Array
    rate: int
    start: float
    fresh: bool
    monotonic: float
    wall: float

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.frames) / self.rate

    @property
    def end(self) -> float:
        """Where it ends, in seconds of sound read so far."""
        return self.start + self.seconds


class AudioBuffer:
    """Chunks in the order in which they came. One thread puts, one takes.

    Attributes:
        read: frames that were put.
        heard: frames that were taken.
        dropped: frames that were dropped because they were not taken in time.
        dropped_seconds: how long those lasted.
        drops: how often that happened.
        failure: why no more will come, if not because the source ended.
    """

    def __init__(self, seconds: float, *, lossless: bool = False) -> None:
        """Make an empty buffer.

        Args:
            seconds: of sound that it holds at most.
            lossless: whether who reads waits where it is full, as with a file; else the oldest is dropped.
        """
        self._most, self._lossless = seconds, lossless
        self._chunks: deque[Chunk] = deque()
        self._held = 0.0
        self._ended = False
        self._changed = threading.Condition()
        self.read = self.heard = self.dropped = self.drops = 0
        self.dropped_seconds = 0.0
        self.failure: AudioError | None = None

    def put(self, chunk: Chunk) -> None:
        """Add a chunk; where there is no room, the oldest go, or it waits for room. After the end none is added."""
        with self._changed:
            while self._lossless and self._held >= self._most and not self._ended:
                self._changed.wait()
            if self._ended:
                return
            self.read += len(chunk.frames)
            self._chunks.append(chunk)
            self._held += chunk.seconds
            if self._held > self._most and not self._lossless:
                self.drops += 1
                while self._held > KEPT_SHARE * self._most and len(self._chunks) > 1:
                    oldest = self._chunks.popleft()
                    self._held -= oldest.seconds
                    self.dropped += len(oldest.frames)
                    self.dropped_seconds += oldest.seconds
            self._changed.notify_all()

    def take(self, timeout: float) -> Chunk | Literal["stalled", "ended"]:
        """Return the oldest chunk, waiting for one so many seconds at most; what is left can be taken after the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._chunks or self._ended, timeout)
            if not self._chunks:
                return "ended" if self._ended else "stalled"
            chunk = self._chunks.popleft()
            self._held = self._held - chunk.seconds if self._chunks else 0.0
            self.heard += len(chunk.frames)
            self._changed.notify_all()
            return chunk

    def end(self, failure: AudioError | None = None) -> None:
        """Take no more; what waits is given up."""
        with self._changed:
            self._ended = True
            self.failure = self.failure or failure
            self._changed.notify_all()
