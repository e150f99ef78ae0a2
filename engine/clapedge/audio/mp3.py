"""Parts of an MP3 file: streams joined end to end, and where a stream turns from mono to stereo or to another rate.

libmpg123 stops at such a place, and says nothing.
"""

import os
from dataclasses import dataclass
from functools import cache

from clapedge.audio.headers import MP3_TAG_REACH, Mp3Tag, described_end, skip_id3
from clapedge.audio.sources import ByteView

MAX_PARTS = 1000
"""Parts that are opened; a file of more is read to the end of the last of them."""

MAX_JUNK_BYTES = 2**18
"""Bytes between frames, in all, in which the next frame is searched for one by one."""

WINDOW_BYTES = 2**20
"""Read at once while frames are followed."""

_BIT_RATES = (
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
_RATES = (44_100, 48_000, 32_000)
_TAGS = frozenset({b"Xing", b"Info"})


@dataclass(frozen=True)
class _Frame:
    """What the header of a frame of layer III says.

    Attributes:
        bytes: length of the frame.
        samples: of each channel.
        form: what must not change within a stream: version, sample rate, mono or not.
        tag: offset in the frame at which a Xing header would begin.
    """

    bytes: int
    samples: int
    form: tuple[int, int, bool]
    tag: int


@dataclass(frozen=True)
class Part:
    """A stretch of a file that libmpg123 reads to its end.

    Attributes:
        start: its first byte, and `stop`, the first behind it.
        frames: samples of each channel by its headers.
        denied: whether it began with a Xing header that the file contradicts, which is left out.
    """

    start: int
    stop: int
    frames: int
    denied: bool = False


class FilePart:
    """A part of a view as a file of its own."""

    def __init__(self, view: ByteView, part: Part) -> None:
        """Begin before the first byte."""
        self._view, self._part, self._position = view, part, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Change the position, and return it."""
        self._position = offset + (self._part.stop - self._part.start if whence == os.SEEK_END else 0)
        return self._position

    def read(self, count: int) -> bytes:
        """Return the next bytes, none at the end."""
        at = self._part.start + self._position
        data = self._view.peek(at, min(count, self._part.stop - at))
        self._position += len(data)
        return data


def is_mp3(view: ByteView) -> bool:
    """Return whether a file begins with a frame of layer III, behind its tags."""
    return _frame(view.peek(skip_id3(view), 4)) is not None


def ends(tag: Mp3Tag, view: ByteView) -> bool:
    """Return whether nothing but tags follows the stream that a header describes."""
    return tag.end is not None and not tag.goes_on and view.size - tag.end < MP3_TAG_REACH


def mp3_parts(view: ByteView) -> list[Part]:
    """Return the parts of an MP3 file; costs time in proportion to its length, unless headers describe its streams."""
    return _Walk(view).parts(skip_id3(view))


class _Walk:
    """Follows the frames of a file from header to header."""

    def __init__(self, view: ByteView) -> None:
        """Begin without bytes."""
        self._view = view
        self._data, self._from = b"", 0
        self._junk = 0

    def parts(self, at: int) -> list[Part]:
        """Return the parts from the first frame on."""
        parts: list[Part] = []
        start: int | None = None
        end, frames, form, denied = at, 0, None, False
        while len(parts) < MAX_PARTS and (found := self._next(end, form)) is not None:
            at, frame = found
            tagged = self._head(at + frame.tag, 4) in _TAGS
            if start is not None and (tagged or frame.form != form):
                parts.append(Part(start, end, frames, denied))
                start, denied = None, False
            form, end = frame.form, at + frame.bytes
            described = described_end(self._head(at, MP3_TAG_REACH), frame.tag, at) if tagged else None
            if described is not None and end < described <= self._view.size:
                denied = not self._begins(described)
                if not denied:
                    parts.append(Part(at, described, 0))
                    end, form = described, None
                continue
            if start is None:
                start, frames = at, 0
            frames += 0 if tagged else frame.samples
        return parts if start is None else [*parts, Part(start, self._view.size, frames, denied)]

    def _begins(self, at: int) -> bool:
        """Return whether the file ends at an offset, or a tag, padding or two frames begin there.

        A header that gives another end is wrong, and so may be its number of samples: it is left out.
        """
        head = self._head(at, 4)
        frame = _frame(head)
        if frame is None:
            return at == self._view.size or head[:3] in {b"ID3", b"TAG"} or not any(head)
        following = _frame(self._head(at + frame.bytes, 4))
        return following is not None and following.form == frame.form

    def _next(self, at: int, form: tuple[int, int, bool] | None) -> tuple[int, _Frame] | None:
        """Return the first frame from an offset on; one of another form counts if another of its form follows it."""
        while at < self._view.size:
            frame = _frame(self._head(at, 4))
            if frame is not None:
                if frame.form == form:
                    return at, frame
                following = _frame(self._head(at + frame.bytes, 4))
                if following is not None and following.form == frame.form:
                    return at, frame
            self._junk += 1
            if self._junk > MAX_JUNK_BYTES:
                return None
            at = at + 1 if self._head(at, 3) != b"ID3" else max(at + 1, skip_id3(self._view, at))
        return None

    def _head(self, at: int, count: int) -> bytes:
        """Return bytes of the file."""
        low = at - self._from
        if low < 0 or low + count > len(self._data):
            self._data, self._from, low = self._view.peek(at, WINDOW_BYTES), at, 0
        return self._data[low : low + count]


def _frame(head: bytes) -> _Frame | None:
    """Return what the four bytes of a header say; None if it is none of layer III."""
    return _parsed(head[1], head[2], head[3] >= 0xC0) if len(head) == 4 and head[0] == 0xFF else None  # noqa: PLR2004


@cache
def _parsed(second: int, third: int, mono: bool) -> _Frame | None:  # noqa: FBT001 - a part of the key
    """Return what the header of a frame says (ISO 11172-3, 2.4.1.3): its second, third and part of its fourth byte."""
    version, bits, rate = second >> 3 & 3, third >> 4, third >> 2 & 3
    if second & 0xE6 != 0xE2 or version == 1 or bits in {0, 15} or rate == 3:  # noqa: PLR2004 - reserved values
        return None
    first = version == 3  # noqa: PLR2004 - MPEG-1; 2 and 2.5 have half of it, and half the rate or a quarter
    hertz = _RATES[rate] >> (0 if first else 1 if version == 2 else 2)  # noqa: PLR2004
    samples = 1152 if first else 576
    size = samples // 8 * 1000 * _BIT_RATES[first][bits - 1] // hertz + (third >> 1 & 1)
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return _Frame(size, samples, (version, rate, mono), 4 + side)
