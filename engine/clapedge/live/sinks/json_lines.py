"""Records as JSON Lines."""

import logging
import threading
from collections.abc import Sequence
from typing import TextIO

from clapedge.errors import StorageError
from clapedge.live.backoff import is_power_of_two
from clapedge.live.disk import lacks_room
from clapedge.live.records import Record

logger = logging.getLogger("clapedge.live")


class JsonLinesSink:
    """Writes each record as a line, flushed at once.

    Attributes:
        failure: why lines were lost, if some were.
    """

    def __init__(self, stream: TextIO, *, name: str = "standard output") -> None:
        """Write to a text stream, which messages call by its name."""
        self._stream, self._name = stream, name
        self._lost = 0
        self._lock = threading.Lock()  # several sources may share it
        self.failure: StorageError | None = None

    def write(self, record: Record, data: bytes) -> None:  # noqa: ARG002 - as all sinks
        """Write a line; on a full disk it is lost, which is logged, and other sinks go on.

        Raises:
            StorageError: the stream cannot be written to.
        """
        try:
            with self._lock:
                self._stream.write(f"{data.decode()}\n")
                self._stream.flush()
        except OSError as error:
            self.failure = StorageError(
                f"events cannot be written to {self._name} ({error.strerror}); "
                + ("make room" if lacks_room(error) else "start it again")
            )
            if not lacks_room(error):
                raise self.failure from error
            self._lost += 1
            if is_power_of_two(self._lost):
                logger.warning("%s", self.failure)

    def close(self) -> None:
        """Do nothing: every line was flushed."""

    def notes(self) -> Sequence[str]:
        """Return what a full disk has lost."""
        return [f"{self._name} had no room for {self._lost} events"] if self._lost else []
