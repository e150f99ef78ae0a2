"""Sound from an address, through FFmpeg (PyAV, the extra `formats`): RTSP cameras, HTTP streams."""

from collections.abc import Iterator
from typing import ClassVar

from clapedge.audio.decoder import to_float
from clapedge.errors import MissingExtraError
from clapedge.live.addresses import without_password
from clapedge.live.sources import Frames, SourceLostError

SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "udp", "rtp", "srt")

PROTOCOLS = "http,https,tcp,udp,tls,rtp,rtsp,rtsps,rtmp,srt,crypto,httpproxy"
"""What FFmpeg may use: a playlist from the network must not lead it to files of this machine."""

OPEN_SECONDS = 10.0
"""Timeout of a server that does not answer."""


class NetworkSource:
    """The first audio stream at an address."""

    live: ClassVar[bool] = True
    reopens: ClassVar[bool] = True

    def __init__(self, address: str, *, timeout: float) -> None:
        """Prepare to open it.

        Args:
            address: URL; a user and password in it are used, and never shown.
            timeout: seconds without sound after which it counts as lost.

        Raises:
            MissingExtraError: PyAV is not installed.
        """
        try:
            import av  # noqa: F401 - an extra
        except ImportError:
            raise MissingExtraError("listening to an address", "formats") from None
        self._address, self._timeout = address, timeout
        self.name = without_password(address)

    def frames(self) -> Iterator[Frames]:
        """Yield what is decoded; the stream's end counts as its loss, since live sound has none."""
        import av

        options = {"protocol_whitelist": PROTOCOLS}
        if self._address.startswith("rtsp"):
            options["rtsp_transport"] = "tcp"  # UDP loses packets silently
        try:
            timeout = (OPEN_SECONDS, self._timeout)
            with av.open(self._address, mode="r", container_options=options, timeout=timeout) as container:
                if not container.streams.audio:
                    raise SourceLostError(f"{self.name} has no audio stream; choose another address")
                packed = av.AudioResampler(format="flt")
                for decoded in container.decode(container.streams.audio[0]):
                    for frame in packed.resample(decoded):
                        yield frame.sample_rate, to_float(frame.to_ndarray()).reshape(frame.samples, -1)
        except (av.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SourceLostError(f"{self.name} cannot be read ({reason}); check the address") from error
        raise SourceLostError(f"{self.name} ended; start it again")

    def notes(self) -> list[str]:
        """Return nothing: each loss was logged."""
        return []


def is_address(name: str) -> bool:
    """Return whether a source is named by an address."""
    return name.partition("://")[0].lower() in SCHEMES and "://" in name
