"""Recordings as users' devices write them: quiet noise with a tone of 1 kHz at a known second, in any container."""

import io
import struct

import numpy as np
import soundfile

from clapedge.arrays import Float32Array

RATE = 48_000
TONE_SECONDS = 3.0
FRAME = 480
"""Samples of a hundredth of a second, in which the tone is looked for."""


def recording(seconds: float, tone: float, *, rate: int = RATE) -> Float32Array:
    """Return noise at -60 dBFS, (samples,), with a tone of 3 s that begins at second `tone`."""
    samples = np.random.default_rng(1).standard_normal(round(seconds * rate)) * 1e-3
    span = slice(round(tone * rate), round((tone + TONE_SECONDS) * rate))
    samples[span] += 0.3 * np.sin(2 * np.pi * 1000 * np.arange(span.stop - span.start) / rate)
    return samples.astype(np.float32)


def tone_at(samples: Float32Array) -> float | None:
    """Return the second at which the tone begins in samples at 48 kHz; None if there is none."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    level = np.abs(frames @ np.exp(-2j * np.pi * 1000 * np.arange(FRAME) / RATE)) / FRAME
    found = np.flatnonzero(level > 0.075)  # half of what the tone gives
    return int(found[0]) * FRAME / RATE if len(found) else None


def encoded(samples: Float32Array, kind: str = "WAV", subtype: str = "PCM_16", *, rate: int = RATE) -> bytes:
    """Return samples (n,) or (channels, n) as the bytes of a file that libsndfile writes."""
    file = io.BytesIO()
    constant = {"bitrate_mode": "CONSTANT"} if kind == "MP3" else {}
    soundfile.write(file, samples.T, rate, format=kind, subtype=subtype, **constant)
    return file.getvalue()


def with_numbers(data: bytes, numbers: dict[int, int], code: str) -> bytes:
    """Return a file with other numbers at offsets, packed by a code of `struct`."""
    changed = bytearray(data)
    for at, number in numbers.items():
        struct.pack_into(code, changed, at, number)
    return bytes(changed)
