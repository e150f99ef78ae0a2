"""Messages on disk until they are delivered: they survive a broker that is down, a restart, and a power cut.

A message is a file that appears whole or not at all; its name holds its place in the order and its key. Beyond a bound
the oldest go. A file is deleted once its message was delivered, so that after a crash in between it is sent a second
time, with the same key.
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
from clapedge.live.backoff import is_power_of_two

logger = logging.getLogger("clapedge.live")

BLOCK_BYTES = 4096
"""What a small file takes on disk."""

NAMES = re.compile(r"(\d{12})\.([0-9a-f]+-\d+-\d+)\.json")


class Message(NamedTuple):
    """A message that waits."""

    name: str
    size: int

    @property
    def key(self) -> str:
        """Its unique key."""
        return self.name.split(".")[1]


class Spool:
    """A bounded queue of messages in a directory of its own.

    Attributes:
        dropped: messages that were given up because there was no room.
    """

    def __init__(self, directory: str | os.PathLike[str], *, max_bytes: int, sync: bool = True) -> None:
        """Open or make the directory; what waits in it from earlier runs comes first.

        Args:
            directory: where messages lie.
            max_bytes: how much disk they may take.
            sync: whether each is flushed to the disk, so that a power cut takes none.

        Raises:
            StorageError: it cannot be used, or another process uses it.
        """
        self._directory, self._max_bytes, self._sync = Path(directory), max_bytes, sync
        self._changed = threading.Condition()
        self._stopped = self._read_only = False
        self.dropped = 0
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._lock = self._locked()
            for unfinished in self._directory.glob("*.tmp"):
                unfinished.unlink()
            names = sorted(path.name for path in self._directory.iterdir() if NAMES.fullmatch(path.name))
            self._waiting = deque(Message(name, _on_disk((self._directory / name).stat().st_size)) for name in names)
        except OSError as error:
            raise StorageError(
                f"{directory} cannot hold the spool ({error.strerror}); name another directory"
            ) from error
        self._total = sum(message.size for message in self._waiting)
        self._serial = int(names[-1].partition(".")[0]) + 1 if names else 0

    def __len__(self) -> int:
        """Return how many messages wait."""
        return len(self._waiting)

    def put(self, key: str, data: bytes) -> None:
        """Add a message; one that cannot be written is lost, which is logged."""
        with self._changed:
            message = Message(f"{self._serial:012}.{key}.json", _on_disk(len(data)))
            self._serial += 1
            try:
                self._write(message.name, data)
            except OSError as error:
                self._log_lost(f"a message is lost: {error}")
                return
            self._waiting.append(message)
            self._total += message.size
            while self._total > self._max_bytes and len(self._waiting) > 1:
                self._delete_oldest()
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
                message = self._waiting[0]
                try:
                    return message, (self._directory / message.name).read_bytes()
                except OSError as error:
                    self._delete_oldest()
                    self._log_lost(f"a message in {self._directory} cannot be read ({error.strerror}); it is given up")

    def remove(self, message: Message) -> None:
        """Delete a message that was delivered, unless it is gone already, for want of room."""
        with self._changed:
            if self._waiting and self._waiting[0] == message:
                self._delete_oldest()
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

    def _write(self, name: str, data: bytes) -> None:
        """Write a message to the disk."""
        with atomic_write(self._directory / name) as path, path.open("wb") as file:
            file.write(data)
            file.flush()
            if self._sync:
                os.fsync(file.fileno())
        if self._sync and sys.platform != "win32":  # which opens no directories
            directory = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def _delete_oldest(self) -> None:
        """Delete the oldest message; one that cannot be deleted is sent again by the next run."""
        message = self._waiting.popleft()
        self._total -= message.size
        try:
            (self._directory / message.name).unlink(missing_ok=True)
        except OSError as error:  # as of a card that turned read-only
            if not self._read_only:
                logger.warning("messages in %s cannot be deleted (%s); check the disk", self._directory, error.strerror)
            self._read_only = True

    def _log_lost(self, message: str) -> None:
        """Count a lost message, and log some of the losses."""
        self.dropped += 1
        if is_power_of_two(self.dropped):
            logger.warning("%s (%d so far)", message, self.dropped)


def _on_disk(size: int) -> int:
    """Return what a file of some bytes takes on disk."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES
