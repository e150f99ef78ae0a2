"""Embeddings kept on disk, so that other labels need no audio."""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clapedge.arrays import Float32Array
from clapedge.batch.fingerprint import Stamp
from clapedge.batch.store_files import (
    INDEX_NAME,
    ROWS_NAME,
    EmbeddingConfig,
    Entry,
    read_config,
    read_index,
    storage_errors,
)
from clapedge.errors import ClapEdgeWarning, StorageError
from clapedge.scoring.result import UNTIMED, RecordingEmbeddings
from clapedge.scoring.similarity import mean_embedding


class EmbeddingStore:
    """Embeddings of recordings, by name and by content.

    Attributes:
        directory: where they are kept.
        config: how they were made.
        by_file: the newest entry of each name.
    """

    def __init__(self, directory: Path, config: EmbeddingConfig, entries: Iterable[Entry]) -> None:
        """Join what was read; use `EmbeddingStore.open` or `appending`."""
        self.directory = directory
        self.config = config
        self.by_file: dict[str, Entry] = {}
        self._by_hash: dict[str, Entry] = {}
        self._end = 0
        for entry in entries:
            self._register(entry)

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> "EmbeddingStore":
        """Read a store.

        Raises:
            StorageError: there is none, or it is damaged.
        """
        path = Path(directory)
        with storage_errors(path):
            config = read_config(path)
            if config is None:
                raise StorageError(f"{path} holds no embeddings; make them with: clapedge embed PATH -o {path}")
            index = read_index(path, config)
        again = f"embed again with: clapedge embed PATH -o {path}"
        if index.lost:
            raise StorageError(
                f"{path / ROWS_NAME} is cut off: {index.lost} of the {len(index.entries) + index.lost} recordings of "
                f"its index have no embeddings there; {again}"
            )
        damage = f"{path / INDEX_NAME} is damaged: {index.damaged} of its recordings cannot be known"
        if not index.entries:
            found = damage if index.damaged else f"{path} holds no whole embedding"
            raise StorageError(f"{found}; {again}")
        if index.damaged:
            warnings.warn(f"{damage} and are left out; {again}", ClapEdgeWarning, stacklevel=2)
        return cls(path, config, index.entries)

    def is_unchanged(self, file: str, stamp: Stamp) -> bool:
        """Return whether a file is known and has not been changed since."""
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

    def recordings(self, files: Iterable[str]) -> Iterator[RecordingEmbeddings]:
        """Yield what recordings were embedded to, by name, as `Engine.embed_many` gave it."""
        stored = self.clips()
        for entry in (self.by_file[file] for file in files):
            rows = stored[entry.rows.start : entry.rows.stop]
            yield RecordingEmbeddings(entry.file, rows, entry.spans, entry.coverage, entry.warnings, UNTIMED)

    def clips(self) -> Float32Array:
        """Return the embeddings of all clips, (rows, E) float32, mapped from the file: it is read where it is used.

        Raises:
            StorageError: the file does not fit the index.
        """
        path = self.directory / ROWS_NAME
        try:
            rows: npt.NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise StorageError(f"{path} is damaged ({error}); delete {self.directory} and embed again") from error
        if rows.dtype != np.float32 or rows.shape[1:] != (self.config.embedding_size,) or len(rows) < self._end:
            raise StorageError(f"{path} is not the file of its index; delete {self.directory} and embed again")
        return rows

    def _register(self, entry: Entry) -> None:
        """Take an entry into account; a newer one of the same name replaces the older."""
        self.by_file[entry.file] = entry
        self._by_hash.setdefault(entry.sha256, entry)
        self._end = max(self._end, entry.rows.stop)
