"""A quiet day teaches the background of a site: embeddings of the latest windows, kept in a file of limited size."""

import logging
from collections import deque
from pathlib import Path

import numpy as np

from clapedge.arrays import Float32Array
from clapedge.errors import StorageError, UsageError
from clapedge.labels.examples import packed
from clapedge.teaching.windows import BackgroundWindows

logger = logging.getLogger("clapedge.live")

MOST_KEPT = 100_000
"""Windows: a day of one a second, and 51 MB of 512 numbers; beyond it the oldest go."""

SAVED_EVERY = 3600
"""Windows after which the file is written again: what a power cut may take, and seldom enough for a flash card."""


class BackgroundKeeper:
    """Keeps the embeddings of windows; a file of an earlier run is added to."""

    def __init__(self, path: Path, *, hop: float, space: str, size: int) -> None:
        """Begin with what the file holds.

        Args:
            path: the file, which need not exist.
            hop: seconds from one window to the next.
            space: name of the embedding space.
            size: E, numbers of an embedding.

        Raises:
            AudioError: the file holds something else.
            UsageError: it was kept with another hop or by another model.
        """
        self._path, self._hop, self._space = path, hop, space
        known = BackgroundWindows.load(path, size=size) if path.exists() else None
        if known is not None and (known.hop, known.space) != (hop, space):
            raise UsageError(
                f"{path} holds windows every {known.hop:g} s of the space {known.space}, here they come "
                f"every {hop:g} s and are of {space}; name another file"
            )
        self._rows = deque([] if known is None else known.rows, maxlen=MOST_KEPT)
        self._unsaved = 0

    def add(self, embedding: Float32Array) -> None:
        """Keep the unit embedding (1, E) of a window, and write the file now and then."""
        self._rows.append(packed(embedding)[0])
        self._unsaved += 1
        if self._unsaved >= SAVED_EVERY:
            try:
                self.save()
            except StorageError as error:
                logger.warning("%s", error)
                self._unsaved = 0

    def save(self) -> None:
        """Write the file, if there is something new.

        Raises:
            StorageError: it cannot be written.
        """
        if self._unsaved:
            BackgroundWindows(np.stack(self._rows), self._hop, self._space).save(self._path)
            self._unsaved = 0
