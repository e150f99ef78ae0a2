"""The thread that reads a source into the buffer, and opens it again when it was lost."""

import logging
import threading
from dataclasses import dataclass
from datetime import datetime

from clapedge.errors import AudioError, UsageError
from clapedge.live.backoff import backoff
from clapedge.live.buffer import AudioBuffer, Chunk, Overload
from clapedge.live.clock import Clock
from clapedge.live.sources import Source, SourceLostError

logger = logging.getLogger("clapedge.live")

SHORTEST_BUFFER, LONGEST_BUFFER = 1.0, 3600.0
"""Seconds of a buffer: less holds no window, more is memory that a device does not have."""


@dataclass(frozen=True)
class ReaderOptions:
    """How a source is read.

    Attributes:
        buffer: seconds of sound that may wait to be processed.
        retries: how often in a row a lost source is opened again; None means without end.
        began: time of the first sample; None takes the clock, and for a recording the time at which listening began.
        overload: what happens when the buffer is full: the source waits, or the oldest sound is dropped. By `auto`
            recordings wait, and pipes that deliver faster than in real time.
    """

    buffer: float = 30.0
    retries: int | None = None
    began: datetime | None = None
    overload: Overload = "auto"

    def __post_init__(self) -> None:
        """Raise `UsageError` if the buffer is too small or too large."""
        if not SHORTEST_BUFFER <= self.buffer <= LONGEST_BUFFER:
            raise UsageError(f"buffer is {self.buffer} s; give {SHORTEST_BUFFER:g} to {LONGEST_BUFFER:g} s")

    def buffer_for(self, source: Source) -> AudioBuffer:
        """Return an empty buffer for a source.

        Raises:
            UsageError: the source cannot wait, and should.
        """
        if self.overload == "wait" and source.reopens:
            raise UsageError(f'{source.name} cannot wait; use overload="drop", or a longer buffer')
        waits = self.overload == "wait" or (self.overload == "auto" and not source.live)
        return AudioBuffer(self.buffer, lossless=waits, adaptive=self.overload == "auto" and not source.reopens)


class Reader:
    """Reads a source until it ends or is given up.

    Attributes:
        seconds: seconds of sound that were read.
        reconnects: how often the source was opened again.
    """

    def __init__(
        self, source: Source, buffer: AudioBuffer, clock: Clock, *, retries: int | None, stop: threading.Event
    ) -> None:
        """Prepare to read.

        Args:
            source: the source.
            buffer: where its sound goes.
            clock: stamps the arrival of sound.
            retries: how often in a row a lost source is opened again; None means without end.
            stop: set to end reading.
        """
        self._source, self._buffer, self._clock = source, buffer, clock
        self._retries, self._stop = retries, stop
        self._failures = self.reconnects = 0
        self.seconds = 0.0

    def start(self) -> None:
        """Read in a daemon thread, since a pipe may block for ever."""
        threading.Thread(target=self.run, name="reader", daemon=True).start()

    def run(self) -> None:
        """Read until the end."""
        name = self._source.name
        failure: AudioError | None = AudioError(f"{name} could not be read further; report what is printed above")
        try:
            failure = self._read_all()
        except AudioError as error:
            failure = error
        except OSError as error:
            failure = AudioError(f"{name} cannot be read ({error.strerror or error}); start it again")
        finally:
            self._buffer.close(failure)

    def _read_all(self) -> SourceLostError | None:
        """Read connection after connection; return why the source was given up, or None at its end."""
        while not self._stop.is_set():
            try:
                self._read_connection()
            except SourceLostError as error:
                if not self._source.reopens or self._failures == self._retries:
                    return error
                self._failures += 1
                seconds = backoff(self._failures)
                logger.warning("%s; trying again in %g s", error, seconds)
                self._stop.wait(seconds)
                self.reconnects += 1
            else:
                break
        return None

    def _read_connection(self) -> None:
        """Read one connection."""
        for number, (sample_rate, frames) in enumerate(self._source.frames()):
            if self._stop.is_set():
                return
            self._failures = 0
            monotonic, wall = self._clock.monotonic(), self._clock.wall()
            chunk = Chunk(frames, sample_rate, self.seconds, number == 0, monotonic, wall)
            self.seconds = chunk.end
            self._buffer.push(chunk)
