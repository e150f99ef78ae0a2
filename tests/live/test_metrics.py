"""Metrics for Prometheus, and word to systemd."""

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import msgspec
import pytest
import soundfile
from prometheus_client.parser import text_string_to_metric_families
from tests.live.staging import RATE, YARD, eventually

from clapedge.arrays import Float32Array
from clapedge.errors import UsageError
from clapedge.live.metrics import COUNTERS, TIMES, MetricsServer
from clapedge.live.watchdog import Watchdog

HALL = msgspec.structs.replace(YARD, source="hall", state="ended", events={}, level=None, messages_waiting={})


@dataclass
class Scraped:
    """What a scrape gives: the text, and its samples by name and labels."""

    text: str
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float:
        """Return a sample."""
        return self.samples[f"clapedge_listen_{name}", frozenset(labels.items())]


def scrape(server: MetricsServer) -> Scraped:
    """Ask for metrics as Prometheus does."""
    with urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    samples = {(one.name, frozenset(one.labels.items())): one.value for each in families for one in each.samples}
    return Scraped(text, samples)


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    """Serve the metrics of two sources."""
    with MetricsServer("0", lambda: {"yard": YARD, "hall": HALL}) as one:
        yield one


def test_each_figure_of_the_status_is_a_metric_with_its_source(server: MetricsServer) -> None:
    found = scrape(server)
    for name, (field, _) in COUNTERS.items():
        assert found.value(f"{name}_total", source="yard") == getattr(YARD, field)
    outcomes = [found.value("windows_total", source="yard", outcome=each) for each in ("embedded", "gated", "asleep")]
    assert outcomes == [70, 5, 4]
    assert found.value("events_total", source="yard", label='a "quoted" \\ siren\n') == 2
    assert (found.value("up", source="yard"), found.value("up", source="hall")) == (1, 0)
    assert found.value("samples_waiting", source="yard") == 100
    assert found.value("messages_waiting", source="yard", receiver="mqtt://broker") == 7
    assert found.value("laeq_decibels", source="yard") == 41.2
    assert found.value("lafmax_decibels", source="yard") == 63.9
    assert found.value("latency_seconds", source="yard", quantile="0.95") == 0.15
    assert not any(dict(labels).get("source") == "hall" for name, labels in found.samples if "laeq" in name)
    assert not any("event_delay" in name for name, _ in found.samples), "nothing was measured"
    assert all(f"clapedge_listen_{name}" in found.text for name in TIMES)
    assert "process_cpu_seconds_total" in found.text


def test_promtool_finds_nothing(server: MetricsServer) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on this machine; Debian's package prometheus brings it")
    own = "\n".join(line for line in scrape(server).text.splitlines() if "clapedge" in line) + "\n"
    checked = subprocess.run([promtool, "check", "metrics"], input=own, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_dashboard_and_the_alerts_ask_for_metrics_that_listening_has(server: MetricsServer) -> None:
    docker = Path(__file__).parents[2] / "docker"
    dashboard = json.loads((docker / "grafana" / "dashboards" / "listen.json").read_text(encoding="utf-8"))
    asked = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    asked += (docker / "alerts.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:clapedge_listen|process)_\w+", asked))
    assert len(named) > 10
    assert named <= {name for name, _ in scrape(server).samples}


@pytest.mark.parametrize("address", ["", "x", "127.0.0.1", "127.0.0.1:x", "70000", "-1"])
def test_what_is_no_address_is_said(address: str) -> None:
    with pytest.raises(UsageError, match="give a port, such as 9464"):
        MetricsServer(address, dict)


def test_a_port_that_is_taken_is_said(server: MetricsServer) -> None:
    with pytest.raises(UsageError, match="name another port"):
        MetricsServer(f"127.0.0.1:{server.port}", dict)


def test_the_command_gives_metrics_while_it_listens(planted: Float32Array, label_file: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "yard.wav", planted, RATE)
    words = [str(tmp_path / "yard.wav"), "--labels", label_file, "--metrics", "0", "--levels"]
    command = [sys.executable, "-m", "clapedge.cli", "listen", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        port = next(int(line.rpartition(" ")[2]) for line in process.stderr if "metrics at port" in line)

        def windows() -> bool:
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                lines = answer.read().decode().splitlines()
            heard = [line for line in lines if line.startswith("clapedge_listen_windows_total") and "embedded" in line]
            return bool(heard) and float(heard[0].rpartition(" ")[2]) > 0

        eventually(windows)
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Stand in for systemd."""
    if not hasattr(socket, "AF_UNIX"):
        pytest.skip("this system has no Unix sockets")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield receiver


def test_systemd_is_told_of_progress_and_not_of_a_listener_that_hangs(systemd: socket.socket) -> None:
    watchdog = Watchdog()
    watchdog.ready()
    assert systemd.recv(99) == b"READY=1"
    assert watchdog.look({"yard": YARD})
    assert systemd.recv(99) == b"WATCHDOG=1"
    assert not watchdog.look({"yard": YARD}), "sound waits, and none was heard"
    systemd.settimeout(0.05)
    with pytest.raises(TimeoutError):
        systemd.recv(99)
    assert watchdog.look({"yard": msgspec.structs.replace(YARD, samples_heard=801)})
    assert watchdog.look({"yard": msgspec.structs.replace(YARD, samples_heard=801, samples_waiting=0)})
    assert watchdog.look({"hall": HALL, "yard": msgspec.structs.replace(YARD, state="ended")})


def test_without_systemd_nothing_is_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for path in ("", str(tmp_path / "none"), "@nobody"):
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        watchdog = Watchdog()
        watchdog.ready()
        assert watchdog.look({"yard": YARD})


def test_the_command_tells_systemd_of_its_start(
    planted: Float32Array, label_file: str, tmp_path: Path, systemd: socket.socket
) -> None:
    soundfile.write(tmp_path / "yard.wav", planted, RATE)
    post = tmp_path / "post.toml"
    post.write_text(f'labels = "{label_file}"\nspeed = 0.0\n[sources.yard]\nsource = "{tmp_path}/yard.wav"\n')
    for words in ([str(tmp_path / "yard.wav"), "--labels", label_file, "--speed", "0"], ["--config", str(post)]):
        subprocess.run([sys.executable, "-m", "clapedge.cli", "listen", *words], check=True, capture_output=True)
        assert systemd.recv(99) == b"READY=1"
