"""Frames of an opened recording to blocks of mono float32 at 48 kHz: channels, span, sample rate, and warnings."""

import math
import time
from collections.abc import Iterator

import numpy as np
import soxr

from clapedge.arrays import Float32Array, Int64Array
from clapedge.audio.decoder import Decoder
from clapedge.audio.level_meter import LevelMeter, constant_offset
from clapedge.audio.options import ReadOptions, Resample
from clapedge.errors import AudioError, AudioFormatError, AudioSpanError
from clapedge.terminal import counted

SAMPLE_RATE = 48_000
"""Hz of everything behind this module: the rate at which CLAP was trained."""

RESAMPLE_MARGIN_SECONDS = 0.1
"""Read by the resampler on both sides of a span; soxr's longest VHQ filter (from 4 kHz) reaches a third as far."""

LATEST_START_SECONDS = 1e9
"""No recording lasts 30 years; larger numbers would overflow decoders."""

SHORTFALL_SECONDS = 0.1
"""Shortfall against the header from which on there is a warning; encoders' delay and padding stay below it."""

TRIM_SECONDS = 10
"""How much is read for an offset, and at once in the search for the end of the last sound, which goes backwards."""

ROUNDING_SECONDS = 0.001
"""A limit is not exceeded by less: spans are rounded to samples."""


class Stream:
    """A span of a recording, as blocks of mono float32 samples (n,) in ±1 at 48 kHz.

    Iterating reads the span from its beginning; doing it again reads it again, with the same bits. Blocks hold at
    most some 20 seconds, whatever the recording's length. `start` is known at once; `end`, `duration`, `samples` and
    `warnings` are as far as reading has come, and complete when an iteration has ended.

    Attributes:
        name: what messages call the recording.
        spent: seconds that decoding and resampling have taken so far.
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
            channel: the channel to read, counted from 0; None reads the mean of all.
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
        self._read = 0
        self._finished = False
        self._length: float | None = None  # seconds of the recording, once its end was found
        self._trim_warnings: list[str] = []
        self._offset = 0.0
        self._meter = LevelMeter()

    @property
    def start(self) -> float:
        """Where the span begins in the recording, in seconds."""
        return self._first / SAMPLE_RATE

    @property
    def end(self) -> float:
        """Where the samples read so far end in the recording, in seconds."""
        end = (self._first + self._read) / SAMPLE_RATE
        return end if self._length is None else min(end, max(self._length, self.start))

    @property
    def duration(self) -> float:
        """Length of the recording in seconds: as found at its end, else as promised, but no less than was read."""
        if self._length is not None:
            return self._length
        promised = self._decoder.frames
        return self.end if promised is None else max(promised / self._decoder.sample_rate, self.end)

    @property
    def until(self) -> float:
        """Where the requested span ends, in seconds."""
        return self.duration if self._stop is None else min(self.duration, self._stop / SAMPLE_RATE)

    @property
    def samples(self) -> int | None:
        """Number of samples of the span: counted when an iteration has ended, promised before; None if unknown."""
        if self._finished:
            return self._read
        stops = [stop for stop in (self._stop, self._promised_samples()) if stop is not None]
        return max(0, min(stops) - self._first) if stops else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about what is wrong with the samples read so far."""
        return (*self._decoder.notes, *self._trim_warnings, *self._length_warnings(), *self._meter.warnings())

    def narrow(self, start: float, duration: float | None) -> None:
        """Set the span, in seconds from the beginning of the recording; None reads to the end.

        Raises:
            AudioSpanError: the span begins beyond the end that the header promises.
        """
        promised = self._promised_samples() if self._decoder.exact else None
        if start >= LATEST_START_SECONDS or (promised is not None and round(start * SAMPLE_RATE) >= promised > 0):
            raise self._beyond_end(start)
        self._first = round(start * SAMPLE_RATE)
        self._stop = None if duration is None else self._first + max(1, round(duration * SAMPLE_RATE))

    def limit(self, seconds: float | None) -> None:
        """Read no further than so many seconds into the span; None reads all of it."""
        self._most = None if seconds is None else round(seconds * SAMPLE_RATE)

    def trim(self, level: float) -> None:
        """Narrow the span to what lies from the first to the last sample that exceeds a level in dBFS.

        Levels are measured without a constant offset, of which the first seconds tell.
        A span without any stays as it is, with a warning. The end is searched backwards where the length is known,
        so that trimming a long recording costs no more than its silence.
        """
        threshold = 10.0 ** (level / 20.0)
        begin, end = self._first, self._stop
        self._offset = self._found_offset(begin, end)
        first = last = None
        known = self.samples if self._decoder.exact else None
        for sounds in self._sounds(begin, end, threshold):
            if len(sounds):
                first = int(sounds[0]) if first is None else first
                last = int(sounds[-1])
                if known is not None:
                    break
        if first is None or last is None:
            self._trim_warnings.append(f"nothing exceeds {level:g} dBFS, so no silence was trimmed")
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
        self._meter = LevelMeter()
        self._read = 0
        self._finished = False
        began = time.perf_counter()
        stops = [self._stop, None if self._most is None else self._first + self._most]
        self._check_length(self.until if self._most is None else min(self.until, self.start + self._most / SAMPLE_RATE))
        for block in self._span(self._first, min((stop for stop in stops if stop is not None), default=None)):
            self._meter.measure(block)
            self._read += len(block)
            self._check_length(self.end)
            self.spent += time.perf_counter() - began
            yield block
            began = time.perf_counter()
        self.spent += time.perf_counter() - began
        if self._read == 0:
            raise self._no_samples()
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
        rate = self._decoder.sample_rate
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
        for mono, last in _with_last(self._mono(head * block_in, tail)):
            samples = resampler.resample_chunk(mono, last=last)
            low = max(0, first - position)
            high = len(samples) if stop is None else min(len(samples), stop - position)
            position += len(samples)
            if low < high:
                yield samples[low:high]

    def _mono(self, first: int, stop: int | None) -> Iterator[Float32Array]:
        """Yield the frames [first, stop) of the recording as one channel, and note where it ends."""
        position = first
        for frames in self._decoder.blocks(first, stop):
            position += len(frames)
            yield self._meter.mix_down(self._selected(frames))
        if (stop is None or position < stop) and position > first:
            self._length = position / self._decoder.sample_rate

    def _selected(self, frames: Float32Array) -> Float32Array:
        """Return (n, channels) or, if one channel is requested, (n, 1)."""
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
            yield first + np.flatnonzero(np.abs(block - np.float32(self._offset)) > threshold)
            first += len(block)

    def _found_offset(self, first: int, stop: int | None) -> float:
        """Return the constant offset of [first, stop) by its first seconds."""
        end = first + TRIM_SECONDS * SAMPLE_RATE
        blocks = list(self._span(first, end if stop is None else min(stop, end)))
        return constant_offset(np.concatenate(blocks), sample_rate=SAMPLE_RATE) if blocks else 0.0

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
        frames, rate = self._decoder.frames, self._decoder.sample_rate
        return None if frames is None else (2 * frames * SAMPLE_RATE + rate) // (2 * rate)

    def _length_warnings(self) -> list[str]:
        """Return a warning if the recording is shorter than promised, or of unknown length."""
        promised = None if self._decoder.frames is None else self._decoder.frames / self._decoder.sample_rate
        if self._length is None:
            if promised is None:
                return ["its header does not say how long it is"]
            return [] if self._decoder.exact else [f"its header does not say how long it is: about {promised:.0f} s"]
        if promised is not None and self._decoder.exact and self._length < promised - SHORTFALL_SECONDS:
            return [f"it ends early: its header promises {promised:.2f} s, {self._length:.2f} s could be read"]
        return []

    def _no_samples(self) -> AudioError:
        """Return the error of a span in which nothing could be read."""
        if self._decoder.notes:
            return AudioFormatError(f"{self.name}: {self._decoder.notes[-1]}; record, copy or convert it again")
        if self._first:
            return self._beyond_end(self.start)
        return AudioFormatError(f"{self.name} has no samples; record or copy it again")

    def _beyond_end(self, start: float) -> AudioSpanError:
        """Return the error of a span that begins beyond the end."""
        frames = self._decoder.frames
        length = "shorter than that" if frames is None else f"{frames / self._decoder.sample_rate:.3f} s long"
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


def _with_last(blocks: Iterator[Float32Array]) -> Iterator[tuple[Float32Array, bool]]:
    """Yield each block and whether it is the last one."""
    held = next(blocks, None)
    while held is not None:
        following = next(blocks, None)
        yield held, following is None
        held = following
