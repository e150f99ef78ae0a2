"""Decoders of samples in memory: an array, or blocks as they come."""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from clapedge.arrays import Float32Array
from clapedge.audio.decoder import BLOCK_VALUES, to_float
from clapedge.errors import AudioError, AudioFormatError


class ArrayDecoder:
    """Reads an array (samples,) or (channels, samples)."""

    exact = True

    def __init__(self, array: npt.NDArray[np.generic], sample_rate: int) -> None:
        """Check shape and type; nothing is copied.

        Raises:
            AudioError: the array has another shape or type.
        """
        if array.ndim not in {1, 2}:
            raise AudioError(f"array has shape {array.shape}; give (samples,) or (channels, samples)")
        if array.ndim == 2 and array.shape[0] > array.shape[1]:  # noqa: PLR2004 - two axes
            raise AudioError(f"array has shape {array.shape}, more channels than samples; transpose it")
        if 0 in array.shape:
            raise AudioFormatError(f"array has shape {array.shape} and holds no samples; give at least one")
        if not np.issubdtype(array.dtype, np.floating) and not np.issubdtype(array.dtype, np.integer):
            raise AudioError(f"array holds {array.dtype}; give floating point in ±1 or integers of full scale")
        self._array = np.atleast_2d(array)
        self.sample_rate = sample_rate
        self.frames: int | None = self._array.shape[1]
        self.notes: list[str] = []

    def blocks(self, first: int, stop: int | None) -> Iterator[Float32Array]:
        """Yield the frames [first, stop), see `Decoder`."""
        channels, frames = self._array.shape
        stop = frames if stop is None else min(stop, frames)
        step = max(1, BLOCK_VALUES // channels)
        for at in range(first, stop, step):
            yield to_float(self._array[:, at : min(at + step, stop)]).T


class BlockDecoder:
    """Reads samples that come in blocks, (n,) or (channels, n), once."""

    exact = False
    frames: int | None = None

    def __init__(self, blocks: Iterable[npt.NDArray[np.generic]], sample_rate: int) -> None:
        """Begin before the first block."""
        self._blocks, self.sample_rate = blocks, sample_rate
        self.notes: list[str] = []

    def blocks(self, first: int, stop: int | None) -> Iterator[Float32Array]:
        """Yield the frames [first, stop), see `Decoder`."""
        position = 0
        for block in self._blocks:
            frames = to_float(np.atleast_2d(block)).T
            wanted = frames[max(0, first - position) : None if stop is None else max(0, stop - position)]
            position += len(frames)
            if len(wanted):
                yield wanted
            if stop is not None and position >= stop:
                return
