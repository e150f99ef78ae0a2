"""Recordings at the ends of what a tower is given: none, the shortest, the loudest, and all loudness in between."""

import numpy as np

from clapedge.arrays import BoolArray, Float32Array
from clapedge.features.clips import ClipMaker, ClipOptions
from clapedge.features.front_end import FrontEnd

TONE = 997.0
"""Hz of sine and square: the usual one of tests, since it meets no sample twice (IEC 61606)."""

LONG_CLIPS = 2.5
"""Length of the recordings that are fused, in clips."""


def extreme_recordings(front_end: FrontEnd) -> dict[str, Float32Array]:
    """Return recordings (L,) float32 in ±1 by what they are; a fusion checkpoint has long ones too."""
    rate, clip = front_end.sample_rate, front_end.clip_samples
    generator = np.random.default_rng(0)
    noise = generator.normal(size=int(clip * LONG_CLIPS)).clip(-4, 4).astype(np.float32) / 4
    sine = np.sin(2 * np.pi * TONE * np.arange(len(noise)) / rate).astype(np.float32)
    click = np.zeros(rate, np.float32)
    click[rate // 2] = 1.0
    recordings = {
        "digital silence": np.zeros(rate, np.float32),
        "a click": click,
        "a full-scale sine": sine[:clip],
        "a full-scale square": np.sign(sine[:clip]),
        **{f"noise at {level} dBFS": noise[:clip] * np.float32(10 ** (level / 20)) for level in (0, -20, -60)},
    }
    if front_end.fusion:
        half = len(noise) // 2
        recordings |= {
            "long noise at 0 dBFS": noise,
            "a long full-scale square": np.sign(sine),
            "long silence after noise": np.concatenate([noise[:half], np.zeros(half, np.float32)]),
            "long digital silence": np.zeros_like(noise),
        }
    return recordings


def extreme_clips(front_end: FrontEnd) -> dict[str, tuple[Float32Array, BoolArray]]:
    """Return inputs of an audio tower, one clip each, by what they are: features and `is_longer`."""
    maker = ClipMaker(front_end)
    clips = {}
    for name, samples in extreme_recordings(front_end).items():
        made = maker(samples, ClipOptions("fuse" if len(samples) > front_end.clip_samples else "first"))
        clips[name] = made.features, made.is_longer
    return clips
