"""Why a broker or a server cannot be used: the log names the true reason; certificates of one's own are an option."""

import http.server
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.live.brokers import Broker, OldBroker
from tests.live.certificates import Authority, authority
from tests.live.staging import eventually, give, spool_of
from tests.live.test_transports import Hasty
from tests.live.web import web_server

from clapedge.cli import cli
from clapedge.errors import UsageError
from clapedge.live.sinks.delivery import SpooledSink, UndeliveredError
from clapedge.live.sinks.mqtt import MqttTransport
from clapedge.live.sinks.webhook import WebhookTransport
from clapedge.live.tls import TlsFiles


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return an authority that no system knows."""
    return authority(tmp_path_factory.mktemp("own") / "authority")


@pytest.fixture
def brokers() -> Iterator[list[Broker]]:
    """Return a list of brokers, which are killed at the end."""
    started: list[Broker] = []
    yield started
    for each in started:
        each.kill()


def guarded(directory: Path) -> Broker:
    """Return a broker that knows one user, who may publish below `yard` alone."""
    program = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("mosquitto_passwd is not installed; on Debian: apt install mosquitto")
    passwords = directory / "passwords"
    subprocess.run([program, "-b", "-c", passwords, "me", "right"], check=True, capture_output=True)
    (directory / "rights").write_text("user me\ntopic write yard/#\ntopic write other/+/status\n")
    settings = f"allow_anonymous false\npassword_file {passwords}\nacl_file {directory / 'rights'}"
    return Broker(directory, settings=settings)


def encrypted(directory: Path, certificate: Path, *lines: str) -> Broker:
    """Return a broker with TLS."""
    listener = "\n".join([f"certfile {certificate}", f"keyfile {certificate}", *lines])
    return Broker(directory, listener=listener)


def reasons(transport: MqttTransport, directory: Path, caplog: pytest.LogCaptureFixture, word: str) -> list[str]:
    """Try to deliver a message until a word is in the log; return the log."""
    spooled = SpooledSink(spool_of(directory / "spool"), transport, stop=Hasty())
    give(spooled, 0)
    eventually(lambda: any(word in line for line in caplog.messages))
    spooled.close()
    return list(caplog.messages)


def test_a_wrong_password_is_what_the_log_names(
    brokers: list[Broker], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    brokers.append(guarded(tmp_path))
    brokers[0].start()
    transport = MqttTransport(f"mqtt://me:wrong@127.0.0.1:{brokers[0].port}/yard/sounds")
    lines = reasons(transport, tmp_path, caplog, "the broker refuses the connection (Not authorized)")
    assert not any("the connection was lost" in line for line in lines)
    assert not any("wrong" in line for line in lines)


def test_a_topic_that_is_not_allowed_is_what_the_log_names_and_the_message_waits(
    brokers: list[Broker], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    brokers.append(guarded(tmp_path))
    brokers[0].start()
    transport = MqttTransport(f"mqtt://me:right@127.0.0.1:{brokers[0].port}/other/sounds")
    reasons(transport, tmp_path, caplog, "does not take it (Not authorized); may this user publish to other/sounds?")
    assert len(spool_of(tmp_path / "spool")) == 1


@pytest.mark.parametrize("trusted", [False, True])
def test_a_broker_with_an_authority_of_ones_own(
    own: Authority, brokers: list[Broker], tmp_path: Path, caplog: pytest.LogCaptureFixture, *, trusted: bool
) -> None:
    brokers.append(encrypted(tmp_path, own.sign("broker", "IP:127.0.0.1")))
    brokers[0].start()
    tls = TlsFiles(own.ca if trusted else None)
    transport = MqttTransport(f"mqtts://127.0.0.1:{brokers[0].port}/yard/sounds", tls=tls)
    if not trusted:
        reasons(transport, tmp_path, caplog, 'name the authority that signed it: ca="FILE"')
        return
    spooled = SpooledSink(spool_of(tmp_path / "spool"), transport, stop=Hasty())
    give(spooled, 0)
    eventually(lambda: not len(spooled._spool))
    spooled.close()


def test_a_certificate_for_another_name_and_a_port_without_tls_are_what_the_log_names(
    own: Authority, brokers: list[Broker], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    places = [tmp_path / "other", tmp_path / "plain"]
    for place in places:
        place.mkdir()
    brokers += [encrypted(places[0], own.sign("other")), Broker(places[1])]
    for broker, place, word in zip(
        brokers, places, ("mismatch", "is it the right port, for TLS or without?"), strict=True
    ):
        broker.start()
        transport = MqttTransport(f"mqtts://127.0.0.1:{broker.port}/yard/sounds", tls=TlsFiles(own.ca))
        reasons(transport, place, caplog, word)
    transport = MqttTransport(f"mqtt://127.0.0.1:{brokers[0].port}/yard/sounds")
    reasons(transport, places[0], caplog, "does the broker want mqtts://?")


@pytest.mark.parametrize("shown", [False, True])
def test_a_broker_that_wants_a_certificate(
    own: Authority, brokers: list[Broker], tmp_path: Path, caplog: pytest.LogCaptureFixture, *, shown: bool
) -> None:
    lines = (f"cafile {own.ca}", "require_certificate true")
    brokers.append(encrypted(tmp_path, own.sign("broker", "IP:127.0.0.1"), *lines))
    brokers[0].start()
    tls = TlsFiles(own.ca, own.sign("device") if shown else None)
    transport = MqttTransport(f"mqtts://127.0.0.1:{brokers[0].port}/yard/sounds", tls=tls)
    if shown:
        eventually(lambda: transport.connection.online)
        transport.send("0a1b-1-0", b"{}")
        transport.close()
    else:
        reasons(transport, tmp_path, caplog, "certificate required")


def test_a_broker_of_mqtt_3_1_1_is_spoken_to_in_its_version(tmp_path: Path) -> None:
    pytest.importorskip("paho.mqtt", reason="paho-mqtt is not installed; pip install 'clapedge[mqtt]'")
    with OldBroker() as old:
        transport = MqttTransport(f"mqtt://127.0.0.1:{old.port}/yard/sounds")
        spooled = SpooledSink(spool_of(tmp_path), transport, stop=Hasty())
        give(spooled, 1)
        eventually(lambda: not len(spooled._spool))
        spooled.close()
        old.shutdown()
    assert old.versions[-2:] == [5, 4]
    assert [topic for topic, _ in old.published] == ["yard/sounds/status", "yard/sounds", "yard/sounds/status"]


def test_nobody_is_told_of_a_listener_that_would_still_miss_commands() -> None:
    pytest.importorskip("paho.mqtt", reason="paho-mqtt is not installed; pip install 'clapedge[mqtt]'")
    with OldBroker() as slow:
        slow.answering.clear()
        transport = MqttTransport(f"mqtt://127.0.0.1:{slow.port}/yard/sounds")
        eventually(lambda: transport.connection.online or slow.subscribed)  # asked, it goes on in the older version
        assert (slow.subscribed, slow.published, transport.connection.online) == ([[]], [], False)
        slow.answering.set()
        eventually(lambda: transport.connection.online and slow.published)
        assert slow.published[0] == ("yard/sounds/status", b"online")
        transport.close()
        slow.shutdown()


def test_a_refused_connection_is_what_the_log_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    port = Broker(tmp_path).port
    reasons(MqttTransport(f"mqtt://127.0.0.1:{port}/"), tmp_path, caplog, "no connection: Connection refused")


@pytest.mark.parametrize("trusted", [False, True])
def test_a_web_server_with_an_authority_of_ones_own(own: Authority, *, trusted: bool) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with web_server(Handler, certificate=own.sign("web", "IP:127.0.0.1")) as address:
        if trusted:
            WebhookTransport(address, tls=TlsFiles(own.ca)).send("k", b"{}")
            return
        with pytest.raises(UndeliveredError, match='name the authority that signed it: ca="FILE"'):
            WebhookTransport(address).send("k", b"{}")


def test_a_file_that_holds_no_certificate_is_an_error_before_anything_is_read(own: Authority, tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("nothing")
    for tls in (TlsFiles(tmp_path / "none.pem"), TlsFiles(tmp_path / "missing.pem"), TlsFiles(own.ca, own.ca)):
        with pytest.raises(UsageError, match="PEM"):
            tls.context()
    words = ["listen", "-", "--rate", "16000", "-l", "siren", "--mqtt", "mqtt://host/", "--spool", str(tmp_path / "s")]
    with pytest.raises(UsageError, match="--ca is for mqtts://"):
        CliRunner().invoke(cli, [*words, "--ca", str(own.ca)], catch_exceptions=False)
