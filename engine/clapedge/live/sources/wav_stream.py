"""The header of a WAV file that comes through a pipe (`arecord -t wav`), where nothing can be sought.

Its sizes are those of the moment when it was written: none, the largest possible, or right. Samples that are there are
never hidden by them.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from clapedge.errors import AudioError, UsageError
from clapedge.live.sources.pcm_format import PcmFormat

FORMAT = struct.Struct("HHIIHH").size
"""Bytes of the chunk `fmt ` that every file has; those of EXTENSIBLE go on, with the true tag behind eight bytes."""

START = 8
"""Bytes of a chunk's name and size."""

BYTE = 8
"""Bits."""

HEADER_BYTES = 2**20
"""Chunks before the samples take no more: a stream that claims more is none that can be listened to."""

UNKNOWN = frozenset({0, 2**32 - 1, 2**64 - 1})
"""Sizes that a program writes which does not know them."""

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
"""Format tags (`WAVE_FORMAT_*` of mmreg.h)."""

SAMPLE_FORMATS = {
    (PCM, 8): "u8", (PCM, 16): "s16", (PCM, 24): "s24", (PCM, 32): "s32", (FLOAT, 32): "f32", (FLOAT, 64): "f64",
}  # fmt: skip
"""By format tag and bits of a sample."""

FILES = frozenset({b"RIFF", b"RIFX", b"RF64"})
"""How a file begins."""

OTHER_CHUNKS = frozenset(b"LIST,id3 ,ID3 ,bext,cue ,fact,PEAK,JUNK,smpl,iXML,_PMX".split(b","))
"""Chunks that may follow the samples; whatever else does is sound."""


class ByteStream:
    """Bytes of a pipe, some of which can be put back."""

    def __init__(self, read: Callable[[int], bytes | None]) -> None:
        """Read with a function that returns up to so many bytes, waiting for the first; none at the end."""
        self._read, self._held = read, b""

    def some(self, most: int) -> bytes:
        """Return up to so many bytes, waiting for the first; none at the end."""
        if not most:
            return b""
        data, self._held = self._held[:most], self._held[most:]
        return data or self._read(most) or b""

    def exactly(self, count: int) -> bytes:
        """Return so many bytes, or what is left at the end."""
        data = b""
        while len(data) < count and (more := self.some(count - len(data))):
            data += more
        return data

    def put_back(self, data: bytes) -> None:
        """Let bytes be read again."""
        self._held = data + self._held


@dataclass(frozen=True)
class WavHeader:
    """What a header says.

    Attributes:
        pcm: how samples lie behind it.
        bytes: how many of samples follow; None means to the end.
    """

    pcm: PcmFormat
    bytes: int | None


def read_header(stream: ByteStream, name: str) -> WavHeader | None:
    """Read up to the first sample; None, with nothing read, if the stream does not begin with a header.

    Raises:
        AudioError: there is one, of samples that are not understood, or the stream ends within it.
    """
    head = stream.exactly(4)
    if head in FILES:
        head += stream.exactly(8)
    if head[8:] != b"WAVE":
        stream.put_back(head)
        return None
    order = ">" if head[:4] == b"RIFX" else "<"
    pcm, wide, read = None, None, 0
    while len(start := stream.exactly(START)) == START and read <= HEADER_BYTES:
        kind, size = struct.unpack(f"{order}4sI", start)
        if kind == b"data":
            if pcm is None:
                break
            size = size if wide is None else wide
            return WavHeader(pcm, None if size in UNKNOWN else size)
        body = stream.exactly(min(size + size % 2, HEADER_BYTES))
        read += len(body)
        if kind == b"fmt ":
            pcm = _format(body, order, name)
        if kind == b"ds64":
            wide = int.from_bytes(body[8:16], "little")
    raise AudioError(f"{name} begins as WAV, and no samples follow; see what the program before the pipe prints")


def skip_chunks(stream: ByteStream) -> bool:
    """Skip the chunks behind samples; return whether more samples follow."""
    start = stream.exactly(1 + 4)
    padded = start[:1] == b"\0" and (len(start) == 1 or start[1:] in OTHER_CHUNKS | FILES)
    stream.put_back(start[padded:])
    while len(start := stream.exactly(START)) == START and start[:4] in OTHER_CHUNKS:
        left = int.from_bytes(start[4:], "little")
        left += left % 2
        while left and (data := stream.some(min(left, 2**16))):
            left -= len(data)
    stream.put_back(start)
    return bool(start)


def _format(body: bytes, order: str, name: str) -> PcmFormat:
    """Return the format that the chunk `fmt ` describes."""
    if len(body) < FORMAT:
        raise AudioError(f"{name} begins as WAV whose format is cut off; record raw samples (-t raw)")
    tag, channels, rate, _, align, bits = struct.unpack(f"{order}HHIIHH", body[:FORMAT])
    if tag == EXTENSIBLE and body[FORMAT + 8 :]:
        tag = int.from_bytes(body[FORMAT + 8 : FORMAT + 10], "big" if order == ">" else "little")
    known = SAMPLE_FORMATS.get((tag, bits))
    if known is None or not channels or align != channels * bits // BYTE:
        raise AudioError(
            f"{name} is WAV with format tag {tag}, {bits} bits in {align} bytes and channels: {channels}, which is not "
            "read from a pipe; record with -f S16_LE"
        )
    end = "" if bits == BYTE else "le" if order == "<" else "be"
    try:
        return PcmFormat(rate, channels, known + end)
    except UsageError as error:
        raise AudioError(f"{name} is WAV: {error}") from None
