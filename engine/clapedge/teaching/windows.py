"""Windows of the background of a site: their embeddings alone, in eight bits a number, in memory and as a file."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clapedge.arrays import Float32Array
from clapedge.atomic_file import atomic_write
from clapedge.errors import AudioError
from clapedge.labels.examples import packed, unpacked
from clapedge.labels.npz import read_arrays

MOST_WINDOWS = 200_000
"""Windows that are compared at most: two days and a third of one a second, 102 MB of 512 numbers."""

AT_ONCE = 4096
"""Windows that are unpacked together: 8 MB of 512 numbers."""


@dataclass(frozen=True, eq=False)
class BackgroundWindows:
    """Windows of background.

    Attributes:
        rows: (N, E) int8, see `packed`.
        hop: seconds from one window to the next.
        space: name of the embedding space, see `clapedge.model.space`.
    """

    rows: npt.NDArray[np.int8]
    hop: float
    space: str

    @classmethod
    def of(cls, embeddings: Iterable[Float32Array], *, hop: float, space: str) -> "BackgroundWindows":
        """Pack unit embeddings (n, E), `MOST_WINDOWS` at most."""
        parts: list[npt.NDArray[np.int8]] = []
        taken = 0
        for part in embeddings:
            parts.append(packed(part[: MOST_WINDOWS - taken]))
            taken += len(parts[-1])
            if taken == MOST_WINDOWS:
                break
        return cls(np.concatenate(parts) if parts else np.empty((0, 0), np.int8), hop, space)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.rows)

    def parts(self, first: int = 0) -> Iterator[Float32Array]:
        """Yield the unit embeddings (n, E) from one on, some at a time."""
        for start in range(first, len(self.rows), AT_ONCE):
            yield unpacked(self.rows[start : start + AT_ONCE])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an `.npz` without pickles, atomically.

        Raises:
            StorageError: it cannot be written.
        """
        with atomic_write(Path(path)) as temporary, temporary.open("wb") as stream:
            np.savez(stream, background=self.rows, hop=np.array(self.hop), space=np.array(self.space, np.str_))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, size: int) -> "BackgroundWindows":
        """Read a file that `save` wrote.

        Args:
            path: the file.
            size: E, numbers of an embedding.

        Raises:
            AudioError: it is missing or has another content.
        """
        try:
            arrays = read_arrays(path)
            rows, hop, space = arrays["background"], float(arrays["hop"]), str(arrays["space"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
            raise AudioError(
                f"{path} holds no windows of background ({reason}); keep them anew: clapedge listen SOURCE --learn FILE"
            ) from error
        if rows.dtype != np.int8 or rows.ndim != 2 or rows.shape[1] != size or not hop > 0:  # noqa: PLR2004 - two axes
            raise AudioError(
                f"{path} is damaged, or of another model; keep it anew: clapedge listen SOURCE --learn FILE"
            )
        return cls(rows, hop, space)
