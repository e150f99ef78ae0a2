"""Recordings by a formula in whole numbers: the same bits on every machine and in every language, without a file.

Every sample is a multiple of 2^-18 below 1, so that float32 holds it exactly. `docs/bundle.md` has the formula
in words.
"""

import numpy as np

from clapedge.arrays import Float32Array

SECOND = 48_000
"""Samples of a second."""

BURST = 12_000
"""Samples for which noise is on, and then off."""


def formula_recordings() -> dict[str, Float32Array]:
    """Return recordings (L,) float32 at 48 kHz by name: shorter than a clip, as long as one, and two and a half."""
    short = sweep(3 * SECOND, step=17_895_697, change=1_118) * np.float32(0.5)
    clip = noise(10 * SECOND, seed=1) * np.float32(0.25) * _bursts(10 * SECOND)
    long = sweep(25 * SECOND, step=268_435_456, change=-178) * np.float32(0.25)
    long += noise(25 * SECOND, seed=2) * np.float32(0.125) * _bursts(25 * SECOND)
    return {"short": short, "clip": clip, "long": long}


def sweep(samples: int, *, step: int, change: int) -> Float32Array:
    """Return a triangle wave (samples,) float32 in ±1 whose pitch rises or falls.

    Args:
        samples: its length.
        step: by which the phase first grows per sample, in 2^-32 of a turn: 48,000 / 2^32 Hz.
        change: by which the step grows per sample.
    """
    n = np.arange(samples, dtype=np.int64)
    phase = (step * n + change * (n * (n - 1) // 2)) % 2**32 >> 16
    return np.asarray(np.abs(phase - 2**15) / 2**14 - 1, np.float32)


def noise(samples: int, *, seed: int) -> Float32Array:
    """Return white noise (samples,) float32 in ±1: the number of each sample, hashed.

    The hash is the 32-bit finaliser of MurmurHash3 (Austin Appleby, public domain).
    """
    h = np.arange(samples, dtype=np.uint32) + np.uint32(seed << 24)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h ^= h >> np.uint32(shift)
        h *= np.uint32(factor)
    h ^= h >> np.uint32(16)
    return np.asarray((h >> np.uint32(16)) / 2**15 - 1, np.float32)


def _bursts(samples: int) -> Float32Array:
    """Return 1 and 0 (samples,) float32 in turns."""
    return np.asarray(np.arange(samples) // BURST % 2 == 0, np.float32)
