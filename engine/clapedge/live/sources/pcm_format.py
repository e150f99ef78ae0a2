"""How samples lie in a stream of bytes."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clapedge import audio
from clapedge.arrays import Float32Array
from clapedge.audio.decoder import to_float
from clapedge.errors import UsageError

SAMPLE_TYPES: dict[str, str] = {
    "u8": "u1",
    "s8": "i1",
    **{f"s{bits}{end}": f"{order}i{bits // 8}" for bits in (16, 32) for end, order in (("le", "<"), ("be", ">"))},
    **{f"f{bits}{end}": f"{order}f{bits // 8}" for bits in (32, 64) for end, order in (("le", "<"), ("be", ">"))},
}
"""NumPy's names of sample formats by FFmpeg's; NumPy has no type of 24 bits."""

PACKED_BYTES = 3
PACKED_24 = {"s24le": "<i4", "s24be": ">i4"}
"""Formats of three bytes a sample, and as what they are read once a fourth byte is added."""

FORMATS = (*SAMPLE_TYPES, *PACKED_24)

ALSA_NAMES = {"s24_3le": "s24le", "s24_3be": "s24be", "float_le": "f32le", "float64_le": "f64le"}
"""What arecord calls formats whose names differ by more than an underscore."""

ALSA_24 = frozenset({"s24_le", "s24_be"})
"""arecord's formats of 24 bits in four bytes, whose names look like those of three."""


@dataclass(frozen=True)
class PcmFormat:
    """How samples lie in a stream of bytes.

    Attributes:
        sample_rate: Hz.
        channels: samples of a frame, interleaved.
        sample_format: one of `FORMATS`, or arecord's name for it (`S16_LE`, `S24_3LE`).
    """

    sample_rate: int
    channels: int = 1
    sample_format: str = "s16le"

    def __post_init__(self) -> None:
        """Normalise the name of the format; raise `UsageError` if it or the sample rate is not supported."""
        lowest, highest = audio.MIN_SAMPLE_RATE, audio.MAX_SAMPLE_RATE
        if not lowest <= self.sample_rate <= highest:
            raise UsageError(f"the sample rate is {self.sample_rate} Hz; give {lowest} to {highest} Hz")
        given = self.sample_format
        name = given.lower()
        if name in ALSA_24:
            raise UsageError(f"{given} of arecord has four bytes a sample; record with -f S24_3LE or -f S32_LE")
        object.__setattr__(self, "sample_format", ALSA_NAMES.get(name, name.replace("_", "")))
        if self.sample_format not in FORMATS:
            raise UsageError(f"the sample format is {given!r}; give one of {', '.join(FORMATS)}")

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of each channel."""
        packed = self.sample_format in PACKED_24
        return (PACKED_BYTES if packed else np.dtype(SAMPLE_TYPES[self.sample_format]).itemsize) * self.channels

    def frames(self, data: bytes) -> Float32Array:
        """Return whole frames as (n, channels) in ±1."""
        packed = self.sample_format in PACKED_24
        samples = (
            _unpacked(data, self.sample_format) if packed else np.frombuffer(data, SAMPLE_TYPES[self.sample_format])
        )
        return to_float(samples).reshape(-1, self.channels)


def _unpacked(data: bytes, sample_format: str) -> npt.NDArray[np.int32]:
    """Return samples of three bytes as integers of four, the added byte being the lowest."""
    packed = np.frombuffer(data, np.uint8).reshape(-1, PACKED_BYTES)
    wide = np.zeros((len(packed), PACKED_BYTES + 1), np.uint8)
    wide[:, 1:] = packed
    if sample_format == "s24be":
        wide = np.roll(wide, -1, axis=1)
    return wide.view(PACKED_24[sample_format])[:, 0]
