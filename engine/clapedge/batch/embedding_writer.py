"""Adding to an embedding store, which grows at its ends alone.

A recording is kept once its line in the index is whole; what a killed process left behind that is cut off by the next
one that writes.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np

from clapedge.atomic_file import atomic_write
from clapedge.batch.embedding_store import EmbeddingStore
from clapedge.batch.fingerprint import Stamp
from clapedge.batch.store_files import (
    CONFIG_NAME,
    HEADER_BYTES,
    INDEX_NAME,
    ROWS_NAME,
    EmbeddingConfig,
    Entry,
    is_empty,
    read_config,
    read_index,
    storage_errors,
)
from clapedge.errors import StorageError, UsageError
from clapedge.scoring.result import RecordingEmbeddings

if sys.platform != "win32":
    import fcntl


class EmbeddingWriter(EmbeddingStore):
    """A store that recordings are added to; one process at a time, see `appending`."""

    def __init__(
        self, directory: Path, config: EmbeddingConfig, entries: Iterable[Entry], *, index: BinaryIO, rows: BinaryIO
    ) -> None:
        """Write to the files of the index and of the rows; use `appending`."""
        super().__init__(directory, config, entries)
        self._index, self._rows = index, rows
        self._rows.truncate(HEADER_BYTES + self._end * config.row_bytes)
        self._write_header(self._end)

    def add(self, file: str, stamp: Stamp, sha256: str, recording: RecordingEmbeddings) -> None:
        """Keep the embeddings of a recording.

        Raises:
            StorageError: they cannot be written.
        """
        place = recording.coverage
        entry = Entry(
            file, stamp, sha256, self._end, recording.spans, place.start, place.end, place.duration, recording.warnings
        )
        with storage_errors(self.directory):
            self._rows.seek(HEADER_BYTES + self._end * self.config.row_bytes)
            _write(self._rows, np.ascontiguousarray(recording.clips, "<f4").tobytes())
            self._write_header(entry.rows.stop)
        self._add_line(entry)

    def add_copy(self, file: str, stamp: Stamp, known: Entry) -> None:
        """Keep that a file holds the bytes of a known one."""
        self._add_line(msgspec.structs.replace(known, file=file, stamp=stamp))

    def _add_line(self, entry: Entry) -> None:
        """Write the line that makes an entry count."""
        with storage_errors(self.directory):
            _write(self._index, msgspec.json.encode(entry) + b"\n")
        self._register(entry)

    def _write_header(self, rows: int) -> None:
        """Write the header of `embeddings.npy` for so many rows (NumPy's format 1.0)."""
        shape = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {self.config.embedding_size}), }}"
        start = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
        self._rows.seek(0)
        _write(self._rows, start + shape.ljust(HEADER_BYTES - len(start) - 1).encode() + b"\n")


@contextmanager
def appending(directory: str | os.PathLike[str], config: EmbeddingConfig) -> Iterator[EmbeddingWriter]:
    """Open a store to add to it, or begin one.

    Raises:
        UsageError: its embeddings were made in another way.
        StorageError: it cannot be written, is damaged, or another process writes to it.
    """
    path = Path(directory)
    with storage_errors(path):
        _begin(path)
        (path / ROWS_NAME).touch()
        with (
            (path / INDEX_NAME).open("ab", buffering=0) as index,
            (path / ROWS_NAME).open("r+b", buffering=0) as rows,
        ):
            _lock(index, path)
            _check_config(path, config)
            known = read_index(path, config)
            _blank(path / INDEX_NAME, known.unusable)
            index.truncate(known.size)
            yield EmbeddingWriter(path, config, known.entries, index=index, rows=rows)


def _begin(path: Path) -> None:
    """Make the directory, or check that it is a store's."""
    path.mkdir(exist_ok=True)
    own = {CONFIG_NAME + ".tmp", INDEX_NAME, ROWS_NAME}
    if read_config(path) is None and (not is_empty(path) or any(child.name not in own for child in path.iterdir())):
        raise StorageError(f"{path} holds other files and no {CONFIG_NAME}; name another directory for embeddings")


def _check_config(path: Path, config: EmbeddingConfig) -> None:
    """Write `archive.json` where nothing was added yet, or check that what was added was made in the same way."""
    found = read_config(path)
    difference = found and found.difference(config)
    if found and not difference:
        return
    if found is None or is_empty(path):
        with atomic_write(path / CONFIG_NAME) as temporary:
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n")
        return
    raise UsageError(f"{path} was made with {difference}; use the same options and bundle, or another directory")


def _blank(index: Path, lines: Sequence[tuple[int, int]]) -> None:
    """Write spaces over lines (where they begin, bytes), whose recordings will be embedded again."""
    with index.open("r+b", buffering=0) as file:
        for begin, size in lines:
            file.seek(begin)
            _write(file, b" " * size)


def _lock(file: BinaryIO, path: Path) -> None:
    """Keep other processes from writing to the store, until the file is closed or this process ends."""
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(f"{path} is being written by another process; wait for it to end") from error


def _write(file: BinaryIO, data: bytes) -> None:
    """Write all of it to an unbuffered file, which may take a part at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
