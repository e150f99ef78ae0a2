"""A broker and a web server that are down for a while, and what arrives nevertheless."""

import http.server
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UP_SECONDS = 30.0
"""Before and after the outage."""

DRAIN_SECONDS = 120.0
"""Patience with what waits in the spool."""

TOPIC = "bench/events"


@dataclass(frozen=True)
class Often:
    """A sound every ten seconds, so that there is something to lose."""

    label: str
    start: float
    end: float
    gain: float = 1.0


class Received:
    """The receivers of messages: a subscriber at the broker, and a web server."""

    def __init__(self, broker_port: int, web_port: int) -> None:
        """Begin with nothing."""
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.mqtt: list[str] = []
        self.webhook: list[str] = []
        self._web_port = web_port
        self._server: http.server.ThreadingHTTPServer | None = None
        # a session that outlives the connection, so that the broker keeps what comes before the subscriber is back
        self._client = Client(CallbackAPIVersion.VERSION2, "bench", clean_session=False)
        self._client.on_connect = lambda client, *_: client.subscribe(TOPIC, qos=1)
        self._client.on_message = lambda _client, _data, message: self.mqtt.append(key_of(message.payload))
        self._client.connect_async("127.0.0.1", broker_port)
        self._client.loop_start()

    def open_server(self) -> None:
        """Start the web server."""
        received = self.webhook

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.append(key_of(body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self._web_port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close_server(self) -> None:
        """Stop the web server."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()

    def close(self) -> None:
        """Disconnect."""
        self.close_server()
        self._client.disconnect()
        self._client.loop_stop()


class Outage:
    """A listener in real time, whose broker and web server go away and come back."""

    def __init__(self, scratch: Path, words: Sequence[str], *, seconds: float) -> None:
        """Prepare; `words` start a listener."""
        self._scratch, self._seconds = scratch, seconds
        self._broker_port, self._web_port = free_port(), free_port()
        self._words = [
            *words,
            *("--mqtt", f"mqtt://127.0.0.1:{self._broker_port}/{TOPIC}"),
            *("--webhook", f"http://127.0.0.1:{self._web_port}/events"),
            *("--spool", str(scratch / "spool"), "--status", str(scratch / "outage.json")),
        ]
        self.figures: dict[str, Any] = {}

    def run(self, sound: Callable[..., Iterator[bytes]]) -> None:
        """Listen, be down, be up again, and compare the records with what arrived."""
        seconds = int(2 * UP_SECONDS + self._seconds)
        events = [Often("siren", at, at + 4.0) for at in range(5, seconds - 5, 10)]
        broker, received = self._broker(), Received(self._broker_port, self._web_port)
        received.open_server()
        listener = subprocess.Popen(  # noqa: S603 - our own command
            self._words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        sent: list[str] = []
        reader = threading.Thread(target=lambda: sent.extend(map(key_of, listener.stdout or ())), daemon=True)
        reader.start()
        due = time.monotonic()
        for second, piece in enumerate(sound(events, seconds, seed=7)):
            due = max(due + 1.0, time.monotonic())  # where this machine was busy, live sound would not come faster
            time.sleep(due - time.monotonic() if due > time.monotonic() else 0.0)
            if second == int(UP_SECONDS):
                broker.terminate()
                broker.wait()
                received.close_server()
            if second == int(UP_SECONDS + self._seconds):
                broker = self._broker()
                received.open_server()
            if listener.stdin:
                listener.stdin.write(piece)
                listener.stdin.flush()
        self._drain(sent, received)
        if listener.stdin:
            listener.stdin.close()
        listener.wait()
        reader.join()
        self._drain(sent, received)
        broker.terminate()
        received.close()
        status = json.loads((self._scratch / "outage.json").read_text())
        self.figures = {
            "down_s": self._seconds,
            "messages": len(sent),
            **{
                f"{name}_{what}": count
                for name, keys in (("mqtt", received.mqtt), ("webhook", received.webhook))
                for what, count in (("missing", len(set(sent) - set(keys))), ("twice", len(keys) - len(set(keys))))
            },
            "samples_dropped": status["samples_dropped"],
            "notes": status["notes"],
        }

    def _drain(self, sent: Sequence[str], received: Received) -> None:
        """Wait until all has arrived, for a while."""
        until = time.monotonic() + DRAIN_SECONDS
        while time.monotonic() < until and not (set(sent) <= set(received.mqtt) & set(received.webhook)):
            time.sleep(0.5)

    def _broker(self) -> "subprocess.Popen[bytes]":
        """Start mosquitto, which remembers who subscribed."""
        config = self._scratch / "mosquitto.conf"
        config.write_text(
            f"listener {self._broker_port} 127.0.0.1\nallow_anonymous true\n"
            f"persistence true\npersistence_location {self._scratch}/\nuser root\n"
        )
        command = ["/usr/sbin/mosquitto", "-c", str(config)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603


def key_of(line: bytes | bytearray) -> str:
    """Return the key of a record."""
    record = json.loads(line)
    return f"{record['id']}-{record['sequence']}"


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
