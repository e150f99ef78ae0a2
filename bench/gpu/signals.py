"""What the checks listen to: sounds at the ends of what a recording can be, as log-mels and as files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile

from clapedge.arrays import BoolArray, Float32Array
from clapedge.features.clips import ClipMaker, ClipOptions
from clapedge.features.front_end import FrontEnd

SAMPLE_RATE = 48_000

LONG_SECONDS = 25
"""Length of the recordings that are fused: more than two clips, and no whole number of them."""


def noise(seconds: float, dbfs: float, seed: int) -> Float32Array:
    """Return uniform white noise whose peak lies at a level."""
    draw = np.random.default_rng(seed)
    return (10 ** (dbfs / 20) * draw.uniform(-1, 1, round(seconds * SAMPLE_RATE))).astype(np.float32)


def tone(seconds: float, start_hz: float, end_hz: float, dbfs: float) -> Float32Array:
    """Return a sine that glides from one frequency to another."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * (start_hz * time + (end_hz - start_hz) * time**2 / (2 * seconds))
    return (10 ** (dbfs / 20) * np.sin(phase)).astype(np.float32)


def click() -> Float32Array:
    """Return one full-scale sample amid a second of digital silence."""
    samples = np.zeros(SAMPLE_RATE, np.float32)
    samples[SAMPLE_RATE // 2] = 1
    return samples


def recordings() -> dict[str, Float32Array]:
    """Return sixteen recordings by name: silence, a click, full scale, noise at three levels, glides.

    Short and long ones alternate, so that a batch of 8 holds both.
    """
    silence = np.zeros(SAMPLE_RATE, np.float32)
    return {
        "silence": silence,
        "long noise at 0 dBFS": noise(LONG_SECONDS, 0, 5),
        "click": click(),
        "sine at full scale": tone(10, 1_000, 1_000, 0),
        "silence, then noise": np.concatenate([np.zeros(12 * SAMPLE_RATE, np.float32), noise(13, -10, 7)]),
        "square at full scale": np.sign(tone(10, 440, 440, 0)),
        "long glide": tone(LONG_SECONDS, 50, 20_000, -3),
        "noise at 0 dBFS": noise(10, 0, 1),
        "noise at -20 dBFS": noise(10, -20, 2),
        "long silence": np.zeros(LONG_SECONDS * SAMPLE_RATE, np.float32),
        "noise at -60 dBFS": noise(10, -60, 3),
        "short noise": noise(1, -20, 4),
        "noise, then a click": np.concatenate([noise(14, -30, 8), click()]),
        "glide": tone(10, 100, 15_000, -12),
        "long noise at -60 dBFS": noise(LONG_SECONDS, -60, 6),
        "low tone": tone(3, 80, 60, -6),
    }


def clips(front_end: FrontEnd) -> tuple[Float32Array, BoolArray]:
    """Return the recordings as inputs of a tower: (16, channels, 1001, 64) and (16,); the long ones are fused."""
    maker = ClipMaker(front_end)
    options = ClipOptions(window="fuse" if front_end.fusion else "first")
    made = [maker(samples, options) for samples in recordings().values()]
    return np.concatenate([clip.features for clip in made]), np.concatenate([clip.is_longer for clip in made])


def write_recordings(directory: Path, sounds: Mapping[str, Float32Array] | None = None) -> list[Path]:
    """Write recordings as WAV files of 16 bits, and return their paths."""
    paths = []
    for name, samples in (recordings() if sounds is None else sounds).items():
        paths.append(directory / f"{name.replace(' ', '-').replace(',', '')}.wav")
        soundfile.write(paths[-1], samples, SAMPLE_RATE, subtype="PCM_16")
    return paths


def write_ordinary(directory: Path, count: int) -> list[Path]:
    """Write WAV files of 10 s of noise under a glide, all different, and return their paths."""
    sounds = {
        f"ordinary {number}": noise(10, -30, number) + tone(10, 100 + 20 * number, 4_000, -12)
        for number in range(count)
    }
    return write_recordings(directory, sounds)
