"""Containers made of chunks, whose sizes a recorder writes last: where the sound really ends.

A recorder that is switched off leaves the sizes of its last flush, or none. What follows the sound that a header
claims is then more sound, unless it is what may follow it: other chunks, tags, padding, or another recording.
"""

import re
import string
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from clapedge.audio.headers import ANOTHER
from clapedge.audio.sources import ByteView
from clapedge.errors import AudioFormatError

MAX_CHUNKS = 1000
"""Chunks before and behind the sound that are looked at: recorders write a dozen, an attack millions."""

MAX_SVX_CHUNKS = 64
"""Chunks of an Amiga's 8SVX before its sound: at some hundreds libsndfile 1.2 searches for ever."""

PADDING_BYTES = 2**17
"""Zeros behind the sound up to this are padding: the largest cluster that cards are formatted with by default."""

STRAY_BYTES = 1024
"""Less than this behind the sound is a tag or a slip of the writer, and no sound that anybody would miss."""

TEXT_BYTES = 32
"""So many printable characters in a row are a tag (ID3v1, APE, XML): samples hit them once in 10^13."""

UNKNOWN_SIZES = frozenset({2**32 - 1, 2**64 - 1})
"""Sizes by which a program says that it writes into a pipe; decoders read such files to their end."""

W64_TAIL = bytes.fromhex("F3ACD3118CD100C04F8EDB8A")
"""Behind the four letters of a chunk's name in Sony Wave64."""

RECORDING = re.compile(
    rb"RIF[FX]....WAVE|(RF|BW)64....WAVE|FORM....AIF[FC]|caff\0\x01\0\0|\.snd\0\0\0|riff\x2e\x91\xcf\x11"
    rb"|fLaC\0\0\0\x22|OggS\0\x02",
    re.DOTALL,
)
"""How a recording begins that follows another one in a file: files joined end to end."""

REACH_BYTES = 2**16
"""Tags between joined files are shorter, unless they hold pictures."""

KNOWN = frozenset(
    (
        b"LIST|id3 |ID3 |cue |bext|smpl|fact|iXML|axml|JUNK|junk|FLLR|PAD |PEAK|peak|inst|acid|AUTH|DISP|_PMX|plst|"
        b"NAME|ANNO|COMT|MARK|INST|MIDI|APPL|(c) |COMM|FVER|free|info|uuid|strg|mark|regn|midi|chan|kuki|pakt|edct"
    ).split(b"|")
)
"""Names of chunks that may follow the sound, whole or cut off; samples do not spell them."""

PRINTABLE = frozenset(string.printable.encode()) - {0x0B, 0x0C}


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """How a container writes its chunks.

    Attributes:
        first: offset of the first chunk.
        order: of the bytes of a number.
        kinds: what stands at offset 8 if the container holds sound; empty if it holds nothing else.
        sound: name of the chunk that holds the samples, and `fixed`, the bytes before them in its content.
        tail: what follows the four letters of a chunk's name.
        width: bytes of a size; `counts_header` if a size counts the name and itself.
        align: chunks begin on multiples of so many bytes.
        total: offset of the size of all, None if there is none; it counts what follows `total_from`.
        most: chunks before the sound.
    """

    first: int
    order: Literal["little", "big"]
    kinds: tuple[bytes, ...] = ()
    sound: bytes = b"data"
    fixed: int = 0
    tail: bytes = b""
    width: int = 4
    counts_header: bool = False
    align: int = 2
    total: int | None = 4
    total_from: int = 8
    most: int = MAX_CHUNKS

    @property
    def header(self) -> int:
        """Bytes of a chunk before its content."""
        return 4 + len(self.tail) + self.width

    @property
    def counted(self) -> int:
        """Bytes of a chunk's header that its size counts."""
        return self.header if self.counts_header else 0

    def number(self, data: bytes) -> int:
        """Return a number in the byte order of the container."""
        return int.from_bytes(data, self.order)

    def aligned(self, at: int) -> int:
        """Return where the next chunk begins."""
        return at + -at % self.align


@dataclass(frozen=True)
class _Chunk:
    """A chunk: its name, where its size and its content lie, and the size of its content by its header."""

    name: bytes
    size_at: int
    content: int
    size: int


_RIFF = _Layout(first=12, order="little", kinds=(b"WAVE",))
_AIFF = _Layout(first=12, order="big", kinds=(b"AIFF", b"AIFC"), sound=b"SSND", fixed=8)
_SVX = replace(_AIFF, kinds=(b"8SVX", b"16SV"), sound=b"BODY", fixed=0, most=MAX_SVX_CHUNKS)
_LAYOUTS = {
    b"RIFF": _RIFF,
    b"RF64": _RIFF,
    b"BW64": _RIFF,
    b"RIFX": replace(_RIFF, order="big"),
    b"FORM": _AIFF,
    b"8SVX": _SVX,
    b"16SV": _SVX,
    b"caff": _Layout(first=8, order="big", fixed=4, width=8, align=1, total=None),
    b"riff": _Layout(
        first=40, order="little", tail=W64_TAIL, width=8, counts_header=True, align=8, total=16, total_from=0
    ),
    b".snd": _Layout(first=0, order="big", align=1, total=None),
    b"dns.": _Layout(first=0, order="little", align=1, total=None),
}


def mend_sizes(view: ByteView, name: str) -> list[str]:
    """Patch a view whose header claims less sound than the file holds; return what is to be known, as sentences.

    Args:
        view: the file.
        name: what messages call it.

    Raises:
        AudioFormatError: the header is made of more chunks than any recorder writes.
    """
    head = view.peek(0, 12)
    layout = _LAYOUTS.get(head[8:], _LAYOUTS.get(head[:4]))
    if layout is None or (layout.kinds and head[8:] not in layout.kinds):
        return []
    if layout.first == 0:  # AU has one header, of the offset and the size of its samples
        return _mend(view, layout, _Chunk(head[:4], 8, layout.number(head[4:8]), layout.number(head[8:])), {})
    before: dict[bytes, _Chunk] = {}
    for number, chunk in enumerate(_chunks(view, layout, layout.first)):
        if chunk.name == layout.sound:
            return _mend(view, layout, chunk, before)
        if number >= layout.most:
            raise AudioFormatError(
                f"{name} has a header of more than {layout.most} chunks, which no recorder writes; convert it again"
            )
        before[chunk.name] = chunk
    return []


def _chunks(view: ByteView, layout: _Layout, at: int) -> Iterator[_Chunk]:
    """Yield the chunks from an offset to the end of the file."""
    while len(head := view.peek(at, layout.header)) == layout.header:
        size_at = at + layout.header - layout.width
        size = layout.number(head[-layout.width :]) - layout.counted
        if size < 0:
            return
        yield _Chunk(head[:4], size_at, at + layout.header, size)
        at = layout.aligned(at + layout.header + size)


def _mend(view: ByteView, layout: _Layout, sound: _Chunk, before: dict[bytes, _Chunk]) -> list[str]:
    """Patch the sizes of a container if samples follow those that it claims."""
    wide = before.get(b"ds64")
    size = sound.size
    if wide is not None:
        size = int.from_bytes(view.peek(wide.content + 8, 8), "little")
    claimed = size - layout.fixed
    if size in UNKNOWN_SIZES or sound.content + size >= view.size:
        return []
    notes = _what_follows(view, layout, sound.content + size, empty=claimed <= 0)
    if notes is not None:
        return notes
    real = view.size - sound.content
    _patch_number(view, sound.size_at, real + layout.counted, layout.width, layout.order)
    if layout.total is not None:
        _patch_number(view, layout.total, view.size - layout.total_from, layout.width, layout.order)
    if wide is not None:
        _patch_number(view, wide.content, view.size - 8, 8, "little")
        _patch_number(view, wide.content + 8, real, 8, "little")
    if b"COMM" in before:  # AIFF counts its frames once more, behind its channels and before its bits
        common = before[b"COMM"].content
        fields = view.peek(common, 8)
        frame = int.from_bytes(fields[:2], "big") * -(-int.from_bytes(fields[6:], "big") // 8)
        _patch_number(view, common + 2, (real - layout.fixed) // max(1, frame), 4, "big")
    found = f"{claimed} bytes of sound" if claimed > 0 else "no sound"
    there = real - layout.fixed
    return [f"its recorder did not finish it: its header claims {found}, {there} bytes are there and are read"]


def _patch_number(view: ByteView, at: int, value: int, width: int, order: Literal["little", "big"]) -> None:
    """Show another number; in place of one too large for its field, the one by which decoders read to the end."""
    view.patch(at, min(value, 2 ** (8 * width) - 1).to_bytes(width, order))


def _what_follows(view: ByteView, layout: _Layout, at: int, *, empty: bool) -> list[str] | None:
    """Return notes on what follows the claimed sound, [] if it is what may follow; None if it is sound.

    Args:
        view: the file.
        layout: of its chunks.
        at: where the sound ends by its header.
        empty: whether the header claims no sound: then however little there is, is the sound.
    """
    allowed = False
    for start in {layout.aligned(at): None, at: None}:  # some writers forget the byte that aligns
        end = _end_of_chunks(view, layout, start)
        joined = next_recording(view, end)
        if joined is not None:
            view.cut(joined)  # libsndfile reads W64 to the end of the file
            return [ANOTHER]
        allowed = allowed or end >= view.size or _is_stray(view, end, empty=empty and end == start)
    return [] if allowed else None


def next_recording(view: ByteView, at: int, reach: int = REACH_BYTES) -> int | None:
    """Return where another recording begins in the `reach` bytes from an offset on, or None."""
    found = RECORDING.search(view.peek(at, reach))
    return at + found.start() if found else None


def _end_of_chunks(view: ByteView, layout: _Layout, start: int) -> int:
    """Return where the chunks end that begin at an offset: the end of the file, or what is no chunk."""
    end = start
    if layout.first == 0:
        return end
    for number, chunk in enumerate(_chunks(view, layout, start)):
        letters = view.peek(end, 4 + len(layout.tail))
        fits = chunk.content + chunk.size <= view.size + 1 and PRINTABLE.issuperset(chunk.name)
        whole = fits and letters.endswith(layout.tail) and not RECORDING.match(view.peek(end, TEXT_BYTES))
        if number >= MAX_CHUNKS or (chunk.name in KNOWN and not whole):
            return view.size
        if not whole:
            break
        end = layout.aligned(chunk.content + chunk.size)
    return end


def _is_stray(view: ByteView, at: int, *, empty: bool = False) -> bool:
    """Return whether a tag, padding or nothing to speak of lies from an offset to the end of the file."""
    rest = view.size - at
    begin = view.peek(at, TEXT_BYTES)
    if begin.startswith((b"TAG", b"ID3", b"APETAGEX")) or (len(begin) == TEXT_BYTES and PRINTABLE.issuperset(begin)):
        return True
    return not empty and (rest < STRAY_BYTES or (rest <= PADDING_BYTES and not any(view.peek(at, rest))))
