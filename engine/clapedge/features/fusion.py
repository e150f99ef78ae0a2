"""A long recording in one input of four mels: the whole shrunk to a clip's length, and a crop from each third."""

from typing import Literal

import numpy as np

from clapedge.arrays import Float32Array, Int64Array

Fusion = Literal["long", "always"]


def crop_starts(frames: int, length: int, *, seed: int | None = None) -> tuple[int, int, int]:
    """Return the first frames of the crops in the front, middle and back third of all positions.

    The positions are split as `np.array_split` does, an empty part becoming position 0 as in the reference.

    Args:
        frames: of the recording, at least `length`.
        length: frames of a crop.
        seed: None takes the centre of each third; else positions are drawn in that order from NumPy's legacy generator.
    """
    thirds = [third if len(third) else np.zeros(1, int) for third in np.array_split(np.arange(frames - length + 1), 3)]
    random = None if seed is None else np.random.RandomState(seed)
    front, middle, back = (int(third[len(third) // 2] if random is None else random.choice(third)) for third in thirds)
    return front, middle, back


def shrink(mel: Float32Array, frames: int) -> Float32Array:
    """Resize a mel (T, n_mels) over time to `frames`, see `shrink_taps`."""
    low, high, weight = shrink_taps(len(mel), frames)
    return blend(mel[low], mel[high], weight)


def shrink_taps(total: int, frames: int) -> tuple[Int64Array, Int64Array, Float32Array]:
    """Return how to resize `total` frames over time to `frames`, bilinear without antialiasing (align_corners=False).

    As `torch.nn.functional.interpolate`, whose weights are float32: computing them in float64 moves the
    result by up to 0.05 dB for ten minutes. Its multiplication and subtraction are one fused operation, rounded
    once; rounding twice would move a frame at the edge of silence by 1e-3 dB.

    Returns:
        For each frame of the result the two that it lies between, (frames,) each, and the weight of the second, as
        `blend` takes them.
    """
    scale = float(np.float32(total / frames))
    position = np.maximum(((np.arange(frames) + 0.5) * scale - 0.5).astype(np.float32), 0)
    low = position.astype(np.int64)
    return low, np.minimum(low + 1, total - 1), position - low.astype(np.float32)


def blend(low: Float32Array, high: Float32Array, weight: Float32Array) -> Float32Array:
    """Mix two mels (T, n_mels) frame by frame, the second with its weight (T,)."""
    second = weight[:, None]
    mixed: Float32Array = low * (np.float32(1) - second) + high * second
    return mixed
