"""Brokers for the tests: mosquitto, with any configuration."""

import os
import shutil
import socket
import subprocess
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
