"""Recordings to frames through FFmpeg (PyAV, the extra `formats`): M4A, MP4, WebM, WMA, AMR and what else it reads.

FFmpeg can follow playlists and addresses in a file to other files and to the network; here it may use neither.
"""

import ctypes
from collections.abc import Generator, Iterator
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from clapedge.arrays import Float32Array
from clapedge.audio.decoders import BLOCK_VALUES, to_float
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
"""Containers of sound and film that stand for themselves: no playlists (hls, concat, dash), devices or images."""

ESTIMATED_LENGTHS = frozenset(
    {"aac", "ac3", "amr", "amrnb", "amrwb", "avi", "dts", "dtshd", "eac3", "flv", "loas"}
    | {"mlp", "mp3", "mpeg", "mpegts", "rm", "truehd", "wtv"}
)
"""Demuxers whose container does not say how long it is, so that FFmpeg estimates it from the bit rate."""

SEEKABLE = frozenset(
    {"aac", "aiff", "amr", "amrnb", "amrwb", "ape", "asf", "avi", "caf", "flac", "flv", "matroska", "mov"}
    | {"mp3", "mpegts", "ogg", "tta", "w64", "wav", "wv"}
)
"""Demuxers whose time stamps say exactly where a packet begins; those of the others drift or are guessed."""

MOST_ALLOCATED = 2**28
"""Bytes that FFmpeg may allocate at once: more than any packet of sound or table of contents needs."""

MOST_PLANES = 8
"""Channels of a frame that PyAV hands over; of a frame with more it reads beyond the memory (PyAV 18.1)."""

LEAD_SECONDS = 1
"""Decoded and dropped before a seek's target, for transforms that overlap and predictors that remember."""


class FfmpegDecoder:
    """Decodes the first stream of sound in a recording through PyAV."""

    def __init__(self, view: ByteView, name: str) -> None:
        """Open a recording and decode its first frame: headers are often wrong about the rate (HE-AAC).

        Raises:
            AudioFormatError: PyAV is missing, or FFmpeg cannot decode the recording.
        """
        _prepare(name)
        self._view = view
        self._name = name
        self.notes: list[str] = []
        self.exact = True
        self._seekable = False
        self._seconds: Fraction | None = None
        frames = self._decoded(Fraction(0))
        first = next(frames, None)
        frames.close()
        if first is None:
            raise AudioFormatError(f"{name} holds no sound that can be decoded; convert it to WAV or FLAC")
        self.rate: int = first.sample_rate
        self.frames = self._promised()
        self._origin = _time(first) or Fraction(0)
        self._first_samples = first.samples

    def close(self) -> None:
        """Release nothing: every pass opens and closes its own container."""

    def blocks(self, first: int, stop: int | None) -> Iterator[Float32Array]:
        """Yield the frames [first, stop), see `clapedge.audio.decoders.Decoder`."""
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
        target = Fraction(first, self.rate) - LEAD_SECONDS
        if target > 0 and self._seekable:
            frames = self._decoded(target)
            next(frames, None)  # what comes first after a seek may lack its beginning, and so its place
            landed = next(frames, None)
            position = None if landed is None else self._position(landed)
            if landed is not None and position is not None and position <= first:
                return chain([landed], frames), position
            frames.close()
        return self._decoded(Fraction(0)), 0

    def _cut(
        self, frames: Iterator["AudioFrame"], position: int, first: int, stop: int | None
    ) -> Iterator[Float32Array]:
        """Yield what of the frames lies in [first, stop), as (n, channels)."""
        for frame in frames:
            if frame.sample_rate != self.rate:
                self._note(f"its rate changes from {self.rate} to {frame.sample_rate} Hz; what follows is not heard")
                return
            if frame.format.is_planar and frame.layout.nb_channels > MOST_PLANES:
                self._note(f"a part of it has {frame.layout.nb_channels} channels; it is not heard, nor what follows")
                return
            low = max(0, first - position)
            high = frame.samples if stop is None else min(frame.samples, stop - position)
            position += frame.samples
            if low < high:
                yield self._values(frame)[low:high]
            if stop is not None and position >= stop:
                return

    def _decoded(self, start: Fraction) -> Generator["AudioFrame", None, None]:
        """Yield the decoded frames from about `start` seconds; damaged packets are left out, and that is noted."""
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
                    raise AudioFormatError(f"{self._name} holds no sound; name a recording that has a stream of audio")
                stream = container.streams.audio[0]
                if stream.codec_context is None:
                    raise AudioFormatError(f"{self._name} is in a codec that FFmpeg does not decode; convert it to WAV")
                self._learn(container, stream)
                if start:
                    origin = stream.start_time or 0
                    container.seek(int(start / _tick(stream)) + origin, stream=stream)
                yield from self._packets(container.demux(stream))
        except av.FFmpegError as error:
            raise AudioFormatError(
                f"{self._name} is no audio that can be decoded ({error.strerror}); convert it to WAV or FLAC"
            ) from error

    def _packets(self, packets: Iterator["Packet[AudioStream]"]) -> Iterator["AudioFrame"]:
        """Decode a stream packet by packet."""
        import av

        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                self._note(f"it is damaged ({error.strerror}); what follows the damage is not heard")
                return
            if packet is None:
                return
            try:
                yield from packet.decode()
            except av.FFmpegError as error:
                self._note(f"parts of it are damaged ({error.strerror}) and left out")

    def _learn(self, container: "InputContainer", stream: "AudioStream") -> None:
        """Keep what the container says about length and time."""
        if stream.duration:
            self._seconds = stream.duration * _tick(stream)
        elif container.duration:
            self._seconds = Fraction(container.duration, 1_000_000)
        names = set(container.format.name.split(","))
        self.exact = not ESTIMATED_LENGTHS & names
        # a block of Vorbis has one of two lengths, so that a time stamp in milliseconds does not tell its place
        coarse = _tick(stream) * (stream.rate or 1) > 1
        self._seekable = bool(SEEKABLE & names) and not (coarse and stream.codec_context.name == "vorbis")

    def _promised(self) -> int | None:
        """Return the frames that the container promises, None if it says nothing."""
        return None if self._seconds is None else round(self._seconds * self.rate)

    def _position(self, frame: "AudioFrame") -> int | None:
        """Return where a frame begins by its time stamp, in frames from the beginning; None without a time stamp.

        A container that counts in milliseconds is too coarse for that; then the place on the grid of whole frames that
        is nearest is meant, if there is one within a tick.
        """
        time = _time(frame)
        if time is None or frame.time_base is None:
            return None
        stamped = (time - self._origin) * self.rate
        tick = frame.time_base * self.rate
        grid = self._first_samples + round((stamped - self._first_samples) / frame.samples) * frame.samples
        return grid if tick > 1 and abs(grid - stamped) <= tick else round(stamped)

    def _values(self, frame: "AudioFrame") -> Float32Array:
        """Return the samples of a frame as (n, channels) in ±1."""
        try:
            samples = to_float(frame.to_ndarray())
        except ValueError as error:
            raise AudioFormatError(
                f"{self._name} holds samples as {frame.format.name}, which is not supported; convert it to WAV or FLAC"
            ) from error
        return samples.T if frame.format.is_planar else samples.reshape(frame.samples, -1)

    def _note(self, sentence: str) -> None:
        """Note a fault once, however many packets or passes meet it."""
        if sentence not in self.notes:
            self.notes.append(sentence)


def _prepare(name: str) -> None:
    """Import PyAV and keep FFmpeg from allocating by the header: a few bytes of a WAV can make it fill 2 GB."""
    try:
        import av.audio.frame
    except ImportError:
        raise AudioFormatError(
            f"{name} is no WAV, AIFF, FLAC, Ogg or MP3 that can be decoded; "
            "for M4A, WebM, WMA and others: pip install 'clapedge[formats]'"
        ) from None
    # PyAV does not pass this function on; its modules are linked to the library that has it (not found on Windows)
    set_most = getattr(ctypes.CDLL(av.audio.frame.__file__), "av_max_alloc", None)
    if set_most is not None:
        set_most(ctypes.c_size_t(MOST_ALLOCATED))


def _tick(stream: "AudioStream") -> Fraction:
    """Return the seconds of one unit of a stream's time stamps."""
    return stream.time_base or Fraction(1, 1_000_000)


def _time(frame: "AudioFrame") -> Fraction | None:
    """Return the time stamp of a frame in seconds."""
    return None if frame.pts is None or frame.time_base is None else frame.pts * frame.time_base
