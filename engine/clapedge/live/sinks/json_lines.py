"""Records as JSON Lines."""

from collections.abc import Sequence
from typing import TextIO

from clapedge.errors import StorageError
from clapedge.live.records import EventRecord


class JsonLinesSink:
    """Writes each record as a line, flushed at once."""

    def __init__(self, stream: TextIO, *, name: str = "standard output") -> None:
        """Write to a text stream, which messages call by its name."""
        self._stream, self._name = stream, name

    def write(self, record: EventRecord, data: bytes) -> None:  # noqa: ARG002 - as all sinks
        """Write a line.

        Raises:
            StorageError: the stream cannot be written to.
        """
        try:
            self._stream.write(f"{data.decode()}\n")
            self._stream.flush()
        except OSError as error:
            raise StorageError(
                f"events cannot be written to {self._name} ({error.strerror}); start it again"
            ) from error

    def close(self) -> None:
        """Do nothing: every line was flushed."""

    def notes(self) -> Sequence[str]:
        """Return nothing: no line is lost."""
        return ()
