"""Brokers for the tests: mosquitto, with any configuration."""

import os
import shutil
import socket
import socketserver
import subprocess
import threading
from pathlib import Path

import pytest
from tests.live.staging import eventually


class Broker:
    """A broker that is started and killed, always at the same port."""

    def __init__(self, directory: Path, *, listener: str = "", settings: str = "allow_anonymous true") -> None:
        """Write its configuration: lines for its listener, and others."""
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
        if program is None:
            pytest.skip("mosquitto is not installed; on Debian: apt install mosquitto")
        pytest.importorskip("paho.mqtt", reason="paho-mqtt is not installed; pip install 'clapedge[mqtt]'")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._command = [program, "-c", str(directory / "mosquitto.conf")]
        Path(self._command[-1]).write_text(f"user root\nlistener {self.port} 127.0.0.1\n{listener}\n{settings}\n")
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self) -> "subprocess.Popen[bytes]":
        """Start it, and return once it answers."""
        self._started.append(subprocess.Popen(self._command, stderr=subprocess.DEVNULL))
        eventually(self.answers)
        return self._started[-1]

    def answers(self) -> bool:
        """Return whether it listens."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """End whatever was started."""
        for process in self._started:
            process.kill()
            process.wait()


class OldBroker(socketserver.ThreadingTCPServer):
    """A broker that knows MQTT 3.1.1 alone.

    Attributes:
        versions: protocol levels of the clients that connected.
        published: topic and payload of each message.
        subscribed: what was published before each subscription.
        answering: while it is not set, subscriptions wait for their answer.
    """

    daemon_threads = allow_reuse_address = True

    def __init__(self) -> None:
        """Start."""
        super().__init__(("127.0.0.1", 0), _OldConnection)
        self.versions: list[int] = []
        self.published: list[tuple[str, bytes]] = []
        self.subscribed: list[list[tuple[str, bytes]]] = []
        self.answering = threading.Event()
        self.answering.set()
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class _OldConnection(socketserver.StreamRequestHandler):
    """Refuses other versions, and acknowledges messages of QoS 1."""

    server: OldBroker

    def handle(self) -> None:
        """Answer packet after packet."""
        while first := self.rfile.read(1):
            length = shift = 0
            while True:
                byte = self.rfile.read(1)[0]
                length, shift = length | (byte & 0x7F) << shift, shift + 7
                if byte < 0x80:
                    break
            body = self.rfile.read(length)
            if first[0] >> 4 == 1:  # CONNECT
                self.server.versions.append(body[6])
                self.wfile.write(bytes([0x20, 2, 0, body[6] != 4]))
                if body[6] != 4:
                    return
            if first[0] >> 4 == 8:  # SUBSCRIBE
                self.server.subscribed.append(list(self.server.published))
                self.server.answering.wait()
                self.wfile.write(b"\x90" + bytes([2 + _filters(body)]) + body[:2] + b"\x01" * _filters(body))
            if first[0] >> 4 == 3:  # PUBLISH
                end = 2 + int.from_bytes(body[:2], "big")
                self.server.published.append((body[2:end].decode(), body[end + 2 :]))
                self.wfile.write(b"\x40\x02" + body[end : end + 2])


def _filters(body: bytes) -> int:
    """Return how many topics a packet SUBSCRIBE of MQTT 3.1.1 names."""
    count, at = 0, 2
    while at < len(body):
        count, at = count + 1, at + 3 + int.from_bytes(body[at : at + 2], "big")
    return count
