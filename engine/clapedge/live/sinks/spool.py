"""Messages on disk until they are delivered: they survive a broker that is down, a restart, and a power cut.

A message is a file that appears whole or not at all; its name holds its place in the order and its key. Beyond a bound
the oldest go. A file is deleted once its message was delivered, so that after a crash in between it is sent a second
time, with the same key.

Beside the messages lies one file for each event that has begun and not ended, with its latest record. Renaming it makes
the last message of the event, in one step: so each event that a receiver learns of ends, once, whenever the process is
killed.
"""

import logging
import os
import re
import sys
import threading
from collections import deque
from pathlib import Path
from typing import IO, NamedTuple

from clapedge.atomic_file import atomic_write
from clapedge.errors import StorageError
from clapedge.events.event import Kind
from clapedge.live.backoff import is_power_of_two
from clapedge.live.clock import Clock, SystemClock
from clapedge.live.disk import lacks_room
from clapedge.live.sinks.messages import event_of, interrupted, kind_of

logger = logging.getLogger("clapedge.live")

BLOCK_BYTES = 4096
"""What a small file takes on disk."""

NAMES = re.compile(r"(\d{12})\.([0-9a-f]+-(?:\d+|levels|alarms)-\d+)\.json")

BEGINNINGS = re.compile(r"[0-9a-f]+-\d+-0")
"""Keys of the first records of events; levels and alarms have no end."""

OPEN_NAMES = re.compile(r"open\.([0-9a-f]+-\d+)\.json")
"""Files of events that have not ended."""

MOST_IN_MEMORY = 1000
"""Messages that are kept in memory while the disk has no room: half a megabyte."""


class Message(NamedTuple):
    """A message that waits.

    Attributes:
        name: of its file.
        size: what it takes on disk.
        made: when it was made, by the monotonic clock.
        data: its content, if it is in memory alone.
    """

    name: str
    size: int
    made: float
    data: bytes | None = None

    @property
    def key(self) -> str:
        """Its unique key."""
        return self.name.split(".")[1]


class Spool:
    """A bounded queue of messages in a directory of its own.

    Attributes:
        dropped: messages that were given up because there was no room.
        expired: messages that were given up because they were too old.
        unwritten: messages that wait in memory alone, because the disk has no room.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        max_bytes: int,
        sync: bool = True,
        max_age: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Open or make the directory; what waits in it from earlier runs comes first.

        Events that were interrupted, with the process that listened, end now.

        Args:
            directory: where messages lie.
            max_bytes: how much disk they may take.
            sync: whether each is flushed to the disk, so that a power cut takes none.
            max_age: seconds after which an event that is over is given up, unless its beginning was sent before; None
                keeps it.
            clock: measures ages; None takes this machine's.

        Raises:
            StorageError: it cannot be used, or another process uses it.
        """
        self._directory, self._max_bytes, self._sync = Path(directory), max_bytes, sync
        self._max_age, self._clock = max_age, clock or SystemClock()
        self._changed = threading.Condition()
        self._stopped = self._read_only = False
        self.dropped = self.expired = self.unwritten = 0
        self._waiting: deque[Message] = deque()
        self._open: set[str] = set()
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = self._locked()
            for unfinished in self._directory.glob("*.tmp"):
                unfinished.unlink()
            for path in sorted(path for path in self._directory.iterdir() if NAMES.fullmatch(path.name)):
                found = path.stat()
                age = max(0.0, self._clock.wall() - found.st_mtime)
                self._waiting.append(Message(path.name, _on_disk(found.st_size), self._clock.monotonic() - age))
        except OSError as error:
            raise StorageError(
                f"{directory} cannot hold the spool ({error.strerror}); name another directory"
            ) from error
        self._total = sum(message.size for message in self._waiting)
        self._serial = int(self._waiting[-1].name.partition(".")[0]) + 1 if self._waiting else 0
        self._end_interrupted()

    def __len__(self) -> int:
        """Return how many messages wait."""
        return len(self._waiting)

    def put(self, key: str, data: bytes, *, kind: Kind | None = None) -> None:
        """Add a message; one that cannot be written is kept in memory, or lost, which is logged.

        Args:
            key: unique; that of an event's record.
            data: its content.
            kind: of the record: after `begin`, the event is open until its `end`.
        """
        with self._changed:
            message = Message(f"{self._serial:012}.{key}.json", _on_disk(len(data)), self._clock.monotonic())
            self._serial += 1
            try:
                self._write_record(message, data, kind)
            except OSError as error:
                if not lacks_room(error) or self.unwritten >= MOST_IN_MEMORY:
                    self._log_lost(f"a message is lost: {error}")
                    return
                message = message._replace(size=0, data=data)
                self.unwritten += 1
                if self.unwritten == 1:
                    logger.warning("messages are kept in memory until they are sent: %s", error)
            self._waiting.append(message)
            self._total += message.size
            while self._total > self._max_bytes and len(self._waiting) > 1:
                self._give_up_oldest()
                self._log_lost(
                    f"{self._directory} is full: the oldest messages are given up; "
                    f"give it more than max_bytes={self._max_bytes}"
                )
            self._changed.notify_all()

    def peek(self) -> tuple[Message, bytes] | None:
        """Return the oldest message and its content, waiting for one; None once the spool is stopped."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._stopped)
                if self._stopped:
                    return None
                if self._is_expired(self._waiting[0]):
                    self._give_up_expired()
                    continue
                message = self._waiting[0]
                try:
                    return message, self._read(message)
                except OSError as error:
                    self._give_up_oldest()
                    self._log_lost(f"a message in {self._directory} cannot be read ({error.strerror}); it is given up")

    def age(self, message: Message) -> float:
        """Return for how many seconds a message has waited."""
        return max(0.0, self._clock.monotonic() - message.made)

    def remove(self, message: Message, *, sent: bool = True) -> None:
        """Delete a message that was sent, or never will be, unless it is gone already, for want of room."""
        with self._changed:
            if self._waiting and self._waiting[0] == message:
                if sent:
                    self._delete_oldest()
                else:
                    self._give_up_oldest()
            self._changed.notify_all()

    def wait_until_empty(self, timeout: float) -> None:
        """Wait until no message is left, up to so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, timeout)

    def stop(self) -> None:
        """Let `peek` return at once."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def close(self) -> None:
        """Let another process use the directory."""
        if self._lock:
            self._lock.close()

    def _locked(self) -> IO[str] | None:
        """Lock the directory for this process; the system unlocks it however the process ends."""
        if sys.platform == "win32":
            return None
        import fcntl

        lock = (self._directory / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise BlockingIOError(0, "another process uses it") from None
        return lock

    def _write_record(self, message: Message, data: bytes, kind: Kind | None) -> None:
        """Write a message and what is known of its event, so that at no moment one of the two is missing for good."""
        event = event_of(message.key)
        if kind == "end" and event in self._open:
            self._write(_open_name(event), data)
            self._close_event(event, message)
            return
        if kind == "update" and event in self._open:  # before the message, whose number the end must exceed
            self._write(_open_name(event), data)
        self._write(message.name, data)
        if kind == "begin":
            self._open.add(event)
            try:
                self._write(_open_name(event), data)
            except OSError as error:
                logger.warning("a crash would leave event %s without its end: %s", event, error)

    def _close_event(self, event: str, message: Message) -> None:
        """Make the file of an open event its last message."""
        (self._directory / _open_name(event)).rename(self._directory / message.name)
        self._sync_directory()
        self._open.discard(event)

    def _end_interrupted(self) -> None:
        """End the events that were open when the process before ended."""
        opened = {found[1] for path in self._directory.iterdir() if (found := OPEN_NAMES.fullmatch(path.name))}
        last = {event_of(message.key): message for message in self._waiting}
        begun = {event_of(message.key) for message in self._waiting if BEGINNINGS.fullmatch(message.key)}
        ended = 0
        for event in sorted(opened | begun):
            try:
                ended += self._end_event(event, last.get(event), opened=event in opened)
            except (OSError, ValueError) as error:
                logger.warning("the end of event %s is lost: %s", event, error)
                self._unlink(_open_name(event))
        if ended:
            logger.info("%s: %d events were interrupted and end now", self._directory, ended)

    def _end_event(self, event: str, last: Message | None, *, opened: bool) -> bool:
        """Put the last message of an event, unless it waits already; return whether the event was interrupted."""
        path = self._directory / _open_name(event)
        if last and kind_of(self._read(last)) == "end":
            path.unlink(missing_ok=True)
            return False
        data = path.read_bytes() if opened or last is None else self._read(last)
        was_ended = kind_of(data) == "end"
        key, data = interrupted(data)
        if not was_ended:
            self._write(path.name, data)
        message = Message(f"{self._serial:012}.{key}.json", _on_disk(len(data)), self._clock.monotonic())
        self._close_event(event, message)
        self._serial += 1
        self._waiting.append(message)
        self._total += message.size
        return not was_ended

    def _write(self, name: str, data: bytes) -> None:
        """Write a file to the disk."""
        with atomic_write(self._directory / name) as path, path.open("wb") as file:
            file.write(data)
            file.flush()
            if self._sync:
                os.fsync(file.fileno())
        self._sync_directory()

    def _sync_directory(self) -> None:
        """Flush the names of files to the disk."""
        if self._sync and sys.platform != "win32":  # which opens no directories
            directory = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def _read(self, message: Message) -> bytes:
        """Return the content of a message."""
        return (self._directory / message.name).read_bytes() if message.data is None else message.data

    def _is_expired(self, message: Message) -> bool:
        """Return whether a message is too old to be sent: all but the end of an event, which closes what began."""
        if self._max_age is None or self.age(message) <= self._max_age:
            return False
        try:
            kind = kind_of(self._read(message))
        except (OSError, ValueError):
            return False
        return kind == "update" or (kind == "begin" and self._end_of(message) is not None)

    def _end_of(self, begin: Message) -> Message | None:
        """Return the end of an event that waits as well."""
        event = event_of(begin.key)
        for message in reversed(self._waiting):
            if event_of(message.key) == event:
                try:
                    return message if kind_of(self._read(message)) == "end" else None
                except (OSError, ValueError):
                    return None
        return None

    def _give_up_expired(self) -> None:
        """Give up the oldest message, and with the beginning of an event all of it, the end first."""
        first = self._waiting[0]
        event = event_of(first.key) if BEGINNINGS.fullmatch(first.key) else None
        lost = [first] if event is None else [each for each in self._waiting if event_of(each.key) == event]
        for message in reversed(lost):
            self._waiting.remove(message)
            self._delete(message)
        self.expired += len(lost)
        if is_power_of_two(self.expired):
            logger.warning("events are given up that are over for more than max_age=%g s", self._max_age)
        self._changed.notify_all()

    def _give_up_oldest(self) -> None:
        """Delete the oldest message, which was not sent; an event that never began does not end by itself."""
        if BEGINNINGS.fullmatch(self._waiting[0].key):
            self._forget(event_of(self._waiting[0].key))
        self._delete_oldest()

    def _delete_oldest(self) -> None:
        """Delete the oldest message."""
        self._delete(self._waiting.popleft())

    def _delete(self, message: Message) -> None:
        """Delete the file of a message."""
        self._total -= message.size
        if message.data is None:
            self._unlink(message.name)
            return
        self.unwritten -= 1
        if kind_of(message.data) == "end":
            self._forget(event_of(message.key))

    def _forget(self, event: str) -> None:
        """Delete the file of an event that needs no end any more."""
        if event in self._open:
            self._open.discard(event)
            self._unlink(_open_name(event))

    def _unlink(self, name: str) -> None:
        """Delete a file; a message that cannot be deleted is sent again by the next run."""
        try:
            (self._directory / name).unlink(missing_ok=True)
        except OSError as error:  # as of a card that turned read-only
            if not self._read_only:
                logger.warning("messages in %s cannot be deleted (%s); check the disk", self._directory, error.strerror)
            self._read_only = True

    def _log_lost(self, message: str) -> None:
        """Count a lost message, and log some of the losses."""
        self.dropped += 1
        if is_power_of_two(self.dropped):
            logger.warning("%s (%d so far)", message, self.dropped)


def _open_name(event: str) -> str:
    """Return the name of the file of an open event."""
    return f"open.{event}.json"


def _on_disk(size: int) -> int:
    """Return what a file of some bytes takes on disk."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES
