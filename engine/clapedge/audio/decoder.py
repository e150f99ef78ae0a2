"""What every decoder of recordings has in common.

A decoder reads in blocks of bounded size: what a header says is never a reason to allocate.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from clapedge.arrays import Float32Array

BLOCK_VALUES = 2**16
"""Samples of all channels in one block: 256 kB, which stay in the cache and come from memory that is at hand."""


class Decoder(Protocol):
    """An opened recording.

    Attributes:
        sample_rate: Hz.
        frames: how many frames (one sample of each channel) the header promises; None if it does not say.
        exact: whether the promise is more than an estimate.
        notes: what was found wrong so far, as sentences, each once.
    """

    sample_rate: int
    frames: int | None
    exact: bool
    notes: list[str]

    def blocks(self, first: int, stop: int | None) -> Iterator[Float32Array]:
        """Yield the frames [first, stop) as blocks (n, channels) in ±1, fewer where the file ends early.

        May be called again.
        """


def to_float(samples: npt.NDArray[np.generic]) -> Float32Array:
    """Scale integers of full scale to ±1 float32 (unsigned ones around their middle); floats stay as they are."""
    if np.issubdtype(samples.dtype, np.integer):
        range_ = np.iinfo(samples.dtype)  # type: ignore[type-var]  # the caller has checked that it is an integer
        half = (float(range_.max) - float(range_.min) + 1.0) / 2.0
        middle = 0.0 if range_.min < 0 else half
        wide = np.float32 if samples.dtype.itemsize <= 2 else np.float64  # noqa: PLR2004 - 16 bits fit into float32
        scaled: Float32Array = ((samples.astype(wide) - wide(middle)) / wide(half)).astype(np.float32, copy=False)
        return scaled
    with np.errstate(over="ignore"):
        floats: Float32Array = samples.astype(np.float32, copy=False)
        return floats


def note_once(notes: list[str], sentence: str) -> None:
    """Append a sentence to the notes of a decoder, however many blocks or passes meet its cause."""
    if sentence not in notes:
        notes.append(sentence)
