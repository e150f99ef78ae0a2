"""A recording, from wherever it lies, to mono float32 samples at 48 kHz.

Only the span asked for is read: the decoder seeks to it, and the resampler hears a margin on both sides so that the
samples are those of the same span of the whole recording. Reading goes block by block, so that its cost is the span's,
not the recording's; `read` gathers the blocks, `opened` hands them on.
"""

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, get_args

import numpy as np

from clapedge.arrays import Float32Array
from clapedge.audio import sources
from clapedge.audio.decoders import ArrayDecoder, Decoder, NotRecognisedError, SoundFileDecoder
from clapedge.audio.ffmpeg import FfmpegDecoder
from clapedge.audio.sources import AudioSource, ByteView, shown_name, source_name
from clapedge.audio.stream import SAMPLING_RATE, Resample, Stream
from clapedge.errors import AudioError, AudioFormatError, UsageError

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "SAMPLING_RATE",
    "AudioSource",
    "Reading",
    "Recording",
    "Resample",
    "Stream",
    "opened",
    "read",
    "source_name",
]

LOWEST_RATE, HIGHEST_RATE = 4_000, 384_000
"""Hz of recordings: below, nothing is left of most sounds; beyond, a header is wrong."""

LONGEST_READ_SECONDS = 3660
"""Most that `read` holds in memory (703 MB): an hour and what encoders add to it. Streams have no limit."""

PROMISED_SAMPLES = 60 * SAMPLING_RATE
"""Most that is allocated because a header promises it (12 MB); what comes beyond is gathered as it comes."""


@dataclass(frozen=True)
class Recording:
    """A span of a recording.

    Attributes:
        samples: (L,) float32 in ±1, mono, 48 kHz.
        start: where the span begins in the recording, in seconds.
        end: where it ends, in seconds.
        of: length of the whole recording in seconds, as far as it is known.
        warnings: sentences about what was wrong with it and was mended.
    """

    samples: Float32Array
    start: float
    end: float
    of: float
    warnings: tuple[str, ...] = ()


class Reading(TypedDict, total=False):
    """What is read of a recording: keyword arguments of `read` and `opened`, each with a default.

    Attributes:
        rate: Hz of an array (default 48000); files carry their own.
        start: where to begin, in seconds.
        duration: how many seconds to read at most; None reads to the end.
        channel: the channel to hear, counted from 0; None hears the mean of all.
        trim_silence: dBFS (say -60); what the span begins and ends with is left out while no sample exceeds it.
        resample: soxr's quality, from `VHQ` to `QQ`; a recording at 48 kHz is not resampled.
    """

    rate: int | None
    start: float
    duration: float | None
    channel: int | None
    trim_silence: float | None
    resample: Resample


def read(source: AudioSource, **reading: "Unpack[Reading]") -> Recording:
    """Read a span of a recording as mono float32 at 48 kHz.

    Args:
        source: a path, the bytes of a file, a binary file object (read from its beginning, seekable or not), or an
            array of samples: (samples,) or (channels, samples), floating point in ±1 or integers of full scale,
            unsigned ones around their middle.
        **reading: what is read of it, see `Reading`.

    Raises:
        AudioFileNotFoundError: the path names no file.
        AudioFormatError: the bytes are no audio, or damaged.
        AudioSpanError: the span begins beyond the end.
        AudioError: the recording cannot be read, has no such channel, or is too long to be held in memory.
        UsageError: an option has a value that it cannot have.
    """
    with opened(source, **reading) as stream:
        return Recording(_gathered(stream), stream.start, stream.end, stream.of, stream.warnings)


@contextmanager
def opened(
    source: AudioSource,
    *,
    rate: int | None = None,
    start: float = 0.0,
    duration: float | None = None,
    channel: int | None = None,
    trim_silence: float | None = None,
    resample: Resample = "VHQ",
) -> Iterator["Stream"]:
    """Open a span of a recording as a stream of blocks; arguments and errors are those of `read`."""
    if not (math.isfinite(start) and start >= 0):
        raise UsageError(f"start is {start} s; give seconds from the beginning, 0 or more")
    if duration is not None and not (math.isfinite(duration) and duration > 0):
        raise UsageError(f"duration is {duration} s; give a number of seconds greater than 0")
    if resample not in get_args(Resample):
        raise UsageError(f"resample is {resample!r}; give one of {', '.join(get_args(Resample))}")
    if trim_silence is not None and not (math.isfinite(trim_silence) and trim_silence <= 0):
        raise UsageError(f"trim_silence is {trim_silence} dBFS; give a level below full scale, such as -60")
    if channel is not None and channel < 0:
        raise UsageError(f"channel is {channel}; channels are counted from 0")
    with _decoder(source, rate) as decoder:
        stream = Stream(decoder, shown_name(source), channel=channel, resample=resample)
        stream.narrow(start, duration)
        if trim_silence is not None:
            stream.trim(trim_silence)
        yield stream


@contextmanager
def _decoder(source: AudioSource, rate: int | None) -> Iterator[Decoder]:
    """Open any source with the decoder that knows it."""
    name = shown_name(source)
    if isinstance(source, np.ndarray):
        yield _within_rates(ArrayDecoder(source, SAMPLING_RATE if rate is None else _whole_hertz(rate)), name)
        return
    if rate is not None:
        raise UsageError(f"rate={rate} was given for {name}, which carries its own; leave it out")
    with sources.opened(source) as view, closing(_file_decoder(view, name)) as decoder:
        yield _within_rates(decoder, name)


def _file_decoder(view: ByteView, name: str) -> SoundFileDecoder | FfmpegDecoder:
    """Open a file with libsndfile or, what that does not know, with FFmpeg."""
    try:
        return SoundFileDecoder(view, name)
    except NotRecognisedError:
        return FfmpegDecoder(view, name)


def _whole_hertz(rate: float) -> int:
    """Return a rate as a whole number: other libraries hand it on as a float."""
    if not float(rate).is_integer():
        raise UsageError(f"rate is {rate} Hz; give a whole number")
    return int(rate)


def _within_rates(decoder: Decoder, name: str) -> Decoder:
    """Return a decoder if its rate is one that recordings have."""
    if not LOWEST_RATE <= decoder.rate <= HIGHEST_RATE:
        raise AudioFormatError(
            f"{name} has a rate of {decoder.rate} Hz; {LOWEST_RATE} to {HIGHEST_RATE} Hz are understood; resample it"
        )
    return decoder


def _gathered(stream: Stream) -> Float32Array:
    """Return all samples of a stream."""
    promised = np.empty(min(stream.samples or 0, PROMISED_SAMPLES), np.float32)
    filled = 0
    parts: list[Float32Array] = []
    for part in stream:
        if stream.end - stream.start > LONGEST_READ_SECONDS:
            raise AudioError(
                f"{stream.name} goes on for more than {LONGEST_READ_SECONDS} s, too much to be held in memory; "
                "ask for a shorter duration, or read it as a stream (window slide or fuse)"
            )
        if not parts and filled + len(part) <= len(promised):  # copied while the block is in the cache
            promised[filled : filled + len(part)] = part
            filled += len(part)
        else:
            parts.append(part)
    return _joined([promised[:filled], *parts]) if parts else promised[:filled]


def _joined(parts: list[Float32Array]) -> Float32Array:
    """Join blocks, giving each back as soon as it is copied: an hour of them is too much to be held twice."""
    samples = np.empty(sum(map(len, parts)), np.float32)
    position = 0
    for index, part in enumerate(parts):
        samples[position : position + len(part)] = part
        position += len(part)
        parts[index] = part[:0].copy()
    return samples
