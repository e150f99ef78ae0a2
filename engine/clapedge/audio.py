"""A recording, from wherever it lies, to mono float32 samples at 48 kHz.

Only the span asked for is read: the decoder seeks to it, and the resampler hears a margin on both sides so that the
samples are those of the same span of the whole recording.
"""

import io
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from clapedge.errors import AudioError, AudioFileNotFoundError, AudioFormatError, AudioSpanError, UsageError

Float32Array: TypeAlias = npt.NDArray[np.float32]
AudioSource: TypeAlias = "str | os.PathLike[str] | bytes | BinaryIO | npt.NDArray[np.generic]"

SAMPLING_RATE = 48_000
"""Hz of everything behind this module: the rate at which CLAP was trained."""

RESAMPLE_MARGIN_SECONDS = 0.1
"""Heard by the resampler on both sides of a span; soxr's longest VHQ filter is an order of magnitude shorter."""

SILENCE_PEAK = 1e-4
"""A recording that never exceeds this (-80 dBFS) is called silent."""

UNSCALED_PEAK = 16.0
"""Float samples beyond this (+24 dBFS) are taken for integers that nobody scaled."""


@dataclass(frozen=True)
class Recording:
    """A span of a recording.

    Attributes:
        samples: (L,) float32 in ±1, mono, 48 kHz.
        start: where the span begins in the recording, in seconds.
        end: where it ends, in seconds.
        of: length of the whole recording in seconds.
        warnings: sentences about what was wrong with it and was mended.
    """

    samples: Float32Array
    start: float
    end: float
    of: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Input:
    """An opened recording: `read(first, count)` returns frames (n, channels) in ±1, fewer than asked at a torn end."""

    name: str
    rate: int
    frames: int
    read: Callable[[int, int], Float32Array]


def read(
    source: AudioSource, *, rate: int | None = None, start: float = 0.0, duration: float | None = None
) -> Recording:
    """Read a span of a recording as mono float32 at 48 kHz; channels are averaged.

    Args:
        source: a path, the bytes of a file, a binary file object, or an array of samples: (samples,) or
            (channels, samples), floating point in ±1 or integers of full scale.
        rate: Hz of an array (default 48000); files carry their own.
        start: where to begin, in seconds.
        duration: how many seconds to read at most; None reads to the end.

    Raises:
        AudioFileNotFoundError: the path names no file.
        AudioFormatError: the bytes are no audio, or damaged.
        AudioSpanError: the span is empty or begins beyond the end.
    """
    if not (math.isfinite(start) and start >= 0):
        raise AudioSpanError(f"start is {start} s; give seconds from the beginning, 0 or more")
    if duration is not None and not (math.isfinite(duration) and duration > 0):
        raise AudioSpanError(f"duration is {duration} s; give a number of seconds greater than 0")
    if rate is not None and not isinstance(source, np.ndarray):
        raise UsageError(f"rate={rate} was given for {source_name(source)}, which carries its own; leave it out")
    with _opened(source, rate) as opened:
        return _read_span(opened, start, duration)


def source_name(source: AudioSource) -> str:
    """Return what messages and records call a source: its path, else what kind of thing it is."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, np.ndarray):
        return "array"
    if isinstance(source, bytes):
        return "bytes"
    return str(getattr(source, "name", "stream"))


@contextmanager
def _opened(source: AudioSource, rate: int | None) -> Iterator[_Input]:
    """Open any source."""
    if isinstance(source, np.ndarray):
        yield _array_input(source, SAMPLING_RATE if rate is None else rate)
        return
    name = source_name(source)
    if isinstance(source, (str, os.PathLike)):
        _check_file(Path(source), name)
        stream: str | BinaryIO = os.fspath(source)
    else:
        stream = _seekable(source, name)
    try:
        file = soundfile.SoundFile(stream)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(". ").removeprefix("Error : ")
        raise AudioFormatError(
            f"{name} is no audio that can be decoded ({reason}); convert it to WAV, FLAC, Ogg or MP3"
        ) from error
    with file:
        yield _Input(name, file.samplerate, file.frames, lambda first, count: _decode(file, name, first, count))


def _check_file(path: Path, name: str) -> None:
    """Refuse a path that cannot hold a recording, before a decoder reports it in its own words."""
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        raise AudioFileNotFoundError(f"{name} does not exist; check the path") from None
    except (OSError, ValueError) as error:
        raise AudioError(f"{name!r} cannot be read ({error}); check the path and its permissions") from error
    if path.is_dir():
        raise AudioError(f"{name} is a directory; name the recordings in it")
    if not os.access(path, os.R_OK):
        raise AudioError(f"{name} cannot be read; check its permissions")
    if size == 0:
        raise AudioFormatError(f"{name} is empty (0 bytes); record or copy it again")


def _seekable(source: bytes | BinaryIO, name: str) -> BinaryIO:
    """Return a file object in which a decoder can seek."""
    if isinstance(source, bytes):
        source = io.BytesIO(source)
    elif not source.seekable():
        source = io.BytesIO(source.read())
    if not source.read(1):
        raise AudioFormatError(f"{name} is empty (0 bytes); send the recording again")
    source.seek(0)
    return source


def _decode(file: soundfile.SoundFile, name: str, first: int, count: int) -> Float32Array:
    """Read `count` frames from frame `first` of an open file."""
    try:
        if first:
            file.seek(first)
        return file.read(count, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(". ")
        raise AudioFormatError(f"{name} is damaged ({reason}); record, copy or convert it again") from error


def _array_input(array: npt.NDArray[np.generic], rate: int) -> _Input:
    """Present an array (samples,) or (channels, samples) as an input."""
    if rate <= 0:
        raise UsageError(f"rate is {rate} Hz; give the sampling rate of the array")
    if array.ndim not in {1, 2}:
        raise AudioError(f"array has shape {array.shape}; give (samples,) or (channels, samples)")
    frames = np.atleast_2d(array).T
    if array.ndim == 2 and array.shape[0] > array.shape[1]:
        raise AudioError(f"array has shape {array.shape}, more channels than samples; transpose it")
    if np.issubdtype(array.dtype, np.signedinteger):
        scale = np.float32(1.0 / -float(np.iinfo(array.dtype).min))
    elif np.issubdtype(array.dtype, np.floating):
        scale = np.float32(1.0)
    else:
        raise AudioError(f"array holds {array.dtype}; give floating point in ±1 or signed integers of full scale")
    return _Input(
        "array", rate, len(frames), lambda first, count: frames[first : first + count].astype(np.float32) * scale
    )


def _read_span(opened: _Input, start: float, duration: float | None) -> Recording:
    """Read, downmix, resample and mend one span."""
    if opened.frames == 0:
        raise AudioFormatError(f"{opened.name} holds no samples; record or copy it again")
    seconds = opened.frames / opened.rate
    whole = math.ceil(opened.frames * SAMPLING_RATE / opened.rate)
    first = round(start * SAMPLING_RATE)
    if first >= whole:
        raise AudioSpanError(f"{opened.name} is {seconds:.3f} s long, so it cannot start at {start} s; start earlier")
    stop = whole if duration is None else min(whole, first + max(1, round(duration * SAMPLING_RATE)))
    samples = _resampled(opened, first, stop)
    if len(samples) == 0:
        raise AudioFormatError(f"{opened.name} holds no sound at {start} s although its header promises it; re-encode it")
    warnings = []
    if stop - first - len(samples) > SAMPLING_RATE // 100:
        promised, found = (stop - first) / SAMPLING_RATE, len(samples) / SAMPLING_RATE
        warnings.append(f"it ends early: {found:.2f} s of {promised:.2f} s could be read")
    mended, faults = _mended(samples)
    end = min((first + len(samples)) / SAMPLING_RATE, seconds)
    return Recording(mended, first / SAMPLING_RATE, end, seconds, (*warnings, *faults))


def _resampled(opened: _Input, first: int, stop: int) -> Float32Array:
    """Return the samples [first, stop) of the recording at 48 kHz.

    Reading begins on a common multiple of both sampling periods, so that the resampler's output falls on the grid
    on which it would fall for the whole recording.
    """
    if opened.rate == SAMPLING_RATE:
        return _mono(opened.read(first, stop - first))
    divisor = math.gcd(opened.rate, SAMPLING_RATE)
    block_in, block_out = opened.rate // divisor, SAMPLING_RATE // divisor
    margin = math.ceil(RESAMPLE_MARGIN_SECONDS * SAMPLING_RATE / block_out)
    head = max(0, first // block_out - margin)
    tail = min(opened.frames, (math.ceil(stop / block_out) + margin) * block_in)
    heard = _mono(opened.read(head * block_in, tail - head * block_in))
    samples = soxr.resample(heard, opened.rate, SAMPLING_RATE, quality="VHQ")
    offset = first - head * block_out
    return samples[offset : offset + stop - first]


def _mono(frames: Float32Array) -> Float32Array:
    """Average the channels of (n, channels)."""
    return np.ascontiguousarray(frames[:, 0]) if frames.shape[1] == 1 else frames.mean(axis=1, dtype=np.float32)


def _mended(samples: Float32Array) -> tuple[Float32Array, list[str]]:
    """Replace what would poison the embedding, and say what is suspicious."""
    faults = []
    finite = np.isfinite(samples)
    if not finite.all():
        faults.append(f"{np.count_nonzero(~finite)} samples are not finite numbers; they are heard as silence")
        samples = np.where(finite, samples, np.float32(0))
    peak = float(np.abs(samples).max())
    if peak < SILENCE_PEAK:
        faults.append("it is silent: nothing exceeds -80 dBFS, so the scores mean nothing")
    elif peak > UNSCALED_PEAK:
        faults.append(f"samples reach {peak:.0f} where ±1 is full scale; divide integers by their range first")
    return samples, faults
