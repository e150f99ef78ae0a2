"""Embeddings kept on disk, so that other labels need no audio: an archive is a directory of three files.

`archive.json` says how the embeddings were made, `embeddings.npy` holds them, one row a clip, and `index.jsonl` has one
line a recording: its name, size, time and SHA-256, its rows, and what was heard. An archive grows at its ends alone. A
recording is kept once its line is whole; what a killed process left behind that is cut off by the next one that writes.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from clapedge.arrays import Float32Array
from clapedge.atomic_file import atomic_write
from clapedge.errors import ClapEdgeError, StorageError, UsageError
from clapedge.features.front_end import FrontEnd
from clapedge.scoring.result import Coverage, Provenance, RecordingEmbeddings
from clapedge.scoring.similarity import mean_embedding
from clapedge.validation import describe_mismatch

if sys.platform != "win32":
    import fcntl

SCHEMA_VERSION = 1
"""Version of the layout; an archive with another one is refused."""

CONFIG_NAME, ROWS_NAME, INDEX_NAME = "archive.json", "embeddings.npy", "index.jsonl"

HEADER_BYTES = 128
"""Of `embeddings.npy`: enough for any shape, so that it can be written anew in place."""

OptionValue: TypeAlias = str | int | float | None


class EmbeddingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How embeddings were made: all that changes them, and what their results say of it."""

    schema: int = SCHEMA_VERSION
    model: str
    weights: str
    variant: str
    provider: str
    audio_tower: str
    """SHA-256 of the audio tower's file."""
    text_tower: str | None
    """SHA-256 of the text tower's FP32 file: labels embedded by another one do not fit."""
    embedding_size: int
    front_end: FrontEnd
    fusion: str
    options: dict[str, OptionValue] = msgspec.field(name="hearing")
    """The fields of `RecordingOptions` that were given."""

    @property
    def provenance(self) -> Provenance:
        """What results of the embeddings say of how they were made."""
        return Provenance(self.model, self.weights, self.variant, self.provider)


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """What tells a changed file from an unchanged one without reading it: bytes, and nanoseconds of its last change."""

    bytes: int
    modified: int


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A recording in an archive: its first row, what each of its rows hears, and what they hear together, in seconds.

    Flat, and unknown to the garbage collector, which would go through 100,000 of them again and again.
    """

    file: str
    stamp: Stamp
    sha256: str
    row: int
    spans: tuple[tuple[float, float], ...]
    start: float
    end: float
    of: float
    warnings: tuple[str, ...]

    @property
    def rows(self) -> range:
        """The rows of its clips."""
        return range(self.row, self.row + len(self.spans))

    @property
    def coverage(self) -> Coverage:
        """The span that the clips cover."""
        return Coverage(self.start, self.end, self.of)


class EmbeddingStore:
    """Embeddings of recordings, by name and by content.

    Attributes:
        directory: where they are kept.
        config: how they were made.
        by_file: the newest entry of each name.
    """

    def __init__(self, directory: Path, config: EmbeddingConfig, entries: Iterable[Entry]) -> None:
        """Join what was read; use `EmbeddingStore.open`, or `appending`."""
        self.directory = directory
        self.config = config
        self.by_file: dict[str, Entry] = {}
        self._by_hash: dict[str, Entry] = {}
        self._end = 0
        for entry in entries:
            self._learn(entry)

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> "EmbeddingStore":
        """Read an archive.

        Raises:
            StorageError: there is none, or it is damaged.
        """
        path = Path(directory)
        try:
            config = _read_config(path)
            if config is None:
                raise StorageError(f"{path} holds no embeddings; make them with: clapedge embed PATH -o {path}")
            entries, _, lost = _read_index(path, config)
            if lost:
                raise StorageError(
                    f"{path / ROWS_NAME} is cut off: {lost} of the {len(entries) + lost} recordings of its index have "
                    f"no embeddings there; embed those again with: clapedge embed PATH -o {path}"
                )
            if not entries:
                raise StorageError(f"{path} holds no whole embedding; make them with: clapedge embed PATH -o {path}")
            return cls(path, config, entries)
        except OSError as error:
            if isinstance(error, ClapEdgeError):  # some of them are OSErrors too
                raise
            raise _storage_error(path, error) from error

    def unchanged(self, file: str, stamp: Stamp) -> bool:
        """Tell whether a file is known and has not been touched since."""
        known = self.by_file.get(file)
        return known is not None and known.stamp == stamp

    def same_content(self, sha256: str) -> Entry | None:
        """Return an entry of the same bytes, under whatever name."""
        return self._by_hash.get(sha256)

    def embeddings(self, entries: Sequence[Entry]) -> Float32Array:
        """Return one unit embedding a recording: (N, E) float32."""
        stored = self.clips()
        rows: Float32Array = np.array(stored[[entry.row for entry in entries]], np.float32)
        for row, entry in zip(rows, entries, strict=True):
            if len(entry.spans) > 1:
                row[:] = mean_embedding(stored[entry.rows])
        return rows

    def clips(self) -> Float32Array:
        """Return the embeddings of all clips, (rows, E) float32, mapped from the file: it is read where it is used.

        Raises:
            StorageError: the file is not what the index says.
        """
        path = self.directory / ROWS_NAME
        try:
            rows: npt.NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise StorageError(f"{path} is damaged ({error}); delete {self.directory} and embed again") from error
        if rows.dtype != np.float32 or rows.shape[1:] != (self.config.embedding_size,) or len(rows) < self._end:
            raise StorageError(f"{path} is not the file of its index; delete {self.directory} and embed again")
        return rows

    def _learn(self, entry: Entry) -> None:
        """Take an entry into account; a newer one of the same name replaces the older."""
        self.by_file[entry.file] = entry
        self._by_hash.setdefault(entry.sha256, entry)
        self._end = max(self._end, entry.rows.stop)


class EmbeddingWriter(EmbeddingStore):
    """An archive that recordings are added to; one process at a time, see `appending`."""

    def cut(self, index: BinaryIO, rows: BinaryIO, index_bytes: int) -> None:
        """Write to these files, after cutting off what a killed process left behind the last whole entry."""
        self._index, self._rows = index, rows
        self._index.truncate(index_bytes)
        self._rows.truncate(HEADER_BYTES + self._end * self._row_bytes)
        self._write_header(self._end)

    def add(self, file: str, stamp: Stamp, sha256: str, recording: RecordingEmbeddings) -> None:
        """Keep the embeddings of a recording.

        Raises:
            StorageError: they cannot be written.
        """
        spans = tuple((round(start, 3), round(end, 3)) for start, end in recording.spans)
        covered = recording.coverage
        entry = Entry(
            file, stamp, sha256, self._end, spans, covered.start, covered.end, covered.duration, recording.warnings
        )
        try:
            self._rows.seek(HEADER_BYTES + self._end * self._row_bytes)
            _write(self._rows, np.ascontiguousarray(recording.clips, "<f4").tobytes())
            self._write_header(entry.rows.stop)
        except OSError as error:
            raise _storage_error(self.directory, error) from error
        self._record(entry)

    def add_copy(self, file: str, stamp: Stamp, known: Entry) -> None:
        """Keep that a file holds the bytes of a known one."""
        self._record(msgspec.structs.replace(known, file=file, stamp=stamp))

    def _record(self, entry: Entry) -> None:
        """Write the line that makes an entry count."""
        try:
            _write(self._index, msgspec.json.encode(entry) + b"\n")
        except OSError as error:
            raise _storage_error(self.directory, error) from error
        self._learn(entry)

    def _write_header(self, rows: int) -> None:
        """Say in `embeddings.npy` how many rows it holds (NumPy's format 1.0)."""
        shape = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {self.config.embedding_size}), }}"
        start = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
        self._rows.seek(0)
        _write(self._rows, start + shape.ljust(HEADER_BYTES - len(start) - 1).encode() + b"\n")

    @property
    def _row_bytes(self) -> int:
        """Bytes of one embedding."""
        return 4 * self.config.embedding_size


@contextmanager
def appending(directory: str | os.PathLike[str], config: EmbeddingConfig) -> Iterator[EmbeddingWriter]:
    """Open an archive to add to it, or begin one.

    Raises:
        UsageError: it was made in another way.
        StorageError: it cannot be written, is damaged, or another process writes to it.
    """
    path = Path(directory)
    try:
        _begin(path)
        (path / ROWS_NAME).touch()
        with (
            (path / INDEX_NAME).open("ab", buffering=0) as index,
            (path / ROWS_NAME).open("r+b", buffering=0) as rows,
        ):
            _lock(index, path)
            _agree(path, config)
            entries, index_bytes, _ = _read_index(path, config)
            archive = EmbeddingWriter(path, config, entries)
            archive.cut(index, rows, index_bytes)
            yield archive
    except OSError as error:
        if isinstance(error, ClapEdgeError):  # some of them are OSErrors too
            raise
        raise _storage_error(path, error) from error


def _begin(path: Path) -> None:
    """Make the directory, or check that it is an archive's."""
    path.mkdir(exist_ok=True)
    own = {CONFIG_NAME + ".tmp", INDEX_NAME, ROWS_NAME}
    if _read_config(path) is None and (not _is_empty(path) or any(child.name not in own for child in path.iterdir())):
        raise StorageError(f"{path} holds other files and no {CONFIG_NAME}; name another directory for embeddings")


def _agree(path: Path, config: EmbeddingConfig) -> None:
    """Write `archive.json` where nothing was added yet, or check that what was added was made in the same way."""
    found = _read_config(path)
    if found == config:
        return
    if found is None or _is_empty(path):
        with atomic_write(path / CONFIG_NAME) as temporary:
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n")
        return
    was, now = _flat(found), _flat(config)
    differing = next(name for name in {**was, **now} if was.get(name) != now.get(name))
    raise UsageError(
        f"{path} was made with {differing} {was.get(differing)}, not {now.get(differing)}; "
        "use the same options and bundle, or another directory"
    )


def _is_empty(path: Path) -> bool:
    """Tell whether nothing was added to an archive yet."""
    index = path / INDEX_NAME
    return not index.exists() or index.stat().st_size == 0


def _flat(config: EmbeddingConfig) -> dict[str, object]:
    """Return how embeddings were made, an option each."""
    entries: dict[str, Any] = msgspec.to_builtins(config)
    parts = (entries.pop("front_end"), entries.pop("hearing"))
    return {**entries, **parts[0], **parts[1]}


def _read_config(path: Path) -> EmbeddingConfig | None:
    """Read how an archive was made; None if there is none."""
    try:
        raw = (path / CONFIG_NAME).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        config = msgspec.json.decode(raw, type=EmbeddingConfig)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        reason = describe_mismatch(error) if isinstance(error, msgspec.MsgspecError) else error
        raise StorageError(f"{path / CONFIG_NAME} is damaged ({reason}); delete {path} and embed again") from error
    if config.schema != SCHEMA_VERSION:
        raise StorageError(f"{path} has layout {config.schema}, this clapedge reads {SCHEMA_VERSION}; embed again")
    return config


def _read_index(path: Path, config: EmbeddingConfig) -> tuple[list[Entry], int, int]:
    """Read the entries that are whole.

    Returns:
        They, the bytes that they take up, and how many more there are whose rows are missing: so after a power failure.
    """
    try:
        lines = (path / INDEX_NAME).read_bytes().splitlines(keepends=True)
        rows = ((path / ROWS_NAME).stat().st_size - HEADER_BYTES) // (4 * config.embedding_size)
    except FileNotFoundError:  # killed before they were made
        return [], 0, 0
    decoder = msgspec.json.Decoder(Entry)
    entries: list[Entry] = []
    size = 0
    whole = [line for line in lines if line.endswith(b"\n")]  # the last one may have been cut by a kill
    for line in whole:
        try:
            entry = decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            reason = describe_mismatch(error) if isinstance(error, msgspec.MsgspecError) else error
            raise StorageError(f"{path / INDEX_NAME} is damaged ({reason}); delete {path} and embed again") from error
        if entry.rows.stop > rows:
            break
        entries.append(entry)
        size += len(line)
    return entries, size, len(whole) - len(entries)


def _lock(file: BinaryIO, path: Path) -> None:
    """Keep other processes from writing to the archive, until the file is closed or this process ends."""
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


def _storage_error(path: Path, error: OSError) -> StorageError:
    """Return the error of an archive that the system gives no access to."""
    reason = error.strerror or str(error)
    return StorageError(f"{path} cannot hold embeddings ({reason}); make room, or check the path and its permissions")
