"""A camera for the tests: a server of RTSP over TCP, with or without TLS, that offers video and audio."""

import socketserver
import ssl
import struct
import threading
from pathlib import Path

RATE = 8000
PACKET = 160
"""Samples in a packet: 20 ms."""

DESCRIPTION = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=camera
t=0 0
m=video 0 RTP/AVP 96
a=rtpmap:96 H264/90000
a=control:video
m=audio 0 RTP/AVP 0
a=rtpmap:0 PCMU/8000
a=control:audio
""".replace("\n", "\r\n")

ANSWERS = {
    "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n",
    "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(DESCRIPTION)}\r\n\r\n{DESCRIPTION}",
    "SETUP": "Session: 1\r\nTransport: {transport}\r\n",
    "PLAY": "Session: 1\r\n",
}


class Camera(socketserver.ThreadingTCPServer):
    """A camera that plays half a second of a constant and hangs up.

    Attributes:
        requests: method and address of each request.
    """

    daemon_threads = allow_reuse_address = True

    def __init__(self, *, certificate: Path | None = None) -> None:
        """Start."""
        super().__init__(("127.0.0.1", 0), _Connection)
        self.requests: list[tuple[str, str]] = []
        self.tls: ssl.SSLContext | None = None
        if certificate:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(certificate)
        self.address = f"rtsp{'s' if certificate else ''}://127.0.0.1:{self.server_address[1]}/live"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def set_up(self) -> list[str]:
        """Return the streams that were asked for."""
        return [address.rpartition("/")[2] for method, address in self.requests if method == "SETUP"]

    def close(self) -> None:
        """Be gone."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: clients hang up."""


class _Connection(socketserver.StreamRequestHandler):
    """Answers requests, and then plays."""

    server: Camera

    def setup(self) -> None:
        """Speak TLS, if the camera does."""
        if self.server.tls:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def handle(self) -> None:
        """Answer request after request."""
        channels: dict[str, int] = {}
        while line := self.rfile.readline().decode():
            method, address, _ = line.split()
            headers = {}
            while header := self.rfile.readline().decode().strip():
                name, _, value = header.partition(": ")
                headers[name.lower()] = value
            self.server.requests.append((method, address))
            if method == "SETUP":
                channels[address.rpartition("/")[2]] = int(headers["transport"].partition("interleaved=")[2][0])
            answer = ANSWERS.get(method, "Session: 1\r\n").format(transport=headers.get("transport", ""))
            end = "" if "\r\n\r\n" in answer else "\r\n"
            self.wfile.write(f"RTSP/1.0 200 OK\r\nCSeq: {headers['cseq']}\r\n{answer}{end}".encode())
            if method == "PLAY":
                return self._play(channels["audio"])
        return None

    def _play(self, channel: int) -> None:
        """Send packets of RTP."""
        for number in range(RATE // 2 // PACKET):
            packet = struct.pack("!BBHII", 0x80, 0, number, number * PACKET, 1) + b"\xa0" * PACKET
            self.wfile.write(struct.pack("!cBH", b"$", channel, len(packet)) + packet)
