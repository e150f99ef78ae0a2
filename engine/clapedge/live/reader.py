"""The thread that reads a source into the buffer, and opens it again when it was lost."""

import threading
from collections.abc import Callable
from itertools import count

from clapedge.errors import AudioError
from clapedge.live.buffer import AudioBuffer, Chunk
from clapedge.live.clock import Clock
from clapedge.live.sources.local import Source, SourceLostError

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a lost source is opened again: doubled each time, up to a minute."""


def backoff(failures: int) -> float:
    """Return the seconds to wait after so many failures in a row, at least one."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 30))


class Reader:
    """Reads a source until it ends or is given up."""

    def __init__(
        self,
        source: Source,
        ring: AudioBuffer,
        clock: Clock,
        *,
        retries: int | None,
        say: Callable[[str], None],
        stop: threading.Event,
    ) -> None:
        """Prepare to read.

        Args:
            source: what to read.
            ring: where to put it.
            clock: tells when it arrived.
            retries: how often in a row to try again before it is given up; None never gives up.
            say: tells people.
            stop: set to end reading.
        """
        self._source, self._ring, self._clock = source, ring, clock
        self._retries, self._say, self._stop = retries, say, stop
        self._thread = threading.Thread(target=self.run, name="reader", daemon=True)
        self.sounded = 0.0
        """Seconds of sound that were read."""
        self._failures = 0
        self.reconnects = 0
        """How often the source was opened again."""

    def start(self) -> None:
        """Read in a thread of its own; a daemon, since a pipe may keep it waiting for ever."""
        self._thread.start()

    def run(self) -> None:
        """Read until the end."""
        name = self._source.name
        failure: AudioError | None = AudioError(f"{name} could not be read further; report what is printed above")
        try:
            failure = self._read_on()
        except AudioError as error:
            failure = error
        except OSError as error:
            failure = AudioError(f"{name} cannot be read ({error.strerror or error}); start it again")
        finally:
            self._ring.end(failure)

    def _read_on(self) -> SourceLostError | None:
        """Read connection after connection; return why the source was given up, or None at its end."""
        while not self._stop.is_set():
            try:
                self._read()
            except SourceLostError as error:
                if not self._source.reopens or self._failures == self._retries:
                    return error
                self._pause(error)
            else:
                break
        return None

    def _read(self) -> None:
        """Read one connection."""
        for number, (rate, frames) in zip(count(), self._source.frames(), strict=False):
            if self._stop.is_set():
                return
            self._failures = 0
            monotonic, wall = self._clock.monotonic(), self._clock.wall()
            chunk = Chunk(frames, rate, self.sounded, number == 0, monotonic, wall)
            self.sounded = chunk.end
            self._ring.put(chunk)

    def _pause(self, error: SourceLostError) -> None:
        """Say that the source was lost, and wait."""
        self._failures += 1
        seconds = backoff(self._failures)
        self._say(f"{error}; trying again in {seconds:g} s")
        self._stop.wait(seconds)
        self.reconnects += 1
