"""Changes to log-mels (T, 64) in dB that keep what is heard: tempo, pitch, colour, room, noise, level, gaps, mixing."""

import numpy as np
from scipy import signal

from clapedge.arrays import Float32Array

Random = np.random.Generator

FLOOR_DB = -100.0
"""dB of digital silence: 10 log10 of the mel floor 1e-10."""
CEILING_DB = 50.0
"""dB of a full-scale sine: a quarter of the window's sum, squared."""
BANDS = 64


def to_power(mel: Float32Array) -> Float32Array:
    """Convert dB to linear power."""
    return np.exp(mel * np.float32(np.log(10) / 10))


def to_db(power: Float32Array) -> Float32Array:
    """Convert linear power to dB, at least the floor."""
    return np.log(np.maximum(power, np.float32(1e-10))) * np.float32(10 / np.log(10))


def vary(mel: Float32Array, rng: Random) -> Float32Array:
    """Return a variation of one sound: another tempo, pitch, colour or room."""
    if rng.random() < 0.5:
        mel = stretch(mel, rng.uniform(0.8, 1.25))
    if rng.random() < 0.5:
        mel = shift_bands(mel, int(rng.integers(-3, 4)))
    if rng.random() < 0.6:
        mel = equalise(mel, rng)
    if rng.random() < 0.15:
        mel = reverberate(mel, rng)
    return mel


def stretch(mel: Float32Array, factor: float) -> Float32Array:
    """Change the tempo: resample time linearly to `factor` times as many frames."""
    count = max(2, round(len(mel) * factor))
    position = np.linspace(0, len(mel) - 1, count, dtype=np.float32)
    first = np.minimum(position.astype(np.int64), len(mel) - 2) if len(mel) > 1 else np.zeros(count, np.int64)
    weight = (position - first).astype(np.float32)[:, None]
    return mel[first] * (1 - weight) + mel[np.minimum(first + 1, len(mel) - 1)] * weight


def shift_bands(mel: Float32Array, bands: int) -> Float32Array:
    """Change the pitch by whole mel bands; the band at the edge is repeated."""
    return mel[:, np.clip(np.arange(BANDS) - bands, 0, BANDS - 1)]


def equalise(mel: Float32Array, rng: Random) -> Float32Array:
    """Colour the sound as another microphone would: a smooth curve over frequency."""
    knots = np.cumsum(rng.normal(0.0, 3.0, 5))
    curve = np.interp(np.arange(BANDS), np.linspace(0, BANDS - 1, 5), knots - knots.mean())
    return np.maximum(mel + curve.astype(np.float32), FLOOR_DB)


def reverberate(mel: Float32Array, rng: Random) -> Float32Array:
    """Let every frame die away slowly, as in a room."""
    keep = np.exp(-1 / rng.uniform(5, 40))
    power = to_power(mel)
    tail = signal.lfilter([1 - keep], [1, -keep], power, axis=0).astype(np.float32)
    return to_db(power + np.float32(rng.uniform(0.1, 0.7)) * tail)


def add_noise(mel: Float32Array, rng: Random) -> Float32Array:
    """Add steady noise of a random colour, 0 to 35 dB below the sound."""
    power = to_power(mel)
    colour = np.cumsum(rng.normal(0.0, 4.0, 6))
    curve = np.interp(np.arange(BANDS), np.linspace(0, BANDS - 1, 6), colour - colour.max())
    # the power of a mel band of noise scatters the less, the more spectral bins it covers (1 to 12)
    shape = np.linspace(1.0, 10.0, BANDS)
    bed = rng.standard_gamma(np.broadcast_to(shape, mel.shape)).astype(np.float32) / shape.astype(np.float32)
    bed *= (10 ** (curve / 10)).astype(np.float32)
    below = 10 ** (-rng.uniform(0.0, 35.0) / 10)
    return to_db(power + bed * np.float32(below * power.mean() / max(bed.mean(), 1e-20)))


def change_level(mel: Float32Array, rng: Random) -> Float32Array:
    """Play it louder or softer, but never above full scale."""
    gain = min(rng.uniform(-30.0, 15.0), CEILING_DB - float(mel.max()))
    return np.maximum(mel + np.float32(gain), FLOOR_DB)


def mask(mel: Float32Array, rng: Random) -> Float32Array:
    """Blank out up to two stripes of time and two of frequency with the mean level (SpecAugment)."""
    mel = mel.copy()
    level = mel.mean()
    for _ in range(rng.integers(0, 3)):
        start, count = rng.integers(0, BANDS), rng.integers(1, 9)
        mel[:, start : start + count] = level
    for _ in range(rng.integers(0, 3)):
        start, count = rng.integers(0, len(mel)), rng.integers(1, 121)
        mel[start : start + count] = level
    return mel


def mix(first: Float32Array, second: Float32Array, share: float) -> Float32Array:
    """Mix two sounds in linear power, `share` of the first, after bringing the second to the level of the first."""
    one, other = to_power(first), to_power(second)
    level = one.mean() / max(other.mean(), 1e-10)
    return to_db(np.float32(share) * one + np.float32((1 - share) * level) * other)
