"""Embeddings that are kept on disk as they are made, so that an interrupted run goes on where it ended."""

import base64
import binascii
import hashlib
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from clapedge.arrays import Float32Array
from clapedge.errors import StorageError

if TYPE_CHECKING:
    from typing_extensions import Self

JOURNAL_NAME = "embeddings.jsonl"


class _Line(msgspec.Struct):
    """One embedding: its key and its float32 values, little-endian, in base64."""

    key: str
    row: str


class EmbeddingJournal:
    """A file that grows by a line an embedding; a line that was cut off in its middle is made again."""

    def __init__(self, directory: Path | None) -> None:
        """Read what earlier runs left in `directory`; None keeps nothing.

        Raises:
            StorageError: the directory cannot be written to, or what is there cannot be read.
        """
        self._rows: dict[str, Float32Array] = {}
        self._stream = None
        if directory is None:
            return
        path = directory / JOURNAL_NAME
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if path.exists():
                for line in path.read_bytes().splitlines():
                    self._read(line)
            self._stream = path.open("ab")
            self._stream.write(b"\n" if path.stat().st_size else b"")
        except OSError as error:
            raise StorageError(
                f"{directory} cannot be written to ({error.strerror}); name another with --work"
            ) from error

    def __enter__(self) -> "Self":
        """Return the journal itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        if self._stream is not None:
            with suppress(OSError):  # what did not fit on the disk `put` has said already
                self._stream.close()

    def get(self, key: str) -> Float32Array | None:
        """Return an embedding (E,) that is known, or None."""
        return self._rows.get(key)

    def put(self, key: str, row: Float32Array) -> None:
        """Keep an embedding (E,).

        Raises:
            StorageError: the disk is full.
        """
        self._rows[key] = row
        if self._stream is None:
            return
        line = _Line(key, base64.b64encode(row.astype("<f4").tobytes()).decode())
        try:
            self._stream.write(msgspec.json.encode(line) + b"\n")
            self._stream.flush()
        except OSError as error:
            raise StorageError(
                f"{self._stream.name} cannot be written ({error.strerror}); make room, or name another with --work"
            ) from error

    def _read(self, line: bytes) -> None:
        """Take one line up if it is whole."""
        try:
            entry = msgspec.json.decode(line, type=_Line)
            row = np.frombuffer(base64.b64decode(entry.row, validate=True), "<f4")
        except (msgspec.MsgspecError, binascii.Error, ValueError):
            return
        self._rows[entry.key] = row.astype(np.float32)


def journal_key(path: Path, tower: str, hearing: object) -> str:
    """Name an embedding by all that it depends on.

    Args:
        path: the recording; its bytes count, not its name.
        tower: SHA-256 of the tower's file.
        hearing: how the recording is heard, as JSON can tell it.

    Raises:
        OSError: the recording cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return hashlib.sha256(f"{digest.hexdigest()} {tower} {msgspec.json.encode(hearing)!r}".encode()).hexdigest()
