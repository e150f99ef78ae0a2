"""Sound from an address, through FFmpeg (PyAV, the extra `formats`): RTSP cameras, HTTP streams."""

from collections.abc import Iterator
from typing import ClassVar
from urllib.parse import urlsplit

from clapedge.audio.decoder import to_float
from clapedge.errors import MissingExtraError, UsageError
from clapedge.live.sources.local import Frames, SourceLostError

SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "udp", "rtp", "srt")

PROTOCOLS = "http,https,tcp,udp,tls,rtp,rtsp,rtsps,rtmp,srt,crypto,httpproxy"
"""What FFmpeg may use: a playlist from the network must not lead it to files of this machine."""

OPEN_SECONDS = 10.0
"""Patience with a server that does not answer."""


class NetworkStream:
    """The first stream of sound at an address."""

    live: ClassVar[bool] = True
    reopens: ClassVar[bool] = True

    def __init__(self, address: str, *, patience: float) -> None:
        """Prepare to listen.

        Args:
            address: URL; a user and password in it are used, and never shown.
            patience: seconds without sound after which it counts as lost.

        Raises:
            MissingExtraError: PyAV is not installed.
        """
        try:
            import av  # noqa: F401 - an extra
        except ImportError:
            raise MissingExtraError("listening to an address", "formats") from None
        self._address, self._patience = address, patience
        self.name = without_password(address)

    def frames(self) -> Iterator[Frames]:
        """Yield what is decoded; the stream's end counts as its loss, since live sound has none."""
        import av

        options = {"protocol_whitelist": PROTOCOLS}
        if self._address.startswith("rtsp"):
            options["rtsp_transport"] = "tcp"  # UDP loses packets silently
        try:
            timeout = (OPEN_SECONDS, self._patience)
            with av.open(self._address, mode="r", container_options=options, timeout=timeout) as container:
                if not container.streams.audio:
                    raise SourceLostError(f"{self.name} has no stream of sound; choose another address")
                packed = av.AudioResampler(format="flt")
                for decoded in container.decode(container.streams.audio[0]):
                    for frame in packed.resample(decoded):
                        yield frame.sample_rate, to_float(frame.to_ndarray()).reshape(frame.samples, -1)
        except (av.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SourceLostError(f"{self.name} is not to be heard ({reason}); check the address") from error
        raise SourceLostError(f"{self.name} ended; start it again")

    def notes(self) -> list[str]:
        """Tell of nothing: each loss was told."""
        return []


def is_address(name: str) -> bool:
    """Tell whether a source is named by an address."""
    return name.partition("://")[0].lower() in SCHEMES and "://" in name


def origin(address: str) -> str:
    """Return scheme, host and port of an address: all that may be shown where its path is a secret as well."""
    scheme, _, rest = without_password(address).partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def without_password(address: str) -> str:
    """Return an address as it may be shown: without user, password and query, where secrets travel."""
    try:
        parts = urlsplit(address)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:  # whose words may hold a part of the password
        raise UsageError(
            "an address cannot be read; give scheme://host:port/path, and in a password %2F for / and %23 for #"
        ) from None
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"
