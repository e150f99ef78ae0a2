"""The bounded buffer between the thread that reads a source and the listener.

When it is full, either the source waits or the oldest sound goes. A recording waits. A sound card cannot: what is not
read is lost there, uncounted and bit by bit, so that it is better dropped here. A pipe may carry either, and its pace
tells them apart: no live source fills the buffer in less time than its sound lasts.
"""

import threading
from collections import deque
from dataclasses import dataclass, replace
from typing import Literal

from clapedge.arrays import Float32Array
from clapedge.errors import AudioError

KEPT_SHARE = 0.5
"""Share of a full buffer that is kept: dropping bit by bit would leave no window without a gap."""

FAST_SHARE = 0.5
"""A pipe that filled the buffer within this share of the time that its sound lasts is not live. Live ones are far from
it: they begin with what waited in the pipe and the sound card, two seconds of 16 kHz."""

Overload = Literal["auto", "wait", "drop"]


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some sound, as it arrived.

    Attributes:
        frames: (n, channels) float32.
        sample_rate: Hz.
        start: where it begins, in seconds of sound read so far.
        fresh: whether it is the first of a connection, or after a pause.
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
        unheard: frames that came while listening was paused, which are not kept.
        paused: whether it is.
        failure: why the source was given up, if it was.
    """

    def __init__(self, seconds: float, *, lossless: bool = False, adaptive: bool = False) -> None:
        """Make an empty buffer.

        Args:
            seconds: of sound that it holds at most.
            lossless: whether `push` waits for room, as with a file; else the oldest chunks are dropped.
            adaptive: whether it does so from the time on when the buffer was filled faster than in real time.
        """
        self._capacity, self._lossless, self._adaptive = seconds, lossless, adaptive
        self._chunks: deque[Chunk] = deque()
        self._held = 0.0
        self._closed = self._told = self._resumed = False
        self._changed = threading.Condition()
        self.pushed = self.popped = self.dropped = self.drops = self.unheard = 0
        self.paused = False
        self.dropped_seconds = 0.0
        self.failure: AudioError | None = None

    def push(self, chunk: Chunk) -> None:
        """Add a chunk; a closed buffer ignores it."""
        with self._changed:
            if self._adaptive and self._held + chunk.seconds > self._capacity and self._is_fast(chunk):
                self._lossless = True
            while self._lossless and self._held >= self._capacity and not (self._closed or self.paused):
                self._changed.wait()
            if self._closed:
                return
            if self.paused:
                self.unheard += len(chunk.frames)
                return
            self.pushed += len(chunk.frames)
            self._chunks.append(replace(chunk, fresh=True) if self._resumed else chunk)
            self._resumed = False
            self._held += chunk.seconds
            if self._held > self._capacity and not self._lossless:
                self.drops += 1
                while self._held > KEPT_SHARE * self._capacity and len(self._chunks) > 1:
                    oldest = self._chunks.popleft()
                    self._held -= oldest.seconds
                    self.dropped += len(oldest.frames)
                    self.dropped_seconds += oldest.seconds
            self._changed.notify_all()

    def _is_fast(self, chunk: Chunk) -> bool:
        """Return whether what is held came faster than a live source delivers, up to a chunk that is to be added."""
        return bool(self._chunks) and chunk.monotonic - self._chunks[0].monotonic < FAST_SHARE * self._held

    def pause(self, *, paused: bool) -> None:
        """Keep no sound from now on, or keep it again; what was pushed before is kept."""
        with self._changed:
            if paused == self.paused:
                return
            self.paused, self._told = paused, False
            self._resumed = True  # what follows does not continue what came before
            self._changed.notify_all()

    def pop(self, timeout: float) -> Chunk | Literal["paused", "stalled", "ended"]:
        """Return the oldest chunk, waiting up to `timeout` seconds for one, or what is left after `close`.

        A pause is told at once, and then every `timeout` seconds.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._chunks or self._closed or (self.paused and not self._told), timeout)
            if not self._chunks:
                self._told = self.paused
                return "ended" if self._closed else "paused" if self.paused else "stalled"
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
