"""Embeddings of clips that taught labels: kept in a label set, so that it can be taught more and can forget.

Sound is not kept. A row is eight bits a number: 512 bytes, whose cosine with the embedding is 0.9999.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from clapedge.arrays import Float32Array

Kind = Literal["example", "negative", "other", "words", "background"]

KINDS: tuple[Kind, ...] = ("example", "negative", "other", "words", "background")
"""What a row is: a clip of the label, of what the label is not, of any other sound, the label's own words, or a window
of the background that novelty is measured from."""

LARGEST = 127
"""The largest number of a row: that of eight bits."""


def packed(embeddings: Float32Array) -> npt.NDArray[np.int8]:
    """Return unit embeddings (N, E) in eight bits a number: a multiple of each row."""
    peaks = np.maximum(np.abs(embeddings).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return np.asarray(np.rint(embeddings / peaks * LARGEST), np.int8)


def unpacked(rows: npt.NDArray[np.int8]) -> Float32Array:
    """Return the unit embeddings (N, E) of packed rows."""
    values = rows.astype(np.float32)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.maximum(norms, np.finfo(np.float32).tiny), np.float32)


@dataclass(frozen=True, eq=False)
class Examples:
    """Embeddings of clips, with what each of them shows.

    Attributes:
        rows: (N, E) int8, each a multiple of the unit embedding.
        labels: name of the label that each teaches; empty for other sounds.
        clips: name of the recording of each.
        kinds: what each shows.
    """

    rows: npt.NDArray[np.int8]
    labels: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()

    @classmethod
    def of(cls, embeddings: Float32Array, *, label: str, kind: Kind, clips: Sequence[str]) -> "Examples":
        """Return the examples that unit embeddings (N, E) make."""
        rows = packed(embeddings)
        return cls(rows, (label,) * len(rows), tuple(clips), (kind,) * len(rows))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.rows)

    def __add__(self, other: "Examples") -> "Examples":
        """Return both."""
        return Examples(
            np.concatenate([self.rows, other.rows]),
            self.labels + other.labels,
            self.clips + other.clips,
            self.kinds + other.kinds,
        )

    def take(self, indices: Iterable[int]) -> "Examples":
        """Return those at some places."""
        chosen = list(indices)
        parts = (tuple(values[at] for at in chosen) for values in (self.labels, self.clips, self.kinds))
        return Examples(self.rows[chosen], *parts)  # type: ignore[arg-type]  # a tuple of strings is not one of literals

    def where(self, *, label: str | None = None, kind: Kind | None = None) -> "Examples":
        """Return those of a label, of a kind, or of both."""
        pairs = enumerate(zip(self.labels, self.kinds, strict=True))
        return self.take(at for at, (own, its) in pairs if label in {None, own} and kind in {None, its})

    def vectors(self) -> Float32Array:
        """Return the unit embeddings, (N, E) float32."""
        return unpacked(self.rows)

    def arrays(self) -> dict[str, Any]:
        """Return what a label file stores, by name."""
        return {
            "example_rows": self.rows,
            "example_labels": np.array(self.labels, np.str_),
            "example_clips": np.array(self.clips, np.str_),
            "example_kinds": np.array([KINDS.index(kind) for kind in self.kinds], np.int8),
        }

    @classmethod
    def restored(cls, arrays: dict[str, npt.NDArray[Any]], *, size: int) -> "Examples":
        """Return the examples of stored arrays; none if there are none.

        Args:
            arrays: those of a label file.
            size: E, numbers of an embedding.

        Raises:
            ValueError: they do not fit together.
        """
        if "example_rows" not in arrays:
            return cls(np.empty((0, size), np.int8))
        rows = arrays["example_rows"]
        names = [arrays.get(f"example_{name}") for name in ("labels", "clips", "kinds")]
        fits = rows.dtype == np.int8 and rows.ndim == 2 and rows.shape[1] == size  # noqa: PLR2004 - two axes
        if not fits or any(one is None or one.shape != rows.shape[:1] for one in names):
            raise ValueError("its examples do not fit together")
        labels, clips, codes = (one.tolist() for one in names if one is not None)
        if not all(isinstance(code, int) and 0 <= code < len(KINDS) for code in codes):
            raise ValueError("it has examples of an unknown kind")
        return cls(rows, tuple(map(str, labels)), tuple(map(str, clips)), tuple(KINDS[code] for code in codes))
