"""How a short recording fills a clip."""

from typing import Literal

import numpy as np

from clapedge.arrays import Float32Array

Pad = Literal["repeatpad", "repeat", "zero"]


def pad_samples(samples: Float32Array, length: int, pad: Pad) -> Float32Array:
    """Fill (L,) up to `length` samples; what is longer stays as it is.

    `repeatpad` puts `length // L` copies and zeros behind them, `repeat` copies to the end, `zero` only zeros
    (`ClapFeatureExtractor._get_input_mel`; there the last is called `pad`).
    """
    missing = length - len(samples)
    if missing <= 0:
        return samples
    if pad == "repeat":
        return np.resize(samples, length)
    copies = length // len(samples) if pad == "repeatpad" else 1
    padded = np.zeros(length, np.float32)
    padded[: copies * len(samples)] = np.tile(samples, copies)
    return padded
