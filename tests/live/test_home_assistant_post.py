"""A post as it is run, and Home Assistant as its broker sees it."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import soundfile
from tests.live.brokers import Broker
from tests.live.certificates import authority
from tests.live.house import House
from tests.live.staging import PATIENCE, RATE, eventually
from tests.live.test_broker_reasons import encrypted

from clapedge.arrays import Float32Array

COMMAND = (sys.executable, "-m", "clapedge.cli", "listen")


@pytest.fixture
def settings(tmp_path: Path, planted: Float32Array, label_file: str) -> Callable[[str], Path]:
    """Return what writes settings of a source that lasts, for a broker's address."""
    soundfile.write(tmp_path / "planted.wav", planted, RATE)
    shutil.copy(label_file, tmp_path / "own.npz")

    def write(head: str) -> Path:
        path = tmp_path / "post.toml"
        source = (
            f"source = {json.dumps(str(tmp_path / 'planted.wav'))}\nlabels = {json.dumps(str(tmp_path / 'own.npz'))}"
        )
        path.write_text(f"{head}\nspeed = 0.2\n[sources.yard]\n{source}\n", encoding="utf-8")
        return path

    return write


@contextmanager
def running(command: Sequence[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command, which is killed at the end; all that it writes goes to a file."""
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_post_is_switched_by_the_house_and_stays_so_when_it_is_killed(
    settings: Callable[[str], Path], tmp_path: Path
) -> None:
    own = authority(tmp_path / "authority")
    broker = encrypted(tmp_path, own.sign("broker", "IP:127.0.0.1"), "allow_anonymous true")
    broker.start()
    house = House(broker.port, own.ca)
    head = f'home_assistant = "mqtts://127.0.0.1:{broker.port}"\nca = {json.dumps(str(own.ca))}'
    command = (*COMMAND, "--config", str(settings(f'{head}\nselect_labels = ["home", "missing.toml"]')))
    log = tmp_path / "log"
    with running(command, log) as process:
        eventually(lambda: house.has("/yard/label/siren", "OFF"))
        base = house.device("yard")["components"]["labels"]["command_topic"].removesuffix("/labels/set")
        house.say(f"{base}/labels/set", "missing.toml")
        eventually(lambda: "yard goes on with the labels of its settings" in log.read_text())
        house.say(f"{base}/labels/set", "home")
        eventually(lambda: house.has("/yard/label/knocking", "OFF") and house.has("/yard/label/siren", ""))
        house.say(f"{base}/listening/set", "OFF")
        eventually(lambda: house.state("yard").get("listening") == "OFF")
        process.kill()
        eventually(lambda: house.has("/status", "offline"))
    with running(command, log) as process:
        eventually(lambda: house.has("/status", "online"))
        eventually(lambda: house.has("/yard/availability", "online") and house.has("/yard/label/knocking", "OFF"))
        assert house.state("yard")["listening"] == "OFF"
        assert house.state("yard")["labels"] == "home"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    house.close()
    broker.kill()
    assert "all of it" in log.read_text()


def test_one_source_needs_no_file_of_settings(
    settings: Callable[[str], Path], forgetful_broker: Broker, house: House, tmp_path: Path
) -> None:
    settings("")
    words = ("--labels", str(tmp_path / "own.npz"), "--speed", "0", "--home-assistant-state", str(tmp_path / "ha.json"))
    address = f"mqtt://127.0.0.1:{forgetful_broker.port}"
    command = (*COMMAND, str(tmp_path / "planted.wav"), *words, "--home-assistant", address)
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 0, result.stderr
    assert {json.loads(line)["label"] for line in result.stdout.splitlines()} >= {"siren", "smoke alarm"}
    eventually(lambda: any(topic.endswith("/event") for topic in house.topics))
    assert house.device(str(tmp_path / "planted.wav"))
