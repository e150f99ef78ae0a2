"""Recordings and prompts as a formula: inputs of proofs and of test vectors, the same bits everywhere, without a file.

Everything is made of whole numbers below 2^24, which float32 holds exactly: no library of mathematics has a say.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from clapedge.arrays import Float32Array
from clapedge.features.clips import ClipMaker, ClipOptions, Clips
from clapedge.features.front_end import FrontEnd

FORMULA = 1
"""Number of this formula, in every proof: change it with anything below, and old proofs are not compared with."""

PROMPTS = ("rain", "This is a sound of dog barking.", "警报声")
"""Texts of a proof: short and longer, in and beyond ASCII."""

TURN = 1 << 24
"""Steps of a whole oscillation."""

CHIRP_HERTZ, TONE_HERTZ = (100, 8_000), 997

LONG_CLIPS = 2.5
"""Length of the recording that a fusion model fuses, in clips."""


def proof_clips(maker: ClipMaker) -> Iterator[Clips]:
    """Yield the clips of a proof, one at a time, as inputs of an audio tower."""
    for samples in recordings(maker.front_end):
        longer = len(samples) > maker.front_end.clip_samples
        yield maker(samples, ClipOptions("fuse" if longer else "first"))


def recordings(front_end: FrontEnd) -> Iterator[Float32Array]:
    """Yield the recordings of a proof, each (L,) float32 in ±1; the long one only where a model fuses."""
    found = named_recordings(front_end)
    yield from (samples for name, samples in found.items() if name != "long" or front_end.fusion)


def named_recordings(front_end: FrontEnd) -> dict[str, Float32Array]:
    """Return recordings by name, each (L,) float32 in ±1; docs/bundle.md has the formula in words.

    A chirp in a little noise; noise that fills a third of a clip; a tone, then silence; all of that for more than two
    clips.
    """
    rate, clip = front_end.sample_rate, front_end.clip_samples
    low, high = (hertz * TURN // rate for hertz in CHIRP_HERTZ)
    chirp = triangle(low + np.arange(clip, dtype=np.int64) * (high - low) // clip) + noise(clip) // 16
    hiss = noise(clip // 3) // 2
    tone = triangle(np.full(clip, TONE_HERTZ * TURN // rate))
    tone[clip // 2 :] = 0
    long = np.concatenate([tone, chirp, noise(int(clip * (LONG_CLIPS - 2))) // 4])
    every = {"chirp": chirp, "hiss": hiss, "tone": tone, "long": long}
    return {name: np.asarray(values / TURN, np.float32) for name, values in every.items()}


def triangle(steps: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return a triangle wave within ± TURN / 4, given the steps by which each sample goes on."""
    phase = np.cumsum(steps) % TURN
    return np.asarray(np.abs(phase - TURN // 2) - TURN // 4, np.int64)


def noise(samples: int) -> npt.NDArray[np.int64]:
    """Return noise within ± TURN / 2: the mixing of MurmurHash3 (A. Appleby), of the number of each sample."""
    mixed = np.arange(1, samples + 1, dtype=np.uint32) * np.uint32(0x9E3779B9)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = (mixed ^ (mixed >> np.uint32(shift))) * np.uint32(factor)
    mixed ^= mixed >> np.uint32(16)
    return np.asarray((mixed >> np.uint32(8)).astype(np.int64) - TURN // 2)
