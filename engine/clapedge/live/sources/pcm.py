"""Raw samples as a sound card delivers them: bytes without a header to frames."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clapedge.arrays import Float32Array
from clapedge.audio.decoder import to_float
from clapedge.errors import UsageError

SAMPLE_TYPES: dict[str, str] = {
    "u8": "u1",
    "s8": "i1",
    **{f"s{bits}{end}": f"{order}i{bits // 8}" for bits in (16, 32) for end, order in (("le", "<"), ("be", ">"))},
    **{f"f{bits}{end}": f"{order}f{bits // 8}" for bits in (32, 64) for end, order in (("le", "<"), ("be", ">"))},
}
"""NumPy's names of sample formats by FFmpeg's; 24 bits, which NumPy has not, apart."""

PACKED_BYTES = 3
PACKED_24 = {"s24le": "<i4", "s24be": ">i4"}
"""Formats of three bytes a sample, and what four of them are read as."""

FORMATS = (*SAMPLE_TYPES, *PACKED_24)

ALSA_NAMES = {"s24_3le": "s24le", "s24_3be": "s24be", "float_le": "f32le", "float64_le": "f64le"}
"""What arecord calls formats whose names differ by more than an underscore."""

ALSA_24 = frozenset({"s24_le", "s24_be"})
"""arecord's formats of 24 bits in four bytes, which look like others of three."""

BLOCK_SECONDS = 0.05
"""Read at once at most: what comes later than its arrival is late by as much."""


@dataclass(frozen=True)
class PcmFormat:
    """How samples lie in a stream of bytes.

    Attributes:
        rate: Hz.
        channels: samples of a frame, interleaved.
        sample: one of `FORMATS`; arecord's names (`S16_LE`, `S24_3LE`) are understood too.
    """

    rate: int
    channels: int = 1
    sample: str = "s16le"

    def __post_init__(self) -> None:
        """Refuse formats that nobody records in, and keep one spelling."""
        name = self.sample.lower()
        if name in ALSA_24:
            raise UsageError(f"{self.sample} of arecord has four bytes a sample; record with -f S24_3LE or -f S32_LE")
        object.__setattr__(self, "sample", ALSA_NAMES.get(name, name.replace("_", "")))
        if self.sample not in FORMATS:
            raise UsageError(f"the sample format is {self.sample!r}; give one of {', '.join(FORMATS)}")

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of each channel."""
        wide = PACKED_BYTES if self.sample in PACKED_24 else np.dtype(SAMPLE_TYPES[self.sample]).itemsize
        return wide * self.channels

    def frames(self, data: bytes) -> Float32Array:
        """Return whole frames as (n, channels) in ±1."""
        if self.sample in PACKED_24:
            samples = _widened(data, self.sample)
        else:
            samples = np.frombuffer(data, SAMPLE_TYPES[self.sample])
        return to_float(samples).reshape(-1, self.channels)


def _widened(data: bytes, sample: str) -> npt.NDArray[np.int32]:
    """Return samples of three bytes as integers of four, the added byte being the lowest."""
    packed = np.frombuffer(data, np.uint8).reshape(-1, PACKED_BYTES)
    wide = np.zeros((len(packed), PACKED_BYTES + 1), np.uint8)
    wide[:, 1:] = packed
    if sample == "s24be":
        wide = np.roll(wide, -1, axis=1)
    return wide.view(PACKED_24[sample])[:, 0]


class PcmReader:
    """Reads frames from a stream of bytes that comes in pieces of any length.

    Attributes:
        torn: bytes at the end that made no whole frame.
    """

    def __init__(self, read: Callable[[int], bytes | None], pcm: PcmFormat) -> None:
        """Prepare to read.

        Args:
            read: returns up to so many bytes, waiting for the first; none at the end.
            pcm: how samples lie in them.
        """
        self._read, self._pcm = read, pcm
        self.torn = 0

    def __iter__(self) -> Iterator[Float32Array]:
        """Yield frames (n, channels) in ±1 as they come."""
        wide = self._pcm.frame_bytes
        most = max(1, round(BLOCK_SECONDS * self._pcm.rate)) * wide
        held = b""
        while data := self._read(most - len(held)):
            held += data
            whole = len(held) - len(held) % wide
            if whole:
                yield self._pcm.frames(held[:whole])
                held = held[whole:]
        self.torn = len(held)
