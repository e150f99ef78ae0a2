"""Embeddings kept on disk, so that other labels need no audio."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clapedge.arrays import Float32Array
from clapedge.batch.fingerprint import Stamp
from clapedge.batch.store_files import ROWS_NAME, EmbeddingConfig, Entry, read_config, read_index, storage_errors
from clapedge.errors import StorageError
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
            entries, _, lost = read_index(path, config)
        if lost:
            raise StorageError(
                f"{path / ROWS_NAME} is cut off: {lost} of the {len(entries) + lost} recordings of its index have "
                f"no embeddings there; embed those again with: clapedge embed PATH -o {path}"
            )
        if not entries:
            raise StorageError(f"{path} holds no whole embedding; make them with: clapedge embed PATH -o {path}")
        return cls(path, config, entries)

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
