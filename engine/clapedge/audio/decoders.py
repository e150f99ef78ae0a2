"""Recordings to frames: the decoders of arrays and of what libsndfile reads (WAV, AIFF, FLAC, Ogg, MP3 and kin).

A decoder promises little and reads in blocks of bounded size: what a header says is never a reason to allocate.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import soundfile

from clapedge.arrays import Float32Array
from clapedge.audio.headers import contradictions, find_mp3_tag, ogg_faults
from clapedge.audio.sources import ByteView
from clapedge.errors import AudioError, AudioFormatError

BLOCK_VALUES = 2**16
"""Samples of all channels in one block: 256 kB, which stay in the cache and come from memory that is at hand."""

LEAD_SECONDS = 1.0
"""Decoded and dropped before a seek's target: an MP3 frame needs up to 7 frames before it (its bit reservoir)."""

VORBIS_PAGE_FRAMES = 255 * 1024
"""Most frames in one Ogg page of Vorbis. Seeking into the last page of a stream lands on wrong samples (libvorbis)."""

UNKNOWN_FRAMES = 2**40
"""From here on a number of frames is no length but libsndfile's word for an unknown one."""

BAD_SEEK = 39
"""libsndfile's error when it reaches the end of a FLAC stream of unknown length."""


class Decoder(Protocol):
    """An opened recording.

    Attributes:
        rate: Hz.
        frames: how many frames (one sample of each channel) the header promises; None if it does not say.
        exact: whether the promise is more than an estimate.
        notes: what was found wrong so far, as sentences.
    """

    rate: int
    frames: int | None
    exact: bool
    notes: list[str]

    def blocks(self, first: int, stop: int | None) -> Iterator[Float32Array]:
        """Yield the frames [first, stop) as blocks (n, channels) in ±1, fewer at a torn end; may be called again."""


class ArrayDecoder:
    """Presents an array (samples,) or (channels, samples) as a recording."""

    exact = True

    def __init__(self, array: npt.NDArray[np.generic], rate: int) -> None:
        """Check shape and type; nothing is copied.

        Raises:
            AudioError: the array cannot be sound.
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
        self.rate = rate
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
    """Presents samples that come in blocks, (n,) or (channels, n), as a recording that can be read once."""

    exact = False
    frames: int | None = None

    def __init__(self, blocks: Iterable[npt.NDArray[np.generic]], sample_rate: int) -> None:
        """Begin before the first block."""
        self._blocks, self.rate = blocks, sample_rate
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


class NotRecognisedError(AudioFormatError):
    """libsndfile does not know the format; another decoder may."""


class _SequentialFile(soundfile.SoundFile):  # type: ignore[misc]  # soundfile publishes no types
    """Reads on from where it stands.

    SoundFile seeks to its own position after every read of a seekable file, which restarts an MP3 decoder without
    its bit reservoir: every block would begin with a few damaged frames.
    """

    def seekable(self) -> bool:
        """Return False, so that `read` does not seek."""
        return False


class SoundFileDecoder:
    """Decodes through libsndfile."""

    def __init__(self, view: ByteView, name: str) -> None:
        """Open a recording.

        Raises:
            NotRecognisedError: the format is none of libsndfile's.
        """
        self._view = view
        self._name = name
        self.notes: list[str] = []
        tag = find_mp3_tag(view)
        self.exact = tag is not None and tag.end is not None and not tag.goes_on
        if tag is not None and self.exact:
            # silences the decoder's own warning on stderr about a file that is cut off or has other tags behind
            view.pretend(length=tag.end or view.size)
        elif tag is not None:
            view.pretend(length=view.size, patch=tag.mask)
        self._file = self._open()
        self._fresh = True
        self._format: str = self._file.format
        self.rate: int = self._file.samplerate
        promised: int = self._file.frames
        self.frames: int | None = promised if 0 < promised < UNKNOWN_FRAMES else None
        if self._format != "MP3":
            self.exact = True
            self._reopen_as(view.size)
        elif not self.exact:
            # libsndfile stops at the number of frames that it estimates from the first bit rates, which cuts minutes
            # off a variable rate; shown a file of a terabyte, it reads to the real end
            self._reopen_as(2**40, (0, b"") if tag is None else tag.mask)
        if self._format == "OGG":
            self.notes += ogg_faults(view)
        self.notes += contradictions(self._file.extra_info, self.rate)

    def close(self) -> None:
        """Release libsndfile's handle."""
        self._file.close()

    def blocks(self, first: int, stop: int | None) -> Iterator[Float32Array]:
        """Yield the frames [first, stop), see `Decoder`."""
        self._rewind()
        position = self._seek(first)
        step = max(1, BLOCK_VALUES // self._file.channels)
        while stop is None or position < stop:
            block = self._read(step if stop is None else min(step, stop - position))
            if len(block) == 0:
                return
            skipped = max(0, first - position)
            position += len(block)
            if skipped < len(block):
                yield block[skipped:]

    def _open(self) -> soundfile.SoundFile:
        """Open the view from its beginning."""
        self._view.seek(0)
        try:
            return _SequentialFile(self._view)
        except soundfile.LibsndfileError as error:
            reason = error.error_string.rstrip(". ").removeprefix("Error : ")
            raise NotRecognisedError(f"{self._name} is no audio that can be decoded ({reason})") from error

    def _rewind(self) -> None:
        """Return to the state of a file just opened: only then do two passes give the same bits."""
        if not self._fresh:
            self._file.close()
            self._file = self._open()
        self._fresh = False

    def _seek(self, first: int) -> int:
        """Move to `first` or somewhat before it, and return where that is."""
        lead = math.ceil(LEAD_SECONDS * self.rate)
        target = first - lead
        if self._format == "OGG" and self.frames is not None and target > self.frames - VORBIS_PAGE_FRAMES:
            target = self.frames - VORBIS_PAGE_FRAMES - lead
        if target <= 0:
            return 0
        try:
            return int(self._file.seek(target))
        except soundfile.LibsndfileError:
            self._file.close()
            self._file = self._open()
            return 0

    def _read(self, count: int) -> Float32Array:
        """Read up to `count` frames: what was decoded before damage counts, what comes behind it is lost."""
        block = np.full((count, self._file.channels), np.nan, np.float32)
        try:
            return self._file.read(out=block)  # type: ignore[no-any-return]
        except soundfile.LibsndfileError as error:
            if error.code != BAD_SEEK or self.frames is not None:
                reason = error.error_string.rstrip(". ").removeprefix("Error : ")
                self._note(f"it is damaged ({reason}); what follows the damage is not heard")
            missing = np.isnan(block).all(axis=1)
            return block[: int(missing.argmax())] if missing.any() else block

    def _note(self, sentence: str) -> None:
        """Note a fault once, however many passes meet it."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def _reopen_as(self, length: int, patch: tuple[int, bytes] = (0, b"")) -> None:
        """Open the view again as a file of another length, unless that is how it was opened."""
        if length != self._view.length:
            self._view.pretend(length=length, patch=patch)
            self._file.close()
            self._file = self._open()
