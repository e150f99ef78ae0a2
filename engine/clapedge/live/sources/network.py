"""Sound from an address, through FFmpeg (PyAV, the extra `formats`): RTSP cameras, HTTP streams."""

import logging
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from clapedge.audio.decoder import to_float
from clapedge.errors import MissingExtraError
from clapedge.live.addresses import without_password
from clapedge.live.sources import Frames, SourceLostError
from clapedge.live.tls import TlsFiles, failure_reason

if TYPE_CHECKING:
    from av.container import InputContainer

logger = logging.getLogger("clapedge.live")

SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "udp", "rtp", "srt")

PROTOCOLS = "http,https,tcp,udp,tls,rtp,rtsp,rtsps,rtmp,srt,crypto,httpproxy"
"""What FFmpeg may use: a playlist from the network must not lead it to files of this machine."""

TLS_PORTS = {"https": 443, "rtsps": 322}
"""Schemes with TLS, and their ports (IANA)."""

OPEN_SECONDS = 10.0
"""Timeout of a server that does not answer."""


class NetworkSource:
    """The first audio stream at an address."""

    live: ClassVar[bool] = True
    reopens: ClassVar[bool] = True

    def __init__(self, address: str, *, timeout: float, tls: TlsFiles | None = None) -> None:
        """Prepare to open it.

        Args:
            address: URL; a user and password in it are used, and never shown.
            timeout: seconds without sound after which it counts as lost.
            tls: certificates of one's own; without an authority the certificate of a server is not checked, since
                cameras have such as nobody signed.

        Raises:
            MissingExtraError: PyAV is not installed.
            UsageError: a certificate cannot be used.
        """
        try:
            import av  # noqa: F401 - an extra
        except ImportError:
            raise MissingExtraError("listening to an address", "formats") from None
        self._address, self._timeout = address, timeout
        self.name = without_password(address)
        self._tls = tls or TlsFiles()
        self._context = self._tls.context() if self._scheme in TLS_PORTS and self._tls.ca else None
        if self._scheme in TLS_PORTS and not self._context:
            logger.warning(
                'the certificate of %s is not checked; name its authority, or it itself: ca="FILE"', self.name
            )

    @property
    def _scheme(self) -> str:
        """The scheme of the address."""
        return self._address.partition("://")[0].lower()

    def frames(self) -> Iterator[Frames]:
        """Yield what is decoded; the stream's end counts as its loss, since live sound has none."""
        import av

        try:
            timeout = (OPEN_SECONDS, self._timeout)
            with av.open(self._address, mode="r", container_options=self._options(), timeout=timeout) as container:
                if not container.streams.audio:
                    raise SourceLostError(f"{self.name} has no audio stream; choose another address")
                _discard_all_but_sound(container)
                packed = av.AudioResampler(format="flt")
                for decoded in container.decode(container.streams.audio[0]):
                    for frame in packed.resample(decoded):
                        yield frame.sample_rate, to_float(frame.to_ndarray()).reshape(frame.samples, -1)
        except (av.FFmpegError, ValueError) as error:
            reason = self._certificate_fault() or getattr(error, "strerror", None) or error
            raise SourceLostError(f"{self.name} cannot be read ({reason}); check the address") from error
        raise SourceLostError(f"{self.name} ended; start it again")

    def _options(self) -> dict[str, str]:
        """Return FFmpeg's options."""
        options = {"protocol_whitelist": PROTOCOLS}
        if self._scheme in {"rtsp", "rtsps"}:
            # UDP loses packets silently; a camera sends what was set up, and its video is a hundred times its sound
            options |= {"rtsp_transport": "tcp", "allowed_media_types": "audio"}
        if self._context:
            options |= {"tls_verify": "1", "ca_file": str(self._tls.ca)}
        if self._scheme in TLS_PORTS and self._tls.cert:
            options |= {"cert_file": str(self._tls.cert), "key_file": str(self._tls.cert)}
        return options

    def _certificate_fault(self) -> str | None:
        """Return why the server's certificate is not accepted, if it is not: FFmpeg says "Input/output error"."""
        parts = urlsplit(self._address)
        if self._context is None or not parts.hostname:
            return None
        place = (parts.hostname, parts.port or TLS_PORTS[self._scheme])
        try:
            with socket.create_connection(place, OPEN_SECONDS) as plain:
                self._context.wrap_socket(plain, server_hostname=parts.hostname).close()
        except OSError as error:
            return failure_reason(error)
        return None

    def notes(self) -> list[str]:
        """Return nothing: each loss was logged."""
        return []


def _discard_all_but_sound(container: "InputContainer") -> None:
    """Let FFmpeg drop what is not decoded as early as it can: HLS does not fetch such playlists any more."""
    import av.stream

    discard = getattr(av.stream, "Discard", None)  # of newer PyAV alone
    for stream in container.streams:
        if discard and stream.index != container.streams.audio[0].index:
            stream.discard = discard.all


def is_address(name: str) -> bool:
    """Return whether a source is named by an address."""
    return name.partition("://")[0].lower() in SCHEMES and "://" in name
