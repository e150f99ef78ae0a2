"""The real Home Assistant finds a post, and finds it again after each of the three was started anew.

Needs its program, which wants an environment of its own (docs/home-assistant.md says how it is installed):
`HASS=/path/to/bin/hass pytest tests/live/test_real_home_assistant.py`. Home Assistant 2024.11 is the first that knows
devices by MQTT.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import soundfile
from tests.live import staging
from tests.live.brokers import Broker
from tests.live.staging import RATE, eventually

from clapedge.arrays import Float32Array

HASS = os.environ.get("HASS")

pytestmark = pytest.mark.skipif(HASS is None, reason="HASS does not name the program of Home Assistant")

CONFIGURATION = """\
http:
  server_host: 127.0.0.1
  server_port: {port}
api:
config:
onboarding:
"""


class HomeAssistant:
    """A Home Assistant that nobody has used yet, and its HTTP interface."""

    def __init__(self, directory: Path) -> None:
        """Write its configuration."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        directory.mkdir()
        (directory / "configuration.yaml").write_text(CONFIGURATION.format(port=port))
        self._command = (str(HASS), "-c", str(directory), "--skip-pip")
        self._log = directory / "out.log"
        self._port, self._token = port, ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return once it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        eventually(self._answers)

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)

    def begin(self, broker: int) -> None:
        """Make its first user, and name the broker: all that a person has to do."""
        client = f"http://127.0.0.1:{self._port}/"
        words = {"client_id": client, "name": "me", "username": "me", "password": "long enough", "language": "en"}
        code = self.call("onboarding/users", words)["auth_code"]
        form = urlencode({"grant_type": "authorization_code", "code": code, "client_id": client})
        answer = self._request("/auth/token", form, "application/x-www-form-urlencoded")
        self._token = answer["access_token"]  # for half an hour
        flow = self.call("config/config_entries/flow", {"handler": "mqtt"})["flow_id"]
        made = self.call(f"config/config_entries/flow/{flow}", {"broker": "127.0.0.1", "port": broker})
        assert made["type"] == "create_entry"

    def states(self) -> dict[str, str]:
        """Return the states of all entities of the post."""
        ours = ("yard", "hall", "bell", "clapedge")
        return {
            each["entity_id"]: each["state"]
            for each in self.call("states")
            if any(word in each["entity_id"] for word in ours)
        }

    def serve(self, service: str, **words: str) -> None:
        """Call a service."""
        self.call(f"services/{service}", words)

    def call(self, path: str, words: Mapping[str, object] | None = None) -> Any:  # noqa: ANN401 - JSON
        """Ask, or tell."""
        data = None if words is None else json.dumps(words)
        return self._request(f"/api/{path}", data, "application/json")

    def _request(self, path: str, data: str | None, kind: str) -> Any:  # noqa: ANN401 - JSON
        """Return the answer to a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        headers = {"Content-Type": kind, **({"Authorization": f"Bearer {self._token}"} if self._token else {})}
        with closing(connection):
            connection.request("GET" if data is None else "POST", path, data, headers)
            answer = connection.getresponse()
            content = answer.read()
        assert answer.status in {200, 201}, content
        return json.loads(content)

    def _answers(self) -> bool:
        """Return whether it is up."""
        try:
            if self._token:
                return bool(self.call("config")["state"] == "RUNNING")
            self.call("onboarding")
        except (OSError, http.client.HTTPException):
            return False
        return True


def test_home_assistant_shows_a_post_that_it_was_told_nothing_of(
    forgetful_broker: Broker, tmp_path: Path, planted: Float32Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "PATIENCE", 60.0)  # the time in which entities are to be there
    soundfile.write(tmp_path / "planted.wav", planted, RATE)
    source = f"source = {json.dumps(str(tmp_path / 'planted.wav'))}\n"
    head = f'home_assistant = "mqtt://127.0.0.1:{forgetful_broker.port}"\nspeed = 0.05\nlabels = "home"\n'
    (tmp_path / "post.toml").write_text(f"{head}[sources.yard]\n{source}[sources.hall]\n{source}")
    command = (sys.executable, "-m", "clapedge.cli", "listen", "--config", str(tmp_path / "post.toml"))
    house = HomeAssistant(tmp_path / "house")
    with ExitStack() as stack:
        stack.callback(house.stop)
        house.start()
        house.begin(forgetful_broker.port)

        def post() -> "subprocess.Popen[bytes]":
            started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(started.wait)
            stack.callback(started.kill)
            return started

        process = post()
        eventually(lambda: house.states().get("binary_sensor.yard_dog_barking") == "off")
        parts = ("sensor.{}_last_event", "binary_sensor.{}_overload", "switch.{}_listening", "select.{}_labels")
        shown = {part.format(name) for part in parts for name in ("yard", "hall")}
        eventually(lambda: {*shown, "binary_sensor.hall_smoke_alarm"} <= house.states().keys())
        house.serve("switch/turn_off", entity_id="switch.yard_listening")
        house.serve("select/select_option", entity_id="select.hall_labels", option="city")
        eventually(lambda: house.states().get("binary_sensor.hall_siren") == "off")
        assert "binary_sensor.hall_dog_barking" not in house.states()

        def all_there() -> bool:
            found = house.states()
            switched = found.get("switch.yard_listening"), found.get("select.hall_labels")
            return switched == ("off", "city") and "unavailable" not in found.values()

        eventually(all_there)
        forgetful_broker.kill()
        eventually(lambda: house.states()["switch.yard_listening"] == "unavailable")
        forgetful_broker.start()
        eventually(all_there)
        house.stop()
        house.start()
        eventually(all_there)
        process.kill()
        eventually(lambda: house.states()["switch.yard_listening"] == "unavailable")
        post()
        eventually(all_there)
        _add_alarms(tmp_path, source)
        eventually(lambda: house.states().get("event.bell_alarm", "unknown") not in {"unknown", "unavailable"})


def _add_alarms(directory: Path, source: str) -> None:
    """Give the post another source, with a rule for alarms."""
    (directory / "alarms.toml").write_text("[loud]\nmin_windows = 2\n")
    bell = f"{source}speed = 4\nalarms = {json.dumps(str(directory / 'alarms.toml'))}\n"
    with (directory / "post.toml").open("a") as file:
        file.write(f"[sources.bell]\n{bell}")
