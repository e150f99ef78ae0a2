"""What libsndfile does not report of headers: where they are wrong, and where another stream follows."""

import re
from dataclasses import dataclass

from clapedge.audio.sources import ByteView

ID3_HEADER = 10
"""Bytes of an ID3v2 header; the size in it counts what follows, 7 bits a byte."""

MAX_ID3_TAGS = 16
"""Tags at the beginning of a file that are skipped; more than these are an attack or damage."""

MP3_TAG_REACH = 4096
"""Bytes behind the ID3v2 tags in which the first MP3 frame begins; a frame is at most 2881 bytes long."""

MP3_FRAME_BYTES = (24, 2881)
"""The shortest and the longest frame; a header whose frames and bytes contradict that is not believed."""

OGG_TAIL = 2**17
"""Bytes at the end of an Ogg file that hold its last page: a page is at most 65307 bytes long."""

OGG_PAGE_HEADER = 27
OGG_SERIAL = slice(14, 18)
OGG_END = 4
"""Of the header of an Ogg page (RFC 3533): its bytes, the number of its stream, the flag of the last page."""

MAX_BOXES = 1000
"""Boxes of an MP4 that are looked at for a second file behind the first."""

ANOTHER = "another recording follows in the file and is not read; split the file to read all of it"

STREAMED_BYTES = 2**31 - 2**16
"""From here on a size in a WAV header is the placeholder of a program that could not seek back to fill it in."""


@dataclass(frozen=True)
class Mp3Tag:
    """The Xing, Info or VBRI header in the first frame of an MP3 stream.

    Attributes:
        mask: its offset in the file and what to put over its name, so that no decoder uses it.
        end: where the stream that it describes ends in the file, or None if unknown.
        goes_on: whether another stream begins there: files joined end to end.
    """

    mask: tuple[int, bytes]
    end: int | None
    goes_on: bool


def find_mp3_tag(view: ByteView) -> Mp3Tag | None:
    """Return the header with the length of an MP3 stream, if it has one."""
    start = skip_id3(view)
    head = view.peek(start, MP3_TAG_REACH)
    for name in (b"Xing", b"Info", b"VBRI"):
        at = head.find(name)
        # behind the frame header (4 bytes) and, for Xing and Info, the side information (9, 17 or 32 bytes)
        for distance in (36,) if name == b"VBRI" else (36, 21, 13):
            frame = at - distance
            if frame >= 0 and _is_sync(head[frame : frame + 2]):
                end = described_end(head, at, start + frame)
                following = view.peek(end, 3) if end else b""
                goes_on = following == b"ID3" or (_is_sync(following) and following[:2] == head[frame : frame + 2])
                return Mp3Tag((start + at, bytes(4)), end, goes_on)
    return None


def skip_id3(view: ByteView, offset: int = 0) -> int:
    """Return the offset behind the ID3v2 tags (titles, cover art) at the beginning, or at another offset."""
    for _ in range(MAX_ID3_TAGS):
        head = view.peek(offset, ID3_HEADER)
        if len(head) < ID3_HEADER or head[:3] != b"ID3":
            break
        size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        offset += ID3_HEADER + size + (ID3_HEADER if head[5] & 0x10 else 0)
    return offset


def ogg_faults(view: ByteView) -> list[str]:
    """Return a warning if another stream follows in an Ogg file, as in recordings of web radio, or if it is cut off."""
    first = view.peek(0, OGG_PAGE_HEADER)
    tail = view.peek(max(0, view.size - OGG_TAIL), OGG_TAIL)
    last = tail[tail.rfind(b"OggS") :][:OGG_PAGE_HEADER]
    if len(last) < OGG_PAGE_HEADER or last[:4] != b"OggS":
        return []
    if first[OGG_SERIAL] != last[OGG_SERIAL]:
        return ["another stream follows the first one in the file and is not read; convert the file to read all of it"]
    return [] if last[5] & OGG_END else ["it may be cut off: nothing marks the end of its stream"]


def mp4_faults(view: ByteView) -> list[str]:
    """Return a warning if another MP4 follows the first one in a file: FFmpeg reads the first table of contents."""
    at = 0
    for _ in range(MAX_BOXES):
        head = view.peek(at, 16)
        size = int.from_bytes(head[8:] if head[:4] == bytes((0, 0, 0, 1)) else head[:4], "big")
        if at and head[4:8] == b"ftyp":
            return [ANOTHER]
        if size < 8 or not head[4:8].isalnum():  # noqa: PLR2004 - the bytes of a box's header
            break
        at += size
    return [ANOTHER] if at and b"ftyp" in view.peek(at, MP3_TAG_REACH) else []


def contradictions(log: str, sample_rate: int) -> list[str]:
    """Return warnings where a header contradicts itself or the file, from the log that libsndfile writes.

    Args:
        log: `SoundFile.extra_info`.
        sample_rate: Hz that libsndfile uses.
    """
    notes = []
    size = re.search(
        r"^ *(?:data|SSND|RIFF|FORM|riff|Riff size|Data Size) *: (\d+) \(should be (\d+)\)", log, re.MULTILINE
    )
    if size and STREAMED_BYTES > int(size[1]) > int(size[2]):
        notes.append(f"it is cut off: its header promises {int(size[1])} bytes, {int(size[2])} are there")
    speed = re.search(r"^ *Bytes/sec *: (\d+) \(should be (\d+)\)", log, re.MULTILINE)
    if speed and re.search(r"=> WAVE_FORMAT_(PCM|IEEE_FLOAT|EXTENSIBLE|ALAW|MULAW)$", log, re.MULTILINE):
        notes.append(
            f"its header contradicts itself: {sample_rate} Hz are {int(speed[2])} bytes a second, not "
            f"{int(speed[1])}; it is read at {sample_rate} Hz"
        )
    return notes


def _is_sync(head: bytes) -> bool:
    """Return whether an MPEG audio frame of layer III begins here: eleven ones, then version and layer."""
    return len(head) >= 2 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2  # noqa: PLR2004 - the two bytes of the sync


def described_end(head: bytes, at: int, frame: int) -> int | None:
    """Return where a stream ends according to its header, in the file.

    Args:
        head: bytes that hold the header.
        at: where its name begins in them.
        frame: offset in the file of the frame that holds the header.
    """
    if head[at : at + 4] == b"VBRI":
        size = int.from_bytes(head[at + 10 : at + 14], "big")
    else:
        flags = int.from_bytes(head[at + 4 : at + 8], "big")
        frames, size = (int.from_bytes(head[field : field + 4], "big") for field in (at + 8, at + 12))
        if flags & 3 != 3 or not frames * MP3_FRAME_BYTES[0] <= size <= (frames + 1) * MP3_FRAME_BYTES[1]:  # noqa: PLR2004
            return None
    return frame + size if size else None
