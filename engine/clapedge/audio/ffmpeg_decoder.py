"""The decoder of what FFmpeg reads (PyAV, the extra `formats`): M4A, MP4, WebM, WMA, AMR and many others.

FFmpeg can follow playlists and addresses in a file to other files and to the network; here it may use neither.
"""

import ctypes
from collections.abc import Generator, Iterator
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from clapedge.arrays import Float32Array
from clapedge.audio.decoder import BLOCK_VALUES, note_once, to_float
from clapedge.audio.gaps import GAP_SECONDS, MAX_SILENCE_SECONDS, Clock, Gaps, silence
from clapedge.audio.headers import mp4_faults
from clapedge.audio.sources import ByteView
from clapedge.errors import AudioFormatError

if TYPE_CHECKING:
    from av import AudioFrame, Packet
    from av.audio.stream import AudioStream
    from av.container import InputContainer

DEMUXERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,latm,loas,matroska,webm,mlp,mov,mp4,"
    "m4a,3gp,3g2,mj2,mp3,mpc,mpc8,mpeg,mpegts,nistsphere,ogg,oma,qcp,rm,shn,tak,truehd,tta,voc,w64,wav,wtv,wv,xwma"
)
"""Self-contained containers of sound and film: no playlists (hls, concat, dash), devices or images."""

ESTIMATED_LENGTHS = frozenset(
    {"aac", "ac3", "amr", "amrnb", "amrwb", "avi", "dts", "dtshd", "eac3", "flv", "loas"}
    | {"mlp", "mp3", "mpeg", "mpegts", "rm", "truehd", "wtv"}
)
"""Demuxers whose container does not say how long it is, so that FFmpeg estimates it from the bit rate."""

SEEKABLE = frozenset(
    {"aac", "aiff", "amr", "amrnb", "amrwb", "ape", "asf", "avi", "caf", "flac", "flv", "matroska", "mov"}
    | {"mp3", "mpegts", "ogg", "tta", "w64", "wav", "wv"}
)
"""Demuxers whose time stamps are exact; those of the others drift or are guessed."""

MAX_ALLOCATED = 2**28
"""Bytes that FFmpeg may allocate at once: more than any packet of sound or table of contents needs."""

MAX_PLANES = 8
"""Channels of a frame that PyAV returns; of a frame with more it reads beyond the memory (PyAV 18.1)."""

LEAD_SECONDS = 1
"""Decoded and dropped before a seek's target, for transforms that overlap and predictors that remember."""


class FfmpegDecoder:
    """Decodes the first audio stream of a file through PyAV."""

    def __init__(self, view: ByteView, name: str) -> None:
        """Open a recording and decode its first frame: headers are often wrong about the rate (HE-AAC).

        Raises:
            AudioFormatError: PyAV is missing, or FFmpeg cannot decode the recording.
        """
        _prepare(name)
        self._view = view
        self._name = name
        self.notes: list[str] = mp4_faults(view)
        self._gaps = Gaps(self.notes)
        self.exact = True
        self._stamped = self._seekable = False
        self._origin = Fraction(0)
        self._seconds: Fraction | None = None
        self._follows_lead = False
        self._begin = Fraction(0)
        frames = self._decoded(Fraction(0))
        first = next(frames, None)
        frames.close()
        if first is None:
            raise AudioFormatError(f"{name} has no sound that can be decoded; convert it to WAV or FLAC")
        self.sample_rate: int = first.sample_rate
        self._first_samples = first.samples
        self.frames = self._promised_frames(self._set_origin(_time(first) or Fraction(0)))

    def close(self) -> None:
        """Release nothing: every pass opens and closes its own container."""

    def blocks(self, first: int, stop: int | None) -> Iterator[Float32Array]:
        """Yield the frames [first, stop), see `clapedge.audio.decoder.Decoder`."""
        frames, position = self._from(first)
        kept: list[Float32Array] = []
        values = 0
        for block in self._cut(frames, position, first, stop):
            if values >= BLOCK_VALUES or (kept and kept[0].shape[1] != block.shape[1]):
                yield np.concatenate(kept)
                kept, values = [], 0
            kept.append(block)
            values += block.size
        if kept:
            yield np.concatenate(kept)

    def _from(self, first: int) -> tuple[Iterator["AudioFrame"], int]:
        """Return decoded frames that begin at or before `first`, and the position of the first of them."""
        target = Fraction(first, self.sample_rate) - LEAD_SECONDS
        if target > 0 and self._seekable:
            frames = self._decoded(target)
            next(frames, None)  # the first frame after a seek may lack its beginning, and so its position
            landed = next(frames, None)
            position = None if landed is None else self._position(landed)
            if landed is not None and position is not None and position <= first:
                return chain([landed], frames), position
            frames.close()
        return self._decoded(Fraction(0)), 0

    def _cut(
        self, frames: Iterator["AudioFrame"], position: int, first: int, stop: int | None
    ) -> Iterator[Float32Array]:
        """Yield the part of the frames in [first, stop), as (n, channels), with silence where some are missing."""
        clock = Clock(self._gaps, self.sample_rate)
        for frame in frames:
            if frame.sample_rate != self.sample_rate:
                change = f"{self.sample_rate} to {frame.sample_rate} Hz"
                note_once(self.notes, f"its sample rate changes from {change}; what follows is not read")
                return
            if frame.format.is_planar and frame.layout.nb_channels > MAX_PLANES:
                found = f"a part of it has {frame.layout.nb_channels} channels"
                note_once(self.notes, f"{found}; it is not read, nor what follows")
                return
            missing = clock.missing(self._position(frame) if self._stamped else None, position)
            begin = min(max(position, first), position + missing)
            position += missing
            yield from silence((position if stop is None else min(position, stop)) - begin, frame.layout.nb_channels)
            low = max(0, first - position)
            high = frame.samples if stop is None else min(frame.samples, stop - position)
            position += frame.samples
            if low < high:
                yield self._values(frame)[low:high]
            if stop is not None and position >= stop:
                return

    def _decoded(self, start: Fraction) -> Generator["AudioFrame", None, None]:
        """Yield the decoded frames from about `start` seconds; damaged packets are left out and noted."""
        import av

        self._view.seek(0)
        try:
            # whitelists keep FFmpeg from what a file may name: playlists, other files, addresses; as options of the
            # container alone, since PyAV up to 17 crashes on options for streams that are found late (FLV)
            options = {"format_whitelist": DEMUXERS, "protocol_whitelist": ""}
            # titles in other encodings than UTF-8 are no reason to fail: since PyAV 19 they are decoded when asked for
            lenient: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}  # noqa: PLR2004
            with av.open(self._view, mode="r", container_options=options, **lenient) as container:
                if not container.streams.audio:
                    raise AudioFormatError(f"{self._name} has no sound; name a recording that has an audio stream")
                stream = container.streams.audio[0]
                if stream.codec_context is None:
                    raise AudioFormatError(f"{self._name} is in a codec that FFmpeg does not decode; convert it to WAV")
                self._read_header(container, stream)
                if start:
                    container.seek(int((start + self._origin) / _tick(stream)), stream=stream)
                yield from self._packets(container.demux(stream))
        except av.FFmpegError as error:
            raise AudioFormatError(
                f"{self._name} is not audio that can be decoded ({error.strerror}); convert it to WAV or FLAC"
            ) from error

    def _packets(self, packets: Iterator["Packet[AudioStream]"]) -> Iterator["AudioFrame"]:
        """Decode a stream packet by packet."""
        import av

        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                note_once(self.notes, f"it is damaged ({error.strerror}); what follows the damage is not read")
                return
            if packet is None or self._view.exhausted:
                return
            try:
                yield from packet.decode()
            except av.FFmpegError as error:
                note_once(self.notes, f"parts of it are damaged ({error.strerror}) and left out")

    def _read_header(self, container: "InputContainer", stream: "AudioStream") -> None:
        """Read length and time stamps from the container."""
        self._begin = Fraction(container.start_time or 0, 1_000_000)
        self._follows_lead = bool(stream.duration)
        if stream.duration:
            self._seconds = stream.duration * _tick(stream)
        elif container.duration:
            self._seconds = Fraction(container.duration, 1_000_000)
        names = set(container.format.name.split(","))
        self.exact = not ESTIMATED_LENGTHS & names
        # a block of Vorbis has one of two lengths, so that a time stamp in milliseconds does not give its position
        coarse = _tick(stream) * (stream.rate or 1) > 1
        self._stamped = bool(SEEKABLE & names)
        self._seekable = self._stamped and not (coarse and stream.codec_context.name == "vorbis")

    def _set_origin(self, first: Fraction) -> Fraction:
        """Set the time stamp of second 0, and return how much later the sound begins: 0 if no picture precedes it."""
        lead = first - self._begin
        if not (self._stamped and GAP_SECONDS < lead <= MAX_SILENCE_SECONDS):
            lead = Fraction(0)
        self._origin = first - lead
        return lead

    def _promised_frames(self, lead: Fraction) -> int | None:
        """Return the number of frames that the container promises, or None; `lead` seconds precede the sound."""
        if self._seconds is None:
            return None
        return round((self._seconds + (lead if self._follows_lead else 0)) * self.sample_rate)

    def _position(self, frame: "AudioFrame") -> int | None:
        """Return where a frame begins by its time stamp, in frames from the beginning; None without a time stamp.

        A container that counts in milliseconds is too coarse for that; then it is the nearest position on the grid of
        whole frames, if there is one within a tick.
        """
        time = _time(frame)
        if time is None or frame.time_base is None:
            return None
        stamped = (time - self._origin) * self.sample_rate
        tick = frame.time_base * self.sample_rate
        grid = self._first_samples + round((stamped - self._first_samples) / frame.samples) * frame.samples
        return grid if tick > 1 and abs(grid - stamped) <= tick else round(stamped)

    def _values(self, frame: "AudioFrame") -> Float32Array:
        """Return the samples of a frame as (n, channels) in ±1."""
        try:
            samples = to_float(frame.to_ndarray())
        except ValueError as error:
            raise AudioFormatError(
                f"{self._name} has samples as {frame.format.name}, which is not supported; convert it to WAV or FLAC"
            ) from error
        return samples.T if frame.format.is_planar else samples.reshape(frame.samples, -1)


def _prepare(name: str) -> None:
    """Import PyAV and limit what FFmpeg allocates: a few bytes in the header of a WAV can make it fill 2 GB."""
    try:
        import av.audio.frame
    except ImportError:
        raise AudioFormatError(
            f"{name} is not a WAV, AIFF, FLAC, Ogg or MP3 that can be decoded; "
            "for M4A, WebM, WMA and others: pip install 'clapedge[formats]'"
        ) from None
    # PyAV does not expose this function; its modules are linked to the library that has it (not found on Windows)
    set_limit = getattr(ctypes.CDLL(av.audio.frame.__file__), "av_max_alloc", None)
    if set_limit is not None:
        set_limit(ctypes.c_size_t(MAX_ALLOCATED))


def _tick(stream: "AudioStream") -> Fraction:
    """Return the seconds of one unit of a stream's time stamps."""
    return stream.time_base or Fraction(1, 1_000_000)


def _time(frame: "AudioFrame") -> Fraction | None:
    """Return the time stamp of a frame in seconds."""
    return None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base
