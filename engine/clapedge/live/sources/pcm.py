"""Samples from a pipe: bytes without a header, or with that of a WAV file, which is then believed."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

from clapedge.arrays import Float32Array
from clapedge.errors import AudioError, UsageError
from clapedge.live.sources import BLOCK_SECONDS, Frames
from clapedge.live.sources.pace import Pace
from clapedge.live.sources.pcm_format import FORMATS, PcmFormat
from clapedge.live.sources.wav_stream import ByteStream, WavHeader, read_header, skip_chunks

logger = logging.getLogger("clapedge.live")

__all__ = ["FORMATS", "PcmFormat", "PcmSource"]

OPTIONS = {"rate": "sample_rate", "channels": "channels", "format": "sample_format"}
"""Attributes of a format by the options that state them."""


class PcmSource:
    """Samples that another program writes, raw or as WAV.

    Attributes:
        torn: bytes at the end that were less than a frame.
    """

    live: ClassVar[bool] = True
    reopens: ClassVar[bool] = False

    def __init__(
        self,
        read: Callable[[int], bytes | None],
        pcm: PcmFormat,
        name: str = "standard input",
        *,
        stated: Sequence[str] = tuple(OPTIONS),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare to read; without a stated sample rate, the header is read now.

        Args:
            read: returns up to so many bytes, waiting for the first; none at the end.
            pcm: how samples lie in them if there is no header.
            name: what messages and records call it.
            stated: those of `OPTIONS` that a user has chosen, which a header may contradict; without `rate` there must
                be one.
            monotonic: returns the time in seconds.

        Raises:
            UsageError: there is neither a sample rate nor a header.
            AudioError: there is one, of samples that are not understood.
        """
        self.name = name
        self._bytes, self._pcm, self._stated, self._monotonic = ByteStream(read), pcm, stated, monotonic
        self._header = None if "rate" in stated else self._read_header()
        if "rate" not in stated and self._header is None:
            raise UsageError("raw samples do not name their sample rate, and no WAV header does")
        self.torn = 0

    def frames(self) -> Iterator[Frames]:
        """Yield frames as they come, however the bytes are cut."""
        came = False
        header = self._header or self._read_header()
        while True:
            pcm = header.pcm if header else self._pcm
            pace = None if header else Pace(self.name, pcm.sample_rate, pcm.channels)
            for frames in self._samples(pcm, header):
                came = True
                if pace:
                    pace.push(len(frames), self._monotonic())
                yield pcm.sample_rate, frames
            if header is None or not skip_chunks(self._bytes):
                break
            header = self._read_header()  # of a file behind the first; arecord writes one after two gigabytes
            if header is None:
                logger.warning("%s goes on where its WAV header says that it ends; all of it is read", self.name)
                header = WavHeader(pcm, None)
        if not came:
            raise AudioError(f"{self.name} ended without a sound; see what the program before the pipe prints")

    def notes(self) -> list[str]:
        """Return whether a frame was cut off."""
        if not self.torn:
            return []
        return [f"{self.name} ended within a frame ({self.torn} bytes); check the sample format and the channels"]

    def _samples(self, pcm: PcmFormat, header: WavHeader | None) -> Iterator[Float32Array]:
        """Yield frames until the end, or until that of the samples that a header announces."""
        size = pcm.frame_bytes
        most = max(1, round(BLOCK_SECONDS * pcm.sample_rate)) * size
        left = header.bytes and header.bytes - header.bytes % size if header else None
        held = b""
        while data := self._bytes.some(most - len(held) if left is None else min(most - len(held), left)):
            left = None if left is None else left - len(data)
            held += data
            whole = len(held) - len(held) % size
            if whole:
                yield pcm.frames(held[:whole])
                held = held[whole:]
        self.torn = len(held)

    def _read_header(self) -> WavHeader | None:
        """Read the header, if there is one, and log what it says."""
        header = read_header(self._bytes, self.name)
        if header is None:
            return None
        pcm = header.pcm
        found = f"{pcm.sample_rate} Hz, channels: {pcm.channels}, {pcm.sample_format}"
        differing = [
            f"{option}={getattr(self._pcm, name)}"
            for option, name in OPTIONS.items()
            if option in self._stated and getattr(self._pcm, name) != getattr(pcm, name)
        ]
        if differing:
            wrong = ", ".join(differing)
            logger.warning("%s is WAV (%s), which contradicts %s; its header is used", self.name, found, wrong)
        else:
            logger.info("%s is WAV: %s", self.name, found)
        return header
