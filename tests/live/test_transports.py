"""Transports: a web server and a broker get records, and what they answer decides."""

import base64
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.live.brokers import Broker
from tests.live.staging import PATIENCE, eventually, give, spool_of

from clapedge.errors import UsageError
from clapedge.live.records import EventRecord
from clapedge.live.sinks.delivery import RefusedError, SpooledSink, Transport, UndeliveredError
from clapedge.live.sinks.mqtt import MqttTransport
from clapedge.live.sinks.webhook import TOKEN_VARIABLE, WebhookTransport

if TYPE_CHECKING:
    import subprocess


class Server:
    """A web server that gives scripted answers."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.requests: list[tuple[dict[str, str], bytes]] = []
        mine = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                mine.requests.append((dict(self.headers), body))
                code, headers = mine.answers.pop(0) if mine.answers else (204, {})
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/events?key=secret"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Be down."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    """Start a web server."""
    started = Server()
    yield started
    started.close()


def test_a_webhook_gets_json_with_a_key_and_a_token(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "abc")
    transport = WebhookTransport(server.address)
    transport.send("0a1b-1-0", b'{"label": "siren"}')
    ((headers, body),) = server.requests
    assert body == b'{"label": "siren"}'
    assert headers["Idempotency-Key"] == "0a1b-1-0"
    assert headers["Authorization"] == "Bearer abc"
    assert headers["Content-Type"] == "application/json"
    assert "secret" not in transport.name


def test_a_webhook_is_given_user_and_password_and_nobody_else_is(server: Server) -> None:
    address = server.address.replace("http://", "http://me:p%40ss@")
    transport = WebhookTransport(address)
    transport.send("0a1b-1-0", b"{}")
    ((headers, _),) = server.requests
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"me:p@ss"
    assert transport.name == server.address.partition("/events")[0], "a path may be a secret as well"
    server.close()
    with pytest.raises(UndeliveredError) as raised:
        transport.send("0a1b-2-0", b"{}")
    assert "ss" not in str(raised.value)


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "schlüssel"])
def test_a_token_that_no_header_carries_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, token)
    with pytest.raises(UsageError, match="give the token alone") as raised:
        WebhookTransport("http://host/")
    assert token not in str(raised.value)


@pytest.mark.parametrize(
    ("code", "headers", "error", "pause"),
    [
        (500, {}, UndeliveredError, None),
        (401, {}, UndeliveredError, None),
        (503, {"Retry-After": "12"}, UndeliveredError, 12.0),
        (429, {"Retry-After": "99999"}, UndeliveredError, 300.0),
        (302, {"Location": "http://elsewhere.invalid/"}, UndeliveredError, None),
        (422, {}, RefusedError, None),
    ],
)
def test_the_answers_of_a_web_server_decide(
    server: Server, code: int, headers: dict[str, str], error: type[Exception], pause: float | None
) -> None:
    server.answers.append((code, headers))
    with pytest.raises(error, match=str(code)) as raised:
        WebhookTransport(server.address).send("k", b"{}")
    assert getattr(raised.value, "pause", None) == pause
    assert len(server.requests) == 1


def test_a_web_server_that_is_down_may_come_back() -> None:
    server = Server()
    server.close()
    with pytest.raises(UndeliveredError, match="cannot be reached"):
        WebhookTransport(server.address).send("k", b"{}")
    with pytest.raises(UsageError, match="not an HTTP address"):
        WebhookTransport("ftp://host/")
    with pytest.raises(UsageError, match="not an HTTP address"):
        WebhookTransport("http://host/a b")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Callable[[], tuple[int, "subprocess.Popen[bytes]"]]]:
    """Return what starts a broker, always at the same port."""
    made = Broker(tmp_path)
    yield lambda: (made.port, made.start())
    made.kill()


class Subscriber:
    """A subscriber to what is published."""

    def __init__(self, port: int) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.received: list[tuple[str, bytes]] = []
        ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe("yard/#", qos=1)
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_message = lambda _client, _data, message: self.received.append(
            (message.topic, bytes(message.payload))
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert ready.wait(PATIENCE)

    def keys(self) -> list[str]:
        """Return the keys of the events that were received."""
        return [
            msgspec.json.decode(data, type=EventRecord).key for topic, data in self.received if topic == "yard/sounds"
        ]

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()


class Hasty(threading.Event):
    """An event that waits for a moment at most."""

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - as an event waits
        return super().wait(0.01)


def spooled_to(port: int, directory: Path) -> SpooledSink:
    """Return a sink to a broker that tries again soon."""
    transport: Transport = MqttTransport(f"mqtt://127.0.0.1:{port}/yard/sounds")
    return SpooledSink(spool_of(directory), transport, stop=Hasty())


def test_a_broker_gets_records_and_the_status(
    broker: Callable[[], tuple[int, "subprocess.Popen[bytes]"]], tmp_path: Path
) -> None:
    port, _ = broker()
    subscriber = Subscriber(port)
    spooled = spooled_to(port, tmp_path / "spool")
    for number in range(5):
        give(spooled, number)
    spooled.close()
    eventually(lambda: ("yard/sounds/status", b"offline") in subscriber.received)
    subscriber.close()
    assert subscriber.keys() == [f"0a1b-{number}-0" for number in range(5)]
    assert subscriber.received[0] == ("yard/sounds/status", b"online")


def test_a_broker_that_goes_away_and_comes_back_misses_nothing(
    broker: Callable[[], tuple[int, "subprocess.Popen[bytes]"]], tmp_path: Path
) -> None:
    port, process = broker()
    first = Subscriber(port)
    spooled = spooled_to(port, tmp_path / "spool")
    give(spooled, 0)
    eventually(lambda: first.keys() and not len(spooled._spool))
    first.close()
    process.terminate()
    process.wait()
    for number in range(1, 4):
        give(spooled, number)
    broker()
    second = Subscriber(port)
    for number in range(4, 6):
        give(spooled, number)
    eventually(lambda: not len(spooled._spool))
    spooled.close()
    assert spooled.notes() == []
    received = {*first.keys(), *second.keys()}
    assert "0a1b-5-0" in received
    second.close()


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("http://host/", "give mqtt://"),
        ("mqtt://host/a/+", "which are for subscribers"),
        ("mqtt://host/a/#", "which are for subscribers"),
    ],
)
def test_an_address_that_is_no_broker_is_refused(address: str, complaint: str) -> None:
    pytest.importorskip("paho.mqtt", reason="paho-mqtt is not installed; pip install 'clapedge[mqtt]'")
    with pytest.raises(UsageError, match=complaint):
        MqttTransport(address)
