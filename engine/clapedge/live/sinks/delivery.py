"""What takes messages out of a spool to somebody elsewhere, one after the other, for as long as it takes."""

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from clapedge.live.reader import backoff
from clapedge.live.records import Record
from clapedge.live.sinks.spool import Spool

DRAIN_SECONDS = 5.0
"""Patience with who receives when listening ends; what is left waits in the spool for the next run."""


class UndeliveredError(Exception):
    """A message was not taken now; it may be later.

    Attributes:
        pause: seconds to wait before it is tried again; None waits longer each time.
    """

    def __init__(self, reason: str, pause: float | None = None) -> None:
        """Say why, and when to try again."""
        super().__init__(reason)
        self.pause = pause


class RefusedError(Exception):
    """A message will never be taken."""


class Transport(Protocol):
    """Brings messages to somebody.

    Attributes:
        name: what messages to people call it, without passwords.
    """

    name: str

    def carry(self, key: str, data: bytes) -> None:
        """Bring one message.

        Raises:
            UndeliveredError: it was not taken now.
            RefusedError: it will never be taken.
        """
        ...

    def close(self) -> None:
        """Take leave."""
        ...


class SpooledSink:
    """An sink that puts records into a spool, and a thread that brings them on.

    Attributes:
        delivered: messages that were taken.
        refused: messages that will never be, and were given up.
    """

    def __init__(
        self,
        spool: Spool,
        transport: Transport,
        *,
        say: Callable[[str], None],
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        """Start, with what waits from earlier runs.

        Args:
            spool: keeps messages.
            transport: brings them.
            say: tells people.
            wait: waits for an event, so many seconds at most.
        """
        self._spool, self._carrier, self._say, self._wait = spool, transport, say, wait
        self.delivered = self.refused = 0
        self._failures = 0
        self._stop = threading.Event()
        if len(spool):
            say(f"{transport.name}: {len(spool)} messages of an earlier run wait and go first")
        self._thread = threading.Thread(target=self._work, name="spooled", daemon=True)
        self._thread.start()

    def take(self, record: Record, data: bytes) -> None:
        """Put a record into the spool."""
        self._spool.put(record.key, data)

    def close(self) -> None:
        """Bring what can be brought soon, and leave the rest in the spool."""
        if not self._failures:
            self._spool.drained(DRAIN_SECONDS)
        self._stop.set()
        self._spool.wake()
        self._thread.join(DRAIN_SECONDS)
        self._carrier.close()
        self._spool.close()

    def notes(self) -> Sequence[str]:
        """Tell what waits and what was lost."""
        name, notes = self._carrier.name, []
        if len(self._spool):
            notes.append(f"{name}: {len(self._spool)} messages wait in the spool for the next run")
        if self._spool.dropped:
            notes.append(f"{name}: {self._spool.dropped} messages were lost: the spool had no room")
        if self.refused:
            notes.append(f"{name}: {self.refused} messages were refused and given up")
        return notes

    def _work(self) -> None:
        """Bring messages, each until it is taken or refused."""
        while first := self._spool.first():
            message, data = first
            try:
                self._carrier.carry(message.key, data)
            except UndeliveredError as error:
                self._hold(error)
                continue
            except RefusedError as error:
                self.refused += 1
                self._say(f"{self._carrier.name} refuses a message, which is given up: {error}")
            else:
                self.delivered += 1
            self._spool.done(message)
            if self._failures:
                self._say(f"{self._carrier.name} takes messages again; {len(self._spool)} wait")
            self._failures = 0

    def _hold(self, error: UndeliveredError) -> None:
        """Wait, longer each time, and say so the first time and after each doubling."""
        self._failures += 1
        pause = backoff(self._failures) if error.pause is None else error.pause
        if self._failures & (self._failures - 1) == 0:
            self._say(f"{self._carrier.name}: {error}; {len(self._spool)} messages wait in the spool")
        self._wait(self._stop, pause)
