"""A recording to model inputs: the only place that knows the 10-second rule.

A clip is what the tower hears at once: 480000 samples, 1001 frames. A shorter recording is padded; of a longer one
the first clip is taken (`first`), or all of it in overlapping clips (`slide`), or all of it in one input of four
mels (`fuse`): the whole shrunk to one clip's length, and a crop from each third.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from clapedge.bundle import FrontEnd
from clapedge.errors import UsageError
from clapedge.mel import Float32Array, LogMel

Window = Literal["first", "slide", "fuse"]
Pad = Literal["repeatpad", "repeat", "zero"]
Fusion = Literal["long", "always"]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

EDGE_FRAMES = 2
"""Frames at each end of a clip that reach over it and hear its reflection: half a window (512) is under 2 hops (960)."""


@dataclass(frozen=True)
class ClipOptions:
    """How a recording becomes clips.

    Attributes:
        window: `first`, `slide` or `fuse`, see the module.
        pad: how a short recording fills a clip: `repeatpad` (whole copies, then zeros), `repeat` (copies until it is
            full) or `zero`.
        fusion: `long` fuses only recordings of more than one clip's frames; `always` marks every clip as longer,
            which is what transformers does to a lone short clip.
        hop: seconds from one sliding clip to the next.
    """

    window: Window = "first"
    pad: Pad = "repeatpad"
    fusion: Fusion = "long"
    hop: float = 10.0

    def __post_init__(self) -> None:
        """Refuse values that name nothing."""
        for value, known in ((self.window, Window), (self.pad, Pad), (self.fusion, Fusion)):
            if value not in get_args(known):
                raise UsageError(f"{value!r} is none of {', '.join(get_args(known))}; choose one of them")
        if not self.hop > 0:
            raise UsageError(f"hop is {self.hop} s; give a number of seconds greater than 0")


@dataclass(frozen=True)
class Clips:
    """Inputs of the audio tower.

    Attributes:
        features: (N, 4, 1001, 64) float32 dB for a fusion model, (N, 1, 1001, 64) otherwise.
        is_longer: (N,) bool, whether the tower is to fuse the four mels.
        spans: what each clip hears, as (start, end) in seconds from the first sample.
    """

    features: Float32Array
    is_longer: BoolArray
    spans: tuple[tuple[float, float], ...]

    @property
    def heard(self) -> float:
        """Seconds of sound that the clips cover, from the first sample on."""
        return max(end for _, end in self.spans)


class ClipMaker:
    """Makes clips from samples for one front end. Immutable, so that threads may share it."""

    def __init__(self, front_end: FrontEnd) -> None:
        """Prepare the log-mel transform of a bundle's front end."""
        self.front_end = front_end
        self.log_mel = LogMel(
            sampling_rate=front_end.sampling_rate,
            n_fft=front_end.n_fft,
            hop_length=front_end.hop_length,
            n_mels=front_end.n_mels,
            f_min=front_end.f_min,
            f_max=front_end.f_max,
            mel_scale=front_end.mel_scale,
        )

    def __call__(self, samples: Float32Array, options: ClipOptions | None = None) -> Clips:
        """Make the clips of a recording: samples (L,) float32, L ≥ 1.

        Raises:
            UsageError: fusion is asked of a model that has none.
        """
        options = options or ClipOptions()
        if not self.front_end.fusion and (options.window == "fuse" or options.fusion == "always"):
            raise UsageError("this model has no fusion; use --window first or slide, and --fusion long")
        if options.window == "slide":
            return self._slide(samples, options)
        if options.window == "fuse" and self.log_mel.frames(len(samples)) > self.front_end.clip_frames:
            return self._fuse(samples)
        return self._first(samples, options)

    def wanted_seconds(self, options: ClipOptions) -> float | None:
        """Return how much of a recording the clips can hear at most, or None for all of it."""
        return self.front_end.clip_seconds if options.window == "first" else None

    def _first(self, samples: Float32Array, options: ClipOptions) -> Clips:
        """Make one clip of the beginning.

        With `fuse`, up to one hop more than a clip is kept, as the reference does: it gives no further frame.
        """
        most = self.front_end.clip_samples + (self.front_end.hop_length - 1 if options.window == "fuse" else 0)
        heard = samples[:most]
        mel = self.log_mel(pad_samples(heard, self.front_end.clip_samples, options.pad))
        return self._clips(mel[None], [(0, len(heard))], options)

    def _slide(self, samples: Float32Array, options: ClipOptions) -> Clips:
        """Make clips that overlap; those on the frame grid share the frames inside them."""
        starts = clip_starts(len(samples), self.front_end.clip_samples, self._hop_samples(options))
        if len(starts) == 1:
            return self._first(samples, options)
        hop_length, length = self.front_end.hop_length, self.front_end.clip_samples
        shared = self.log_mel(samples)
        mels = np.empty((len(starts), self.front_end.clip_frames, self.front_end.n_mels), np.float32)
        for mel, start in zip(mels, starts, strict=True):
            clip = samples[start : start + length]
            if start % hop_length:
                mel[:] = self.log_mel(clip)
                continue
            edge = EDGE_FRAMES * hop_length + self.front_end.n_fft // 2
            edge += -edge % hop_length
            mel[:] = shared[start // hop_length :][: len(mel)]
            mel[:EDGE_FRAMES] = self.log_mel(clip[:edge])[:EDGE_FRAMES]
            mel[-EDGE_FRAMES:] = self.log_mel(clip[-edge:])[-EDGE_FRAMES:]
        return self._clips(mels, [(start, start + length) for start in starts], options)

    def _fuse(self, samples: Float32Array) -> Clips:
        """Make one input of four mels: the whole shrunk, and a crop at the centre of each third.

        transformers draws each crop at random from its third (`_random_mel_fusion`); the centre makes it repeatable.
        """
        mel = self.log_mel(samples)
        frames = self.front_end.clip_frames
        crops = [mel[start : start + frames] for start in crop_starts(len(mel), frames)]
        features = np.stack([shrink(mel, frames), *crops])[None]
        return Clips(features, np.ones(1, np.bool_), ((0.0, len(samples) / self.front_end.sampling_rate),))

    def _clips(self, mels: Float32Array, spans: list[tuple[int, int]], options: ClipOptions) -> Clips:
        """Give each mel (N, 1001, 64) its channels: a fusion tower reads the same mel four times."""
        features = np.repeat(mels[:, None], self.front_end.channels, axis=1)
        is_longer = np.full(len(mels), options.fusion == "always")
        rate = self.front_end.sampling_rate
        return Clips(features, is_longer, tuple((start / rate, stop / rate) for start, stop in spans))

    def _hop_samples(self, options: ClipOptions) -> int:
        """Return the hop between sliding clips in samples, at least one."""
        return max(1, round(options.hop * self.front_end.sampling_rate))


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


def clip_starts(samples: int, length: int, hop: int) -> list[int]:
    """Return the first sample of each sliding clip: every `hop`, and a last one that ends with the recording."""
    if samples <= length:
        return [0]
    starts = list(range(0, samples - length + 1, hop))
    if starts[-1] + length < samples:
        starts.append(samples - length)
    return starts


def crop_starts(frames: int, length: int) -> tuple[int, int, int]:
    """Return the first frames of the crops at the centre of the front, middle and back third of all positions.

    The positions are split as `np.array_split` does, an empty part becoming position 0 as in the reference.
    """
    thirds = np.array_split(np.arange(frames - length + 1), 3)
    front, middle, back = (int(third[len(third) // 2]) if len(third) else 0 for third in thirds)
    return front, middle, back


def shrink(mel: Float32Array, frames: int) -> Float32Array:
    """Resize a mel (T, n_mels) over time to `frames`, bilinear without antialiasing (align_corners=False).

    As `torch.nn.functional.interpolate`, whose weights are float32: computing them in float64 moves the
    result by up to 0.05 dB for ten minutes. Its multiplication and subtraction are one fused operation, rounded
    once; rounding twice would move a frame at the edge of silence by 1e-3 dB.
    """
    scale = float(np.float32(len(mel) / frames))
    position = np.maximum(((np.arange(frames) + 0.5) * scale - 0.5).astype(np.float32), 0)
    low = position.astype(np.int64)
    high = np.minimum(low + 1, len(mel) - 1)
    weight = (position - low.astype(np.float32))[:, None]
    shrunk: Float32Array = mel[low] * (np.float32(1) - weight) + mel[high] * weight
    return shrunk
