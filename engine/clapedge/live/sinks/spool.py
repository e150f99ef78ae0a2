"""Messages on disk until someone has taken them: they survive a broker that is down, a restart, and a power cut.

A message is a file, written under a temporary name and moved, so that it is there whole or not at all; its name holds
its place in the order and its key. Beyond a bound the oldest go. A file is deleted once its message was taken, so that
after a crash in between it is sent a second time, with the same key.
"""

import os
import re
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

from clapedge.errors import StorageError

BLOCK_BYTES = 4096
"""What a small file takes on disk."""

NAMES = re.compile(r"(\d{12})\.([0-9a-f]+-\d+-\d+)\.json")


class Message(NamedTuple):
    """A message that waits."""

    name: str
    size: int

    @property
    def key(self) -> str:
        """What tells it from every other message."""
        return self.name.split(".")[1]


class Spool:
    """A bounded queue of messages in a directory that belongs to it alone.

    Attributes:
        dropped: messages that were given up because there was no room.
    """

    def __init__(
        self, directory: str | os.PathLike[str], *, most_bytes: int, sync: bool = True, say: Callable[[str], None]
    ) -> None:
        """Open or make the directory; what waits in it from earlier runs comes first.

        Args:
            directory: where messages lie.
            most_bytes: how much disk they may take.
            sync: whether each is forced to the disk, so that a power cut takes none.
            say: tells people.

        Raises:
            StorageError: it cannot be used, or another process uses it.
        """
        self._directory, self._most, self._sync, self._say = Path(directory), most_bytes, sync, say
        self._changed = threading.Condition()
        self._woken = self._stuck = False
        self.dropped = 0
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._lock = self._locked()
            for left in self._directory.glob("*.part"):
                left.unlink()
            names = sorted(path.name for path in self._directory.iterdir() if NAMES.fullmatch(path.name))
            self._waiting = deque(Message(name, _on_disk((self._directory / name).stat().st_size)) for name in names)
        except OSError as error:
            raise StorageError(f"{directory} cannot hold the spool ({error.strerror}); name another --spool") from error
        self._total = sum(message.size for message in self._waiting)
        self._serial = int(names[-1].partition(".")[0]) + 1 if names else 0

    def __len__(self) -> int:
        """Return how many messages wait."""
        return len(self._waiting)

    def put(self, key: str, data: bytes) -> None:
        """Add a message; one that cannot be written is given up, and that is said."""
        with self._changed:
            message = Message(f"{self._serial:012}.{key}.json", _on_disk(len(data)))
            self._serial += 1
            try:
                self._write(message.name, data)
            except OSError as error:
                self._give_up(f"a message cannot be written to {self._directory} ({error.strerror}); make room")
                return
            self._waiting.append(message)
            self._total += message.size
            while self._total > self._most and len(self._waiting) > 1:
                self._remove(self._waiting[0])
                self._give_up(f"{self._directory} is full: the oldest messages are given up; see --spool-bytes")
            self._changed.notify_all()

    def first(self) -> tuple[Message, bytes] | None:
        """Return the oldest message and its content, waiting for one; None once nobody is to wait any more."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._woken)
                if self._woken:
                    return None
                message = self._waiting[0]
                try:
                    return message, (self._directory / message.name).read_bytes()
                except OSError as error:
                    self._remove(message)
                    self._give_up(f"a message in {self._directory} cannot be read ({error.strerror}); it is given up")

    def wake(self) -> None:
        """Keep nobody waiting any more."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def done(self, message: Message) -> None:
        """Delete a message that was taken; it may be gone already, for want of room."""
        with self._changed:
            if self._waiting and self._waiting[0] == message:
                self._remove(message)
            self._changed.notify_all()

    def drained(self, timeout: float) -> bool:
        """Wait until nothing waits any more, so many seconds at most; return whether it is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout)

    def close(self) -> None:
        """Let another process use the directory."""
        if self._lock:
            self._lock.close()

    def _locked(self) -> IO[str] | None:
        """Take the directory for this process; the system gives it back however the process ends."""
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
        """Write a file that is there whole or not at all."""
        part = self._directory / f"{name}.part"
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                if self._sync:
                    os.fsync(file.fileno())
            part.replace(self._directory / name)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        if self._sync and sys.platform != "win32":  # which opens no directories
            directory = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def _remove(self, message: Message) -> None:
        """Delete the oldest message; one that cannot be deleted is sent again by the next run."""
        self._waiting.popleft()
        self._total -= message.size
        try:
            (self._directory / message.name).unlink(missing_ok=True)
        except OSError as error:  # as of a card that turned read-only
            if not self._stuck:
                self._say(f"messages in {self._directory} cannot be deleted ({error.strerror}); check the disk")
            self._stuck = True

    def _give_up(self, words: str) -> None:
        """Count a message that is lost, and say so the first time, and after each doubling."""
        self.dropped += 1
        if self.dropped & (self.dropped - 1) == 0:
            self._say(f"{words} ({self.dropped} so far)")


def _on_disk(size: int) -> int:
    """Return what a file of some bytes takes on disk."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES
