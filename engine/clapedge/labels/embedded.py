"""Label sets with the embeddings of their labels, in memory and as `.npz` files."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from clapedge.arrays import Float32Array
from clapedge.atomic_file import atomic_write
from clapedge.errors import LabelError
from clapedge.labels.examples import Examples
from clapedge.labels.label import Label
from clapedge.labels.label_set import LabelSet
from clapedge.labels.npz import Arrays, read_arrays
from clapedge.labels.placement import Placement, Rejection
from clapedge.model.space import words_space

TextEncoder: TypeAlias = Callable[[Sequence[str]], Float32Array]

PROMPTS_AT_ONCE = 256
"""Prompts that are encoded at once: about 200 MB in a full-size text tower."""

UNIT_TOLERANCE = 1e-3
"""Largest deviation of the norm of a stored embedding from 1: the rounding of a float16 tower is below it."""


@dataclass(frozen=True, eq=False)
class EmbeddedLabels:
    """A label set with the embeddings of its labels, ready to be scored against.

    Attributes:
        label_set: the labels.
        embeddings: (labels, E) float32, rows of unit norm.
        text_tower: SHA-256 of the text tower's FP32 file, of which `space` is made.
        temperature: divides the logits before the softmax, fitted to labelled clips; 1 changes nothing.
        placement: how cosines of taught labels become similarities; None where every label is of words alone.
        examples: embeddings of the clips that teach labels.
        rejection: what "none of these" is decided by; None decides it never.
    """

    label_set: LabelSet
    embeddings: Float32Array
    text_tower: str
    temperature: float = 1.0
    placement: Placement | None = None
    examples: Examples | None = None
    rejection: Rejection | None = None

    @classmethod
    def embed(cls, label_set: LabelSet, encode: TextEncoder, text_tower: str) -> "EmbeddedLabels":
        """Embed a label set: the prompts of a label are encoded, averaged and normalised again.

        Args:
            label_set: the labels.
            encode: prompts to (prompts, E) float32 of unit norm.
            text_tower: SHA-256 of the text tower's FP32 file.

        Raises:
            LabelError: a label was taught by clips, so that words alone do not make it.
        """
        for label in label_set.labels:
            if label.examples:
                raise LabelError(f"label {label.name!r} was taught by clips; use the .npz file that holds them")
        prompts = label_set.prompts
        parts = [encode(prompts[first : first + PROMPTS_AT_ONCE]) for first in range(0, len(prompts), PROMPTS_AT_ONCE)]
        rows = np.concatenate(parts)
        ends = np.cumsum([len(label.prompts) for label in label_set.labels])
        means = np.stack([part.mean(axis=0) for part in np.split(rows, ends[:-1])])
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return cls(label_set, means.astype(np.float32), text_tower)

    @property
    def space(self) -> str:
        """Name of the space that they lie in: the first part of the names of fitting clips' spaces."""
        return words_space(self.text_tower)

    @property
    def by_clips(self) -> bool:
        """Whether labels were taught or calibrated by what the whole tower gave for clips: no other one will do."""
        clips = self.examples is not None and len(self.examples.rows) > 0
        return clips or self.rejection is not None or self.placement is not None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an `.npz` without pickles, atomically.

        Raises:
            StorageError: it cannot be written.
        """
        with atomic_write(Path(path)) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **self._arrays())

    def _arrays(self) -> dict[str, Any]:
        """Return the stored arrays by name."""
        labels = self.label_set.labels
        thresholds = [np.nan if label.threshold is None else label.threshold for label in labels]
        return {
            "names": np.array([label.name for label in labels], np.str_),
            "prompts": np.array(self.label_set.prompts, np.str_),
            "prompt_counts": np.array([len(label.prompts) for label in labels], np.int64),
            "thresholds": np.array(thresholds, np.float64),
            "hidden": np.array([label.hidden for label in labels], np.bool_),
            "embeddings": self.embeddings,
            "text_tower": np.array(self.text_tower, np.str_),
            "space": np.array(self.space, np.str_),
            "temperature": np.array(self.temperature, np.float64),
            **self._taught_arrays(),
        }

    def _taught_arrays(self) -> dict[str, Any]:
        """Return the arrays that only taught or calibrated sets have."""
        counts = np.array([label.examples for label in self.label_set.labels], np.int64)
        parts = (self.placement, self.examples, self.rejection)
        found: dict[str, Any] = {"example_counts": counts} if counts.any() else {}
        return found | {name: array for part in parts if part is not None for name, array in part.arrays().items()}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "EmbeddedLabels":
        """Read a file that `save` wrote.

        Raises:
            LabelError: the file is missing or has another content.
        """
        try:
            return _restored(read_arrays(path))
        except FileNotFoundError:
            raise LabelError(f"label file {path} does not exist; check the path") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise LabelError(
                f"{path} is not a label set with embeddings ({reason}); make it again: clapedge labels embed"
            ) from error


def _restored(arrays: Arrays) -> EmbeddedLabels:
    """Return the label set of stored arrays.

    Raises:
        ValueError: they are incomplete or inconsistent.
    """
    missing = {"names", "prompts", "prompt_counts", "thresholds", "hidden", "embeddings", "text_tower"} - arrays.keys()
    if missing:
        raise ValueError(f"it has no array {min(missing)!r}")
    try:
        labels = _restored_labels(arrays)
        temperature = float(arrays.get("temperature", np.array(1.0)))
    except (TypeError, IndexError, ValueError) as error:
        raise ValueError("its arrays do not fit together") from error
    embeddings = arrays["embeddings"]
    _check_rows(embeddings, len(labels))
    if not 0 < temperature < np.inf:
        raise ValueError(f"its temperature is {temperature}")
    return EmbeddedLabels(
        LabelSet(labels),
        embeddings,
        str(arrays["text_tower"]),
        temperature,
        placement=Placement.restored(arrays, count=len(labels)),
        examples=Examples.restored(arrays, size=embeddings.shape[1]),
        rejection=Rejection.restored(arrays),
    )


def _restored_labels(arrays: Arrays) -> tuple[Label, ...]:
    """Return the labels of stored arrays."""
    ends = np.cumsum(arrays["prompt_counts"])
    prompts = iter(np.split(arrays["prompts"], ends[:-1]))
    counts = arrays.get("example_counts", np.zeros(len(ends), np.int64))
    rows = zip(arrays["names"], arrays["thresholds"], arrays["hidden"], prompts, counts, strict=True)
    return tuple(
        Label(str(name), tuple(map(str, own)), None if np.isnan(limit) else float(limit), bool(hidden), int(count))
        for name, limit, hidden, own, count in rows
    )


def _check_rows(embeddings: npt.NDArray[np.generic], count: int) -> None:
    """Raise if embeddings are not `count` unit rows of float32.

    Raises:
        ValueError: the message describes them.
    """
    if embeddings.dtype != np.float32 or embeddings.ndim != 2 or len(embeddings) != count:  # noqa: PLR2004 - two axes
        raise ValueError(f"embeddings of {count} labels are {embeddings.dtype} of shape {embeddings.shape}")
    if not (np.abs(np.linalg.norm(embeddings, axis=1) - 1) <= UNIT_TOLERANCE).all():
        raise ValueError("its embeddings are not of unit norm")
