"""Opening a recording with the decoder for it, as a stream or as samples in memory."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np

from clapedge.arrays import Float32Array
from clapedge.audio.array_decoder import ArrayDecoder, BlockDecoder
from clapedge.audio.chunks import mend_sizes
from clapedge.audio.decoder import Decoder
from clapedge.audio.ffmpeg_decoder import FfmpegDecoder
from clapedge.audio.flac import mend_flac
from clapedge.audio.joined import JoinedDecoder, Mp3Decoder, open_streams
from clapedge.audio.options import ReadOptions
from clapedge.audio.soundfile_decoder import NotRecognisedError, SoundFileDecoder
from clapedge.audio.sources import AudioSource, ByteView, open_source, shown_name
from clapedge.audio.stream import SAMPLE_RATE, Stream, check_span
from clapedge.errors import AudioError, AudioFormatError, UsageError

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 4_000, 384_000
"""Sample rates in Hz: below, nothing is left of most sounds; beyond, a header is wrong."""

LONGEST_READ_SECONDS = 3660
"""The most that `read` keeps in memory (703 MB): an hour and what encoders add to it. Streams have no limit."""

HEADER_SECONDS = 2.0
"""Processor time in which the first sample must be found; ten hours of AAC in an MP4 took 0.12 s."""

PROMISED_SAMPLES = 60 * SAMPLE_RATE
"""The most that is allocated because a header promises it (12 MB); further blocks are joined at the end."""


@dataclass(frozen=True)
class Recording:
    """A span of a recording.

    Attributes:
        samples: (L,) float32 in ±1, mono, 48 kHz.
        start: where the span begins in the recording, in seconds.
        end: where it ends, in seconds.
        duration: length of the whole recording in seconds, as far as it is known.
        warnings: sentences about what is wrong with it.
    """

    samples: Float32Array
    start: float
    end: float
    duration: float
    warnings: tuple[str, ...] = ()


def read(source: AudioSource, options: ReadOptions | None = None) -> Recording:
    """Read a span of a recording as mono float32 at 48 kHz.

    Args:
        source: a path, the bytes of a file, a binary file object (read from its beginning, seekable or not), or
            samples: an array (samples,) or (channels, samples), floating point in ±1 or integers of full scale,
            unsigned ones around their middle; or such an array and its sample rate in Hz, as a pair.
        options: which part of it, see `ReadOptions`.

    Raises:
        AudioFileNotFoundError: the path names no file.
        AudioFormatError: the bytes are not audio, or damaged.
        AudioSpanError: the span begins beyond the end.
        AudioError: the recording cannot be read, has no such channel, or is too long to be held in memory.
        UsageError: a sample rate is given for a file, which carries its own.
    """
    with opened(source, options) as stream:
        return Recording(_all_samples(stream), stream.start, stream.end, stream.duration, stream.warnings)


@contextmanager
def opened(
    source: AudioSource | BlockDecoder, options: ReadOptions | None = None, *, max_seconds: float | None = None
) -> Iterator[Stream]:
    """Open a span of a recording as a stream of blocks; see `read` for arguments and errors.

    Args:
        source: the recording, or blocks of samples as they arrive.
        options: which part of it.
        max_seconds: second of the recording beyond which nothing is decoded: an `AudioSpanError` ends the reading.
    """
    options = options or ReadOptions()
    if max_seconds is not None:
        check_span(options, max_seconds)
    with _decoder(source, options.sample_rate) as decoder:
        stream = Stream(
            decoder,
            shown_name(source),
            channel=options.channel,
            resample=options.resample,
            max_seconds=max_seconds,
        )
        stream.narrow(options.start, options.duration)
        if options.trim_silence is not None:
            stream.trim(options.trim_silence)
        yield stream


@contextmanager
def _decoder(source: AudioSource | BlockDecoder, sample_rate: int | None) -> Iterator[Decoder]:
    """Open any source with the decoder for it."""
    name = shown_name(source)
    if isinstance(source, BlockDecoder):
        yield _checked(source, name)
        return
    if isinstance(source, tuple):
        if sample_rate is not None:
            raise UsageError(f"sample_rate={sample_rate} was given beside samples that come with theirs; leave it out")
        source, sample_rate = source[0], ReadOptions(sample_rate=source[1]).sample_rate
    if isinstance(source, np.ndarray):
        yield _checked(ArrayDecoder(source, SAMPLE_RATE if sample_rate is None else int(sample_rate)), name)
        return
    if sample_rate is not None:
        raise UsageError(f"sample_rate={sample_rate} was given for {name}, which carries its own; leave it out")
    with open_source(source) as view, closing(_file_decoder(view, name)) as decoder:
        yield _checked(decoder, name)


def _file_decoder(view: ByteView, name: str) -> SoundFileDecoder | JoinedDecoder | Mp3Decoder | FfmpegDecoder:
    """Open a file with libsndfile or, if that does not know the format, with FFmpeg, in bounded time."""
    notes = mend_sizes(view, name) + mend_flac(view)
    decoder: SoundFileDecoder | JoinedDecoder | Mp3Decoder | FfmpegDecoder
    view.allow(HEADER_SECONDS)
    try:
        try:
            decoder = open_streams(view, name)
        except NotRecognisedError:
            decoder = FfmpegDecoder(view, name)
    except AudioFormatError as error:
        raise _endless(name) if view.exhausted else error from None
    if view.exhausted:
        decoder.close()
        raise _endless(name)
    view.allow(None)
    decoder.notes += notes
    return decoder


def _endless(name: str) -> AudioFormatError:
    """Return the error of a file whose headers take too long."""
    return AudioFormatError(
        f"{name} has no sound after {HEADER_SECONDS:g} s of processor time, so it is damaged; convert it to WAV or FLAC"
    )


def _checked(decoder: Decoder, name: str) -> Decoder:
    """Return a decoder; raise if its sample rate is not that of a recording."""
    if not MIN_SAMPLE_RATE <= decoder.sample_rate <= MAX_SAMPLE_RATE:
        raise AudioFormatError(
            f"{name} has a sample rate of {decoder.sample_rate} Hz; "
            f"{MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz are understood; resample it"
        )
    return decoder


def _all_samples(stream: Stream) -> Float32Array:
    """Return all samples of a stream."""
    promised = np.empty(min(stream.samples or 0, PROMISED_SAMPLES), np.float32)
    filled = 0
    parts: list[Float32Array] = []
    for part in stream:
        if stream.end - stream.start > LONGEST_READ_SECONDS:
            raise AudioError(
                f"{stream.name} goes on for more than {LONGEST_READ_SECONDS} s, too much to be held in memory; "
                'ask for a shorter duration, or read it as a stream (window="slide" or "fuse")'
            )
        if not parts and filled + len(part) <= len(promised):  # copied while the block is in the cache
            promised[filled : filled + len(part)] = part
            filled += len(part)
        else:
            parts.append(part)
    return _joined([promised[:filled], *parts]) if parts else promised[:filled]


def _joined(parts: list[Float32Array]) -> Float32Array:
    """Join blocks, freeing each as soon as it is copied: an hour of them is too much to be held twice."""
    samples = np.empty(sum(map(len, parts)), np.float32)
    position = 0
    for index, part in enumerate(parts):
        samples[position : position + len(part)] = part
        position += len(part)
        parts[index] = part[:0].copy()
    return samples
