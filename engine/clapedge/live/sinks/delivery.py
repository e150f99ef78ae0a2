"""Delivery of spooled messages by a transport, one after the other, for as long as it takes."""

import logging
import threading
from collections.abc import Sequence
from typing import Protocol

from clapedge.live.backoff import backoff, is_power_of_two
from clapedge.live.records import Accepts, EventRecord, Record, every_record
from clapedge.live.sinks.messages import with_age
from clapedge.live.sinks.spool import Spool

logger = logging.getLogger("clapedge.live")

DRAIN_SECONDS = 5.0
"""How long delivery may go on when listening ends; what is left waits in the spool for the next run."""

CONNECT_SECONDS = 1.0
"""The same where the latest try failed: of a run that was short, the first connection may just be made."""


class UndeliveredError(Exception):
    """A message was not accepted now; it may be later.

    Attributes:
        pause: seconds to wait before it is sent again; None waits longer each time.
    """

    def __init__(self, reason: str, pause: float | None = None) -> None:
        """Take the reason, and when to try again."""
        super().__init__(reason)
        self.pause = pause


class RefusedError(Exception):
    """A message will never be accepted."""


class Transport(Protocol):
    """Sends messages to a receiver.

    Attributes:
        name: what log messages call it, without passwords.
    """

    name: str

    def send(self, key: str, data: bytes) -> None:
        """Send one message.

        Raises:
            UndeliveredError: it was not accepted now.
            RefusedError: it will never be accepted.
        """
        ...

    def close(self) -> None:
        """Disconnect."""
        ...


class SpooledSink:
    """Writes records into a spool, from which a thread sends them."""

    def __init__(
        self,
        spool: Spool,
        transport: Transport,
        *,
        stop: threading.Event | None = None,
        accepts: Accepts = every_record,
    ) -> None:
        """Start, with what waits from earlier runs.

        Args:
            spool: keeps messages.
            transport: sends them.
            stop: set to end pauses between tries; None makes an event.
            accepts: which records are sent.
        """
        self._spool, self._transport, self._accepts = spool, transport, accepts
        self._refused = self._failures = self._damaged = 0
        self._logged: set[str] = set()
        self._stop = stop or threading.Event()
        if len(spool):
            logger.info("%s: %d messages of an earlier run wait and go first", transport.name, len(spool))
        self._thread = threading.Thread(target=self._work, name="spooled", daemon=True)
        self._thread.start()

    @property
    def receiver(self) -> str:
        """Name of where messages go, without passwords."""
        return self._transport.name

    @property
    def waiting(self) -> int:
        """Messages that wait to be sent."""
        return len(self._spool)

    def write(self, record: Record, data: bytes) -> None:
        """Put a record into the spool, if such ones are sent."""
        if self._accepts(record):
            self._spool.put(record.key, data, kind=record.kind if isinstance(record, EventRecord) else None)

    def close(self) -> None:
        """Send what can be sent soon, and leave the rest in the spool."""
        self._spool.wait_until_empty(CONNECT_SECONDS if self._failures else DRAIN_SECONDS)
        self._stop.set()
        self._spool.stop()
        self._thread.join(DRAIN_SECONDS)
        self._transport.close()
        self._spool.close()

    def notes(self) -> Sequence[str]:
        """Return what waits and what was lost."""
        name, notes = self._transport.name, []
        lost = self._spool.unwritten
        if lost:
            notes.append(f"{name}: {lost} messages are lost with this process: the disk had no room for them")
        if waiting := len(self._spool) - lost:
            notes.append(f"{name}: {waiting} messages wait in the spool for the next run")
        if self._spool.dropped:
            notes.append(f"{name}: {self._spool.dropped} messages were lost: the spool had no room")
        if self._spool.expired:
            notes.append(f"{name}: {self._spool.expired} messages of events that were over were too old, and given up")
        if self._damaged:
            notes.append(f"{name}: {self._damaged} messages in the spool were damaged, and given up")
        if self._refused:
            notes.append(f"{name}: {self._refused} messages were refused and given up")
        return notes

    def _work(self) -> None:
        """Send messages, each until it is accepted or refused."""
        while first := self._spool.peek():
            message, data = first
            sent = False
            try:
                self._transport.send(message.key, with_age(data, self._spool.age(message)))
                sent = True
            except UndeliveredError as error:
                self._pause(error)
                continue
            except RefusedError as error:
                self._refused += 1
                logger.warning("%s refuses a message, which is given up: %s", self._transport.name, error)
            except ValueError as error:  # as after a power cut without sync
                self._damaged += 1
                logger.warning("%s: a message in the spool is given up: %s", self._transport.name, error)
            self._spool.remove(message, sent=sent)
            if self._failures:
                logger.info("%s accepts messages again; %d wait", self._transport.name, len(self._spool))
            self._failures = 0
            self._logged.clear()

    def _pause(self, error: UndeliveredError) -> None:
        """Wait before the next try, and log some of the failures: every reason once, and then more and more rarely."""
        self._failures += 1
        if is_power_of_two(self._failures) or str(error) not in self._logged:
            self._logged.add(str(error))
            logger.warning("%s: %s; %d messages wait in the spool", self._transport.name, error, len(self._spool))
        self._stop.wait(backoff(self._failures) if error.pause is None else error.pause)
