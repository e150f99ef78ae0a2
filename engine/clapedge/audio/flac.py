"""FLAC files whose header claims fewer samples than there are: the last frame tells how many."""

from clapedge.audio.headers import skip_id3
from clapedge.audio.sources import ByteView

TAIL_BYTES = 2**17
"""At the end of a file, that hold the header of its last frame: a frame of 4096 samples of 8 channels has 98 kB."""

FRAME_HEADER_BYTES = 16
"""The longest header of a frame (RFC 9639, section 9.1)."""

BLOCK_SIZES = {1: 192} | {code: 576 << (code - 2) for code in range(2, 6)} | {code: 1 << code for code in range(8, 16)}
"""Samples of a frame by the code in its header; the codes 6 and 7 say that the number follows."""

TOTAL_BITS = 36


def mend_flac(view: ByteView) -> list[str]:
    """Patch the number of samples in a view of FLAC that holds more; return what is to be known, as sentences."""
    start = skip_id3(view)
    head = view.peek(start, 26)
    if head[:4] != b"fLaC" or len(head) < 26:  # noqa: PLR2004 - the marker and the fields of STREAMINFO
        return []
    field = int.from_bytes(head[18:26], "big")
    total = field % 2**TOTAL_BITS
    rate = int.from_bytes(head[18:21], "big") >> 4
    real = _samples(view, int.from_bytes(head[8:10], "big")) if total and rate else 0
    if real <= total or real >= 2**TOTAL_BITS:
        return []
    view.patch(start + 18, (field - total + real).to_bytes(8, "big"))
    return [f"its header claims {total / rate:.2f} s, {real / rate:.2f} s are there and are read"]


def _samples(view: ByteView, fixed_size: int) -> int:
    """Return the number of samples by the last frame of a file, 0 if none is found; blocks may have a fixed size."""
    tail = view.peek(max(0, view.size - TAIL_BYTES), TAIL_BYTES)
    at = len(tail)
    while (at := tail.rfind(b"\xff", 0, at)) >= 0:
        found = _frame(tail[at : at + FRAME_HEADER_BYTES])
        if found is not None:
            number, size = found
            return number * (1 if tail[at + 1] & 1 else fixed_size) + size
    return 0


def _frame(head: bytes) -> tuple[int, int] | None:
    """Return the number of a frame (of its first sample if sizes vary) and its samples; None if this is not one."""
    if len(head) < FRAME_HEADER_BYTES or head[1] & 0xFE != 0xF8 or head[3] & 1:  # noqa: PLR2004 - the sync code
        return None
    ones = 8 - (head[4] ^ 0xFF).bit_length()  # of the number, coded as UTF-8 codes characters
    if ones in {1, 8}:
        return None
    end = 4 + max(1, ones)
    number = head[4] & (0x7F >> ones)
    for byte in head[5:end]:
        number = number << 6 | byte & 0x3F
    code = head[2] >> 4
    extra = {6: 1, 7: 2}.get(code, 0)
    size = int.from_bytes(head[end : end + extra], "big") + 1 if extra else BLOCK_SIZES.get(code, 0)
    end += extra + {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    return (number, size) if size and _crc8(head[:end]) == head[end] else None


def _crc8(data: bytes) -> int:
    """Return the checksum of a frame's header: polynomial 0x07."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ (0x07 if value & 0x80 else 0)) & 0xFF
    return value
