"""The decoder of what libsndfile reads: WAV, AIFF, FLAC, Ogg, MP3 and their relatives."""

import math
from collections.abc import Iterator

import numpy as np
import soundfile

from clapedge.arrays import Float32Array
from clapedge.audio.chunks import next_recording
from clapedge.audio.decoder import BLOCK_VALUES, note_once
from clapedge.audio.headers import ANOTHER, OGG_TAIL, contradictions, find_mp3_tag, ogg_faults
from clapedge.audio.sources import ByteView
from clapedge.errors import AudioFormatError

LEAD_SECONDS = 1.0
"""Decoded and dropped before a seek's target: an MP3 frame needs up to 7 frames before it (its bit reservoir)."""

VORBIS_PAGE_FRAMES = 255 * 1024
"""Most frames in one Ogg page of Vorbis. Seeking into the last page of a stream lands on wrong samples (libvorbis)."""

REST_SECONDS = 0.15
"""An MP3 that goes on for longer behind its last frame by its header has a wrong one; padding is shorter."""

UNKNOWN_FRAMES = 2**40
"""From here on a number of frames is libsndfile's code for an unknown length."""

BAD_SEEK = 39
"""libsndfile's error when it reaches the end of a FLAC stream of unknown length."""


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
    """Decodes a file through libsndfile."""

    def __init__(self, view: ByteView, name: str) -> None:
        """Open a recording.

        Raises:
            NotRecognisedError: libsndfile does not know the format.
        """
        self._view = view
        self._name = name
        self.notes: list[str] = []
        tag = find_mp3_tag(view)
        self.exact = tag is not None and tag.end is not None and not tag.goes_on
        if tag is not None and self.exact:
            # silences the decoder's own warning on stderr about a file that is cut off or ends with other tags
            view.pretend(length=tag.end or view.size)
        elif tag is not None:
            view.pretend(length=view.size, patch=tag.mask)
        self._file = self._open()
        self._fresh = True
        self._format: str = self._file.format
        self.sample_rate: int = self._file.samplerate
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
        self.notes += contradictions(self._file.extra_info, self.sample_rate)

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
                self._note_rest()
                return
            skipped = max(0, first - position)
            position += len(block)
            if skipped < len(block):
                yield block[skipped:]

    def _note_rest(self) -> None:
        """Note what follows the end that the decoder found."""
        near = self._view.tell()
        if self._format == "OGG" and next_recording(self._view, max(1, near - OGG_TAIL), 2 * OGG_TAIL) is not None:
            note_once(self.notes, ANOTHER)
        length = min(self._view.length, self._view.size)
        if (
            self._format == "MP3"
            and self.exact
            and (length - near) * (self.frames or 0) > (REST_SECONDS * self.sample_rate * length)
        ):
            note_once(self.notes, "its header claims fewer frames than follow; those behind its end are not read")

    def _open(self) -> soundfile.SoundFile:
        """Open the view from its beginning."""
        self._view.seek(0)
        try:
            return _SequentialFile(self._view)
        except soundfile.LibsndfileError as error:
            raise NotRecognisedError(f"{self._name} is not audio that can be decoded ({_reason(error)})") from error

    def _rewind(self) -> None:
        """Return to the state of a file just opened: only then do two passes give the same bits."""
        if not self._fresh:
            self._file.close()
            self._file = self._open()
        self._fresh = False

    def _seek(self, first: int) -> int:
        """Seek to `first` or somewhat before it, and return the position."""
        lead = math.ceil(LEAD_SECONDS * self.sample_rate)
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
        """Read up to `count` frames; what follows damage is lost."""
        block = np.full((count, self._file.channels), np.nan, np.float32)
        try:
            return self._file.read(out=block)  # type: ignore[no-any-return]
        except soundfile.LibsndfileError as error:
            if error.code != BAD_SEEK or self.frames is not None:
                note_once(self.notes, f"it is damaged ({_reason(error)}); what follows the damage is not read")
            missing = np.isnan(block).all(axis=1)
            return block[: int(missing.argmax())] if missing.any() else block

    def _reopen_as(self, length: int, patch: tuple[int, bytes] = (0, b"")) -> None:
        """Open the view again as a file of another length, unless that is how it was opened."""
        if length != self._view.length:
            self._view.pretend(length=length, patch=patch)
            self._file.close()
            self._file = self._open()


def _reason(error: soundfile.LibsndfileError) -> str:
    """Return libsndfile's message alone."""
    return str(error.error_string).rstrip(". ").removeprefix("Error : ")
