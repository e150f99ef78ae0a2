"""A recording to model inputs: the only place that knows the 10-second rule.

A clip is what the tower embeds at once: 480000 samples, 1001 frames. A shorter recording is padded; of a longer one
the first clip is taken (`first`), or all of it in overlapping clips (`slide`), or all of it in one input of four
mels (`fuse`): the whole shrunk to one clip's length, and a crop from each third.

Sliding clips begin every `hop` seconds as long as they fit; where that leaves a rest, one more ends with the recording.
They may cover less than 10 s each (`length`), padded as a recording of that length would be.

A recording comes at once or in blocks; the clips are the same, bit by bit. Of blocks, no more is kept than the clips
that are being made need, so that memory does not grow with the recording.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal, get_args

import numpy as np

from clapedge.arrays import BoolArray, Float32Array
from clapedge.errors import UsageError
from clapedge.features.frame_buffer import EDGE_FRAMES, RUN_FRAMES, FrameBuffer
from clapedge.features.front_end import FrontEnd, Frontend
from clapedge.features.fusion import Fusion, blend, crop_starts, shrink_taps
from clapedge.features.log_mel import LogMel
from clapedge.features.padding import Pad, pad_samples
from clapedge.features.strips import Strips, strip_frames, strip_seconds

Window = Literal["first", "slide", "fuse"]

NEAR_FRAMES = 8
"""Wanted frames with fewer others between them are computed in one go: a call costs as much as a few frames."""

SHORTEST_LENGTH = 0.1
"""Seconds of the shortest sliding clip: longer than the reflections at both of its ends; nobody recognises less."""

BATCH_CLIPS = 4
"""Clips made at once of a long recording: 4 MB of features, and what the tower needs for them."""


@dataclass(frozen=True)
class ClipOptions:
    """How a recording becomes clips.

    Attributes:
        window: `first`, `slide` or `fuse`, see the module.
        pad: how a short recording fills a clip: `repeatpad` (whole copies, then zeros), `repeat` (copies until it is
            full) or `zero`.
        fusion: `long` fuses only recordings of more than one clip's frames; `always` marks every clip as longer,
            which is what transformers does to a lone short clip.
        hop: seconds from one sliding clip to the next; on multiples of 10 ms, overlapping clips share their frames.
        length: seconds that each sliding clip covers, padded if it is less than a clip; None means a clip's 10 s. On
            multiples of 10 ms, overlapping clips share their frames.
        strips: of the clip that a short tower looks at: 1 for at most 2.5 s, 2 for at most 5 s, see
            `clapedge.features.strips`; None means the whole clip, for the whole tower.
        seed: of the random crops in `fuse`, drawn as transformers draws them after `numpy.random.seed(seed)`; None
            takes the centre of each third.
    """

    window: Window = "first"
    pad: Pad = "repeatpad"
    fusion: Fusion = "long"
    hop: float = 10.0
    length: float | None = None
    seed: int | None = None
    strips: Strips | None = None

    def __post_init__(self) -> None:
        """Refuse values that name nothing."""
        for value, known in ((self.window, Window), (self.pad, Pad), (self.fusion, Fusion)):
            if value not in get_args(known):
                raise UsageError(f"{value!r} is none of {', '.join(get_args(known))}; choose one of them")
        if not (self.hop > 0 and math.isfinite(self.hop)):
            raise UsageError(f"hop is {self.hop} s; give a number of seconds greater than 0")
        if self.length is not None and not (self.window == "slide" and SHORTEST_LENGTH <= self.length < math.inf):
            raise UsageError(
                f"length is {self.length} s; give at least {SHORTEST_LENGTH} s, and only with sliding clips"
            )
        if self.strips is not None and (
            self.strips not in get_args(Strips) or self.window == "fuse" or self.fusion == "always"
        ):
            raise UsageError(
                f'strips is {self.strips}; give 1 or 2, and neither window="fuse" nor fusion="always": a short tower '
                "fuses nothing"
            )
        if self.seed is not None and not 0 <= self.seed < 2**32:
            raise UsageError(f"seed is {self.seed}; give a whole number from 0 to 4294967295")


@dataclass(frozen=True)
class Clips:
    """Inputs of the audio tower.

    Attributes:
        features: (N, 4, 1001, 64) float32 dB for a fusion model, (N, 1, 1001, 64) otherwise; (N, 480000) float32
            samples in ±1 where a GPU makes the log-mels; (N, 1, frames of its strips, 64) for a short tower.
        is_longer: (N,) bool, whether the tower is to fuse the four mels.
        spans: what each clip covers, as (start, end) in seconds from the first sample.
    """

    features: Float32Array
    is_longer: BoolArray
    spans: tuple[tuple[float, float], ...]


class ClipMaker:
    """Makes clips from samples for one front end. Immutable, so that threads may share it."""

    def __init__(self, front_end: FrontEnd, *, frontend: Frontend = "numpy") -> None:
        """Prepare the log-mel transform of a bundle's front end.

        Args:
            front_end: its parameters.
            frontend: what makes log-mels; clips for a GPU are samples.
        """
        self.front_end, self._frontend = front_end, frontend
        self.log_mel = LogMel(
            sample_rate=front_end.sample_rate,
            n_fft=front_end.n_fft,
            hop_length=front_end.hop_length,
            n_mels=front_end.n_mels,
            f_min=front_end.f_min,
            f_max=front_end.f_max,
            mel_scale=front_end.mel_scale,
        )

    def __call__(self, samples: Float32Array, options: ClipOptions | None = None) -> Clips:
        """Make all clips of a recording at once: samples (L,) float32, L ≥ 1.

        Raises:
            UsageError: fusion is asked of a model that has none.
        """
        parts = list(self.stream([samples], options, samples=len(samples)))
        if len(parts) == 1:
            return parts[0]
        return Clips(
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.is_longer for part in parts]),
            tuple(chain.from_iterable(part.spans for part in parts)),
        )

    def stream(
        self,
        blocks: Iterable[Float32Array],
        options: ClipOptions | None = None,
        *,
        samples: int | None = None,
        batch: int = BATCH_CLIPS,
    ) -> Iterator[Clips]:
        """Make the clips of a recording that comes in blocks, some at a time.

        Args:
            blocks: the samples, as blocks (n,) float32 of any length. For `fuse` they are iterated a second time if
                `samples` is unknown or turns out to be wrong, so it must be possible (`clapedge.audio.Stream`, a list).
            options: how.
            samples: how many there will be, as far as known.
            batch: clips in one yield, at most.

        Raises:
            UsageError: fusion is asked of a model that has none.
        """
        options = options or ClipOptions()
        if not self.front_end.fusion and (options.window == "fuse" or options.fusion == "always"):
            raise UsageError('this model has no fusion; use window="first" or window="slide", and fusion="long"')
        if options.length is not None and options.length > self.front_end.clip_seconds:
            raise UsageError(f"length is {options.length} s; a clip is {self.front_end.clip_seconds:g} s long at most")
        if options.strips is not None and options.window == "slide":
            self._check_strips(options.strips, options.length or self.front_end.clip_seconds)
        if options.window == "slide":
            yield from self._slide(FrameBuffer(blocks, self.log_mel), options, batch)
        elif options.window == "fuse":
            yield self._fuse(blocks, options, samples)
        else:
            yield self._first(_gathered(blocks, self.front_end.clip_samples), options)

    def frontend(self, options: ClipOptions) -> Frontend:
        """Return what makes the log-mels: of the four mels of a fused recording, and of strips, always NumPy."""
        return "numpy" if options.window == "fuse" or options.strips is not None else self._frontend

    def wanted_seconds(self, options: ClipOptions) -> float | None:
        """Return how much of a recording the clips can cover at most, or None for all of it."""
        return self.front_end.clip_seconds if options.window == "first" else None

    def _first(self, samples: Float32Array, options: ClipOptions) -> Clips:
        """Make one clip of the beginning.

        With `fuse`, up to one hop more than a clip is kept, as the reference does: it gives no further frame.
        """
        most = self.front_end.clip_samples + (self.front_end.hop_length - 1 if options.window == "fuse" else 0)
        used = samples[:most]
        if options.strips is not None:
            self._check_strips(options.strips, len(used) / self.front_end.sample_rate)
        mel = self._padded(used, options)
        return self._clips(mel[None], [(0, len(used))], options)

    def _slide(self, buffer: FrameBuffer, options: ClipOptions, batch: int) -> Iterator[Clips]:
        """Make clips that overlap, from blocks as they come."""
        hop, length = self._in_samples(options.hop), self._in_samples(options.length or self.front_end.clip_seconds)
        grid = self.front_end.hop_length
        shares = hop < length and hop % grid == 0 and length % grid == 0 and options.pad != "repeat"
        shares = shares and self.frontend(options) == "numpy"
        mels: list[Float32Array] = []
        spans: list[tuple[int, int]] = []
        start = 0
        while buffer.reach(start, length):
            window = buffer.samples(start, start + length)
            mels.append(self._shared(buffer, start, length, options) if shares else self._padded(window, options))
            spans.append((start, start + length))
            start += hop
            if len(mels) == batch:
                yield self._clips(np.stack(mels), spans, options)
                mels, spans = [], []
        covered = start - hop + length if start else 0
        if start == 0:
            yield self._first(buffer.samples(0, buffer.end), options)
            return
        if covered < buffer.end:
            mels.append(self._padded(buffer.samples(buffer.end - length, buffer.end), options))
            spans.append((buffer.end - length, buffer.end))
        if mels:
            yield self._clips(np.stack(mels), spans, options)

    def _padded(self, samples: Float32Array, options: ClipOptions) -> Float32Array:
        """Return samples padded to a clip, or the mel of that, or of its strips."""
        padded = pad_samples(samples, self.front_end.clip_samples, options.pad)
        if self.frontend(options) == "device":
            return padded
        if options.strips is None:
            return self.log_mel(padded)
        buffer, frames = FrameBuffer([padded], self.log_mel), self._frames(options)
        buffer.reach(0, len(padded))
        return buffer.frames(frames.start, frames.stop)

    def _shared(self, buffer: FrameBuffer, start: int, length: int, options: ClipOptions) -> Float32Array:
        """Return what `_padded` does, bit by bit, for samples on the frame grid, with inner frames computed once.

        A clip is a number of copies and zeros. Only at the ends of a copy do frames see something other than the
        recording: a reflection at the clip's ends, the next copy, or zeros. Ends that no strip holds are not made.
        """
        clip_samples, hop_length, wanted = self.front_end.clip_samples, self.front_end.hop_length, self._frames(options)
        copies = clip_samples // length if options.pad == "repeatpad" else 1
        edge = EDGE_FRAMES * hop_length + self.front_end.n_fft // 2
        edge += -edge % hop_length
        before, after = edge // hop_length - EDGE_FRAMES, edge // hop_length + EDGE_FRAMES
        window, first, frames = buffer.samples(start, start + length), start // hop_length, length // hop_length
        inner = buffer.frames(first + EDGE_FRAMES, first + frames - EDGE_FRAMES)
        seam = np.empty((2 * EDGE_FRAMES, self.front_end.n_mels), np.float32)
        if copies > 1:
            seam = self.log_mel(np.concatenate([window[-edge:], window[:edge]]))[before:after]
        end = copies * frames - EDGE_FRAMES
        copied = np.arange(max(wanted.start, EDGE_FRAMES), min(wanted.stop, end))
        parts = [np.concatenate([seam, inner])[(copied + EDGE_FRAMES) % frames]]
        if wanted.start < EDGE_FRAMES:
            parts.insert(0, self.log_mel(window[:edge])[wanted.start : EDGE_FRAMES])
        if wanted.stop > end:
            zeros = np.zeros(min(edge, clip_samples - copies * length), np.float32)
            tail = self.log_mel(np.concatenate([window[-edge:], zeros]))[before:]
            parts.append(tail[np.minimum(np.arange(max(wanted.start - end, 0), wanted.stop - end), len(tail) - 1)])
        return np.concatenate(parts)

    def _fuse(self, blocks: Iterable[Float32Array], options: ClipOptions, samples: int | None) -> Clips:
        """Make one input of four mels: the whole shrunk, and a crop at the centre of each third.

        transformers draws each crop at random from its third (`_random_mel_fusion`); the centre makes it repeatable.
        Which frames are needed depends on the length: one that was promised and not kept costs a second reading.
        """
        while True:
            expected = sum(map(len, blocks)) if samples is None else samples
            buffer = FrameBuffer(blocks, self.log_mel)
            if self.log_mel.frames(expected) > self.front_end.clip_frames:
                fused = self._fused(buffer, expected, options)
            else:
                buffer.reach(0, expected + 1)
                fused = None
            samples = buffer.finish()
            if samples == expected:
                return fused or self._first(buffer.samples(0, samples), options)

    def _fused(self, buffer: FrameBuffer, samples: int, options: ClipOptions) -> Clips | None:
        """Fuse a recording of that many samples; None if it is shorter."""
        total, frames, hop_length = self.log_mel.frames(samples), self.front_end.clip_frames, self.front_end.hop_length
        low, high, weight = shrink_taps(total, frames)
        starts = crop_starts(total, frames, seed=options.seed)
        wanted = np.unique(np.concatenate([low, high, *(np.arange(start, start + frames) for start in starts)]))
        kept = np.empty((len(wanted), self.front_end.n_mels), np.float32)
        for first in range(0, total, RUN_FRAMES):
            stop = min(first + RUN_FRAMES, total)
            last_run = stop == total
            begin = max(0, first - EDGE_FRAMES) * hop_length
            end = samples if last_run else (stop + EDGE_FRAMES) * hop_length
            if not buffer.reach(begin, min(end, samples) - begin):
                return None
            inside = np.arange(*np.searchsorted(wanted, (first, stop)))
            for part in np.split(inside, np.flatnonzero(np.diff(wanted[inside]) > NEAR_FRAMES) + 1):
                if len(part):
                    group = wanted[part]
                    kept[part] = buffer.frames(int(group[0]), int(group[-1]) + 1)[group - group[0]]
        rows = np.searchsorted(wanted, low), np.searchsorted(wanted, high)
        crops = [kept[np.searchsorted(wanted, start) :][:frames] for start in starts]
        features = np.stack([blend(kept[rows[0]], kept[rows[1]], weight), *crops])[None]
        return Clips(features, np.ones(1, np.bool_), ((0.0, samples / self.front_end.sample_rate),))

    def _clips(self, mels: Float32Array, spans: list[tuple[int, int]], options: ClipOptions) -> Clips:
        """Give each mel (N, 1001, 64) its channels: a fusion tower reads the same mel four times; samples have none."""
        of_samples = self.frontend(options) == "device"
        channels = 1 if options.strips is not None else self.front_end.channels
        features = mels if of_samples else np.repeat(mels[:, None], channels, axis=1)
        is_longer = np.full(len(mels), options.fusion == "always")
        rate = self.front_end.sample_rate
        return Clips(features, is_longer, tuple((start / rate, stop / rate) for start, stop in spans))

    def _frames(self, options: ClipOptions) -> range:
        """Return which frames of a clip are made."""
        frames = self.front_end.clip_frames
        return range(frames) if options.strips is None else strip_frames(options.strips, frames)

    def _check_strips(self, strips: Strips, seconds: float) -> None:
        """Raise `UsageError` if strips do not hold so many seconds."""
        longest = strip_seconds(strips, self.front_end)
        if seconds > longest:
            held = "1 strip holds" if strips == 1 else f"{strips} strips hold"
            raise UsageError(
                f"{held} {longest:g} s, not {seconds:g} s; use shorter windows, more strips or the whole tower"
            )

    def _in_samples(self, seconds: float) -> int:
        """Return a time in samples, at least one."""
        return max(1, round(seconds * self.front_end.sample_rate))


def _gathered(blocks: Iterable[Float32Array], most: int) -> Float32Array:
    """Return the first samples of a recording, `most` or somewhat more if there are as many."""
    parts: list[Float32Array] = []
    count = 0
    for part in blocks:
        parts.append(part)
        count += len(part)
        if count >= most:
            break
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
