"""Frames of an opened recording to blocks of mono float32 at 48 kHz: channels, span, rate, and what to warn of."""

import math
import time
from collections.abc import Iterator

import numpy as np
import soxr

from clapedge.arrays import Float32Array, Int64Array
from clapedge.audio.decoders import Decoder
from clapedge.audio.options import ReadOptions, Resample
from clapedge.errors import AudioError, AudioFormatError, AudioSpanError
from clapedge.terminal import counted

SAMPLE_RATE = 48_000
"""Hz of everything behind this module: the rate at which CLAP was trained."""

RESAMPLE_MARGIN_SECONDS = 0.1
"""Coverage by the resampler on both sides of a span; soxr's longest VHQ filter (from 4 kHz) reaches a third as far."""

LATEST_START_SECONDS = 1e9
"""No recording lasts 30 years; larger numbers would overflow decoders."""

SILENCE_PEAK = 1e-4
"""A recording that never exceeds this (-80 dBFS) is called silent."""

UNSCALED_PEAK = 16.0
"""Float samples beyond this (+24 dBFS) are taken for integers that nobody scaled."""

GARBAGE_PEAK = 1e10
"""Samples beyond this, more than any integer, are damage; squared and summed they would overflow float32."""

CLIPPED_PEAK = 0.99
"""Full scale and a little less: 127/128 is the most that 8 bits reach."""

CLIPPED_SHARE = 1e-3
"""Share of clipped samples from which a recording is called clipped."""

TORN_SECONDS = 0.1
"""Shortfall against the header that is said; encoders' delay and padding stay below it."""

TRIM_SECONDS = 10
"""How much is read at once in the search for the end of the last sound, which goes backwards."""


ROUNDING_SECONDS = 0.001
"""A limit is not exceeded by less: spans are rounded to samples."""


class Stream:
    """A span of a recording, as blocks of mono float32 samples (n,) in ±1 at 48 kHz.

    Iterating reads the span from its beginning; doing it again reads it again, with the same bits. Blocks hold at
    most some 20 seconds, whatever the recording's length. `start` is known at once; `end`, `duration`, `samples` and
    `warnings` are as far as reading has come, and complete when an iteration has ended.

    Attributes:
        name: what messages call the recording.
        spent: seconds spent in decoding and resampling so far.
    """

    def __init__(
        self,
        decoder: Decoder,
        name: str,
        *,
        channel: int | None = None,
        resample: Resample = "VHQ",
        max_seconds: float | None = None,
    ) -> None:
        """Prepare to read all of a recording; use `clapedge.audio.opened`.

        Args:
            decoder: the opened recording.
            name: what messages call it.
            channel: the channel to hear, counted from 0; None hears the mean of all.
            resample: soxr's quality.
            max_seconds: second of the recording beyond which nothing is decoded; None decodes to its end.
        """
        self.name = name
        self.spent = 0.0
        self._decoder = decoder
        self._channel = channel
        self._resample = resample
        self._max_seconds = max_seconds
        self._first = 0
        self._stop: int | None = None
        self._most: int | None = None
        self._heard = 0
        self._finished = False
        self._length: float | None = None  # seconds of the recording, once its end was met
        self._remarks: list[str] = []
        self._meter = _Meter()

    @property
    def start(self) -> float:
        """Where the span begins in the recording, in seconds."""
        return self._first / SAMPLE_RATE

    @property
    def end(self) -> float:
        """Where the samples heard so far end in the recording, in seconds."""
        end = (self._first + self._heard) / SAMPLE_RATE
        return end if self._length is None else min(end, max(self._length, self.start))

    @property
    def duration(self) -> float:
        """Length of the recording in seconds: as met at its end, else as promised, but no less than was heard."""
        if self._length is not None:
            return self._length
        promised = self._decoder.frames
        return self.end if promised is None else max(promised / self._decoder.rate, self.end)

    @property
    def until(self) -> float:
        """Where the span ends that was asked for, in seconds."""
        return self.duration if self._stop is None else min(self.duration, self._stop / SAMPLE_RATE)

    @property
    def samples(self) -> int | None:
        """Number of samples of the span: counted when an iteration has ended, promised before; None if unknown."""
        if self._finished:
            return self._heard
        stops = [stop for stop in (self._stop, self._promised_samples()) if stop is not None]
        return max(0, min(stops) - self._first) if stops else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about what was wrong with the samples heard so far, and was mended."""
        return (*self._decoder.notes, *self._remarks, *self._about_length(), *self._meter.sentences())

    def narrow(self, start: float, duration: float | None) -> None:
        """Set the span, in seconds from the beginning of the recording; None reads to the end.

        Raises:
            AudioSpanError: the span begins beyond the end that the header promises.
        """
        promised = self._promised_samples() if self._decoder.exact else None
        if start >= LATEST_START_SECONDS or (promised is not None and round(start * SAMPLE_RATE) >= promised > 0):
            raise self._beyond(start)
        self._first = round(start * SAMPLE_RATE)
        self._stop = None if duration is None else self._first + max(1, round(duration * SAMPLE_RATE))

    def limit(self, seconds: float | None) -> None:
        """Read no further than so many seconds into the span; None reads all of it."""
        self._most = None if seconds is None else round(seconds * SAMPLE_RATE)

    def trim(self, level: float) -> None:
        """Narrow the span to what lies from the first to the last sample that exceeds a level in dBFS.

        A span without any stays as it is, and that is said. The end is searched backwards where the length is known,
        so that trimming a long recording costs no more than its silence.
        """
        threshold = 10.0 ** (level / 20.0)
        begin, end = self._first, self._stop
        first = last = None
        known = self.samples if self._decoder.exact else None
        for sounds in self._sounds(begin, end, threshold):
            if len(sounds):
                first = int(sounds[0]) if first is None else first
                last = int(sounds[-1])
                if known is not None:
                    break
        if first is None or last is None:
            self._remarks.append(f"nothing exceeds {level:g} dBFS, so no silence was trimmed")
            return
        if known is not None:
            last = self._last_sound(last, begin + known, threshold)
        self._first, self._stop = first, last + 1

    def __iter__(self) -> Iterator[Float32Array]:
        """Read the span.

        Raises:
            AudioFormatError: nothing can be read.
            AudioSpanError: the recording ends before the span begins, or goes on beyond `max_seconds`.
            AudioError: there is no such channel.
        """
        self._meter = _Meter()
        self._heard = 0
        self._finished = False
        began = time.perf_counter()
        stops = [self._stop, None if self._most is None else self._first + self._most]
        self._check_length(self.until if self._most is None else min(self.until, self.start + self._most / SAMPLE_RATE))
        for block in self._span(self._first, min((stop for stop in stops if stop is not None), default=None)):
            self._meter.hear(block)
            self._heard += len(block)
            self._check_length(self.end)
            self.spent += time.perf_counter() - began
            yield block
            began = time.perf_counter()
        self.spent += time.perf_counter() - began
        if self._heard == 0:
            raise self._nothing()
        self._finished = self._most is None

    def _check_length(self, end: float) -> None:
        """Raise `AudioSpanError` if decoding up to `end`, in seconds, exceeds the limit."""
        if self._max_seconds is not None and end > self._max_seconds + ROUNDING_SECONDS:
            raise _too_long(f"{self.name} would be decoded to {end:.0f} s", self._max_seconds)

    def _span(self, first: int, stop: int | None) -> Iterator[Float32Array]:
        """Yield the samples [first, stop) of the recording at 48 kHz.

        Reading begins on a common multiple of both sampling periods, so that the resampler's output falls on the grid
        on which it would fall for the whole recording.
        """
        rate = self._decoder.rate
        if rate == SAMPLE_RATE:
            yield from self._mono(first, stop)
            return
        divisor = math.gcd(rate, SAMPLE_RATE)
        block_in, block_out = rate // divisor, SAMPLE_RATE // divisor
        margin = math.ceil(RESAMPLE_MARGIN_SECONDS * SAMPLE_RATE / block_out)
        head = max(0, first // block_out - margin)
        tail = None if stop is None else (-(-stop // block_out) + margin) * block_in
        resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality=self._resample)
        position = head * block_out
        for mono, last in _marked(self._mono(head * block_in, tail)):
            samples = resampler.resample_chunk(mono, last=last)
            low = max(0, first - position)
            high = len(samples) if stop is None else min(len(samples), stop - position)
            position += len(samples)
            if low < high:
                yield samples[low:high]

    def _mono(self, first: int, stop: int | None) -> Iterator[Float32Array]:
        """Yield the frames [first, stop) of the recording as one channel, and learn where it ends."""
        position = first
        for frames in self._decoder.blocks(first, stop):
            position += len(frames)
            yield self._meter.mend(self._picked(frames))
        if (stop is None or position < stop) and position > first:
            self._length = position / self._decoder.rate

    def _picked(self, frames: Float32Array) -> Float32Array:
        """Return (n, channels) or, where one channel was asked for, (n, 1)."""
        if self._channel is None:
            return frames
        channels = frames.shape[1]
        if self._channel >= channels:
            raise AudioError(
                f"{self.name} has {counted(channels, 'channel')}, counted from 0, so there is no {self._channel}"
            )
        return frames[:, self._channel : self._channel + 1]

    def _sounds(self, first: int, stop: int | None, threshold: float) -> Iterator[Int64Array]:
        """Yield, of each block of [first, stop), the positions of the samples that exceed a threshold."""
        for block in self._span(first, stop):
            yield first + np.flatnonzero(np.abs(block) > threshold)
            first += len(block)

    def _last_sound(self, known: int, stop: int, threshold: float) -> int:
        """Return the last sample before `stop` that exceeds a threshold, searching backwards to a known one."""
        step = TRIM_SECONDS * SAMPLE_RATE
        for low in range(stop - step, known - step, -step):
            parts = list(self._sounds(max(low, known), low + step, threshold))
            if not parts:
                break  # the header promises more than there is: searching on from its end could take forever
            found = np.concatenate(parts)
            if len(found):
                return int(found[-1])
        return max((int(part[-1]) for part in self._sounds(known, stop, threshold) if len(part)), default=known)

    def _promised_samples(self) -> int | None:
        """Return the samples at 48 kHz that the header promises, rounded as soxr does."""
        frames, rate = self._decoder.frames, self._decoder.rate
        return None if frames is None else (2 * frames * SAMPLE_RATE + rate) // (2 * rate)

    def _about_length(self) -> list[str]:
        """Say where the recording is shorter than promised, or nobody knows how long it is."""
        promised = None if self._decoder.frames is None else self._decoder.frames / self._decoder.rate
        if self._length is None:
            if promised is None:
                return ["its header does not say how long it is"]
            return [] if self._decoder.exact else [f"its header does not say how long it is: about {promised:.0f} s"]
        if promised is not None and self._decoder.exact and self._length < promised - TORN_SECONDS:
            return [f"it ends early: its header promises {promised:.2f} s, {self._length:.2f} s could be read"]
        return []

    def _nothing(self) -> AudioError:
        """Return the error for a span in which nothing could be read."""
        if self._decoder.notes:
            return AudioFormatError(f"{self.name}: {self._decoder.notes[-1]}; record, copy or convert it again")
        if self._first:
            return self._beyond(self.start)
        return AudioFormatError(f"{self.name} holds no samples; record or copy it again")

    def _beyond(self, start: float) -> AudioSpanError:
        """Return the error for a span that begins behind the end."""
        frames = self._decoder.frames
        length = "shorter than that" if frames is None else f"{frames / self._decoder.rate:.3f} s long"
        return AudioSpanError(f"{self.name} is {length}, so it cannot start at {start:g} s; start earlier")


def check_span(options: ReadOptions, max_seconds: float) -> None:
    """Raise `AudioSpanError` if a span begins beyond a limit, or would be searched for silence beyond it."""
    if options.start > max_seconds:
        raise _too_long(f"start is {options.start:g} s", max_seconds)
    if options.trim_silence is None:
        return
    if options.duration is None:
        raise AudioSpanError("silence is trimmed only of a span with an end here; give a duration")
    if options.start + options.duration > max_seconds + ROUNDING_SECONDS:
        raise _too_long(f"silence would be searched for to {options.start + options.duration:g} s", max_seconds)


def _too_long(found: str, max_seconds: float) -> AudioSpanError:
    """Return the error of a recording that would be decoded too far."""
    return AudioSpanError(
        f"{found}, and no more than {max_seconds:g} s are decoded here; ask for a part with start and duration"
    )


class _Meter:
    """Mends what would poison an embedding, mixes channels down, and counts what is suspicious."""

    def __init__(self) -> None:
        """Begin at nothing heard."""
        self._values = 0
        self._garbage = 0
        self._clipped = 0
        self._peak = 0.0
        self._mixed_peak = 0.0
        self._mono_peak = 0.0

    def mend(self, frames: Float32Array) -> Float32Array:
        """Return the mean of the channels (n, channels) without what is no number."""
        peak = max(float(frames.max()), -float(frames.min()))
        if not peak <= GARBAGE_PEAK:
            good = np.abs(frames) <= GARBAGE_PEAK
            self._garbage += int(np.count_nonzero(~good))
            frames = np.where(good, frames, np.float32(0))
            peak = float(np.abs(frames).max())
        self._peak = max(self._peak, peak)
        self._values += frames.size
        if peak >= CLIPPED_PEAK:
            self._clipped += _clipped(frames)
        if frames.shape[1] == 1:
            self._mixed_peak = self._peak
            return np.ascontiguousarray(frames[:, 0])
        # column by column, which a mean along so short an axis takes 25 times as long for
        mono: Float32Array = frames[:, 0] + frames[:, 1]
        for channel in range(2, frames.shape[1]):
            mono += frames[:, channel]
        mono /= frames.shape[1]
        if self._mixed_peak < SILENCE_PEAK:
            self._mixed_peak = max(self._mixed_peak, float(mono.max()), -float(mono.min()))
        return mono

    def hear(self, samples: Float32Array) -> None:
        """Measure what will be scored: mono samples (n,)."""
        self._mono_peak = max(self._mono_peak, float(samples.max()), -float(samples.min()))

    def sentences(self) -> list[str]:
        """Return what is wrong, as sentences."""
        if self._values == 0:
            return []
        faults = []
        if self._garbage:
            faults.append(f"{self._garbage} samples are not finite numbers; they are heard as silence")
        if self._peak > UNSCALED_PEAK:
            faults.append(
                f"samples reach {self._peak:.0f} where ±1 is full scale: damage, or integers; "
                "divide integers by their range first"
            )
        elif self._clipped > CLIPPED_SHARE * self._values:
            share = 100 * self._clipped / self._values
            faults.append(f"it is clipped: {share:.1f} % of its samples are at full scale; record it with less gain")
        if self._mixed_peak < SILENCE_PEAK <= self._peak:
            faults.append("its channels cancel each other out, so the scores mean nothing; hear one of them")
        elif self._mono_peak < SILENCE_PEAK:
            faults.append("it is silent: nothing exceeds -80 dBFS, so the scores mean nothing")
        return faults


def _clipped(frames: Float32Array) -> int:
    """Count the samples (n, channels) that stay equal at full scale for three in a row, or lie beyond it."""
    loud = np.abs(frames) >= CLIPPED_PEAK
    flat = loud[1:-1] & (frames[1:-1] == frames[:-2]) & (frames[1:-1] == frames[2:])
    return int(np.count_nonzero(flat) + np.count_nonzero(np.abs(frames) > 1.0))


def _marked(blocks: Iterator[Float32Array]) -> Iterator[tuple[Float32Array, bool]]:
    """Tell of each block whether it is the last one; nothing comes of nothing."""
    held = next(blocks, None)
    while held is not None:
        following = next(blocks, None)
        yield held, following is None
        held = following
