"""The installer on this machine: without a network, against damage, and interrupted wherever it can be."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.kit.installing import install, run, running
from tests.kit.making import PYTHON

UNIT = "clapedge-listen"
LONGEST = 60
"""Seconds that a real installation with its self-test may take."""

COMMANDS = "cat chmod cp dirname find flock grep ln mkdir mv readlink rm rmdir sed sha256sum sort sync uname"
"""Everything that the installer calls beside Python and systemctl."""

SHIM = """#!/bin/sh
echo >>{count}
[ {stop} -eq 0 ] || [ $(/usr/bin/wc -l <{count}) -lt {stop} ] || kill -9 0
exec {real} "$@"
"""
"""Stands before a command and kills the whole installation at one of the calls."""

pytestmark = [
    pytest.mark.filterwarnings("ignore:clapedge-demo is the built-in demo model"),
    pytest.mark.usefixtures("no_systemd"),
]


def test_the_scripts_are_plain_posix_shell(tiny_kits: dict[str, Path]) -> None:
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed")
    script = tiny_kits["1.0"] / "install.sh"
    done = subprocess.run([program, "--shell=sh", script], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_the_unit_is_one_that_systemd_understands(tiny_kits: dict[str, Path], tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / f"{UNIT}.service"
    text = (tiny_kits["1.0"] / "systemd" / unit.name).read_text()
    unit.write_text(re.sub(r"/opt/clapedge/bin/clapedge\b", "/bin/true", text))
    done = subprocess.run([program, "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if unit.name in line]) == (0, [])


def test_a_real_kit_installs_without_a_network_and_scores_as_recorded_in_a_minute(
    real_kit_files: Path, tmp_path: Path
) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-n", sys.executable, "--version"], check=False).returncode:
        pytest.skip("a namespace without a network needs unshare, and root")
    began = time.perf_counter()
    command = [unshare, "-n", str(real_kit_files / "install.sh"), "--prefix", str(tmp_path / "edge")]
    command += ["--python", sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - began <= LONGEST
    lines = done.stdout.splitlines()
    assert len(lines) == 12
    assert all(line.startswith("ok ") for line in lines)
    bundle = json.loads(
        subprocess.run(
            [tmp_path / "edge/bin/clapedge", "bundle", "info", "--json"], capture_output=True, check=True
        ).stdout
    )
    assert [each["path"] for each in bundle["files"]] == [
        "audio.fp32.onnx",
        "audio.int8.onnx",
        "pool.npz",
        "labels/demo-clips.npz",
    ]


@pytest.mark.parametrize(
    ("touched", "text"),
    [
        ("wheels/clapedge-1.0-py3-none-any.whl", "x"),
        ("bundle/audio.int8.onnx", "x"),
        ("bundle/manifest.json", " "),
        ("requirements.txt", "more==1\n"),
        ("selftest/expected.json", " "),
        ("wheels/smuggled-1.0-py3-none-any.whl", "x"),
        ("bundle/labels/more.npz", "x"),
    ],
)
def test_a_kit_that_was_touched_is_refused_and_nothing_is_installed(
    tiny_kits: dict[str, Path], tmp_path: Path, touched: str, text: str
) -> None:
    kit = tmp_path / "kit"
    shutil.copytree(tiny_kits["1.0"], kit)
    with (kit / touched).open("a") as stream:
        stream.write(text)
    done = run(kit, "--prefix", tmp_path / "edge")
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert not (tmp_path / "edge").exists()
    assert run(kit, "--verify").returncode == 1


def test_a_list_with_a_line_that_checks_nothing_is_refused(tiny_kits: dict[str, Path], tmp_path: Path) -> None:
    kit = tmp_path / "kit"
    shutil.copytree(tiny_kits["1.0"], kit)
    sums = (kit / "SHA256SUMS").read_text()
    (kit / "SHA256SUMS").write_text(re.sub(r"^.{32}", "", sums, count=1))
    done = run(kit, "--verify")
    assert done.returncode == 1
    assert "error: " in done.stderr


@pytest.mark.parametrize("name", ["bundle/more.onnx", "bundle/audio.int8.onnx"])
def test_a_kit_with_a_link_is_refused(tiny_kits: dict[str, Path], tmp_path: Path, name: str) -> None:
    kit = tmp_path / "kit"
    shutil.copytree(tiny_kits["1.0"], kit)
    shutil.copyfile(kit / "bundle/audio.int8.onnx", tmp_path / "elsewhere")
    (kit / name).unlink(missing_ok=True)
    (kit / name).symlink_to(tmp_path / "elsewhere")
    done = run(kit, "--verify")
    assert done.returncode == 1
    assert "unpack the archive again" in done.stderr


def test_a_kit_without_one_of_its_files_is_refused(tiny_kits: dict[str, Path], tmp_path: Path) -> None:
    kit = tmp_path / "kit"
    shutil.copytree(tiny_kits["1.0"], kit)
    (kit / "bundle/audio.int8.onnx").unlink()
    done = run(kit, "--prefix", tmp_path / "edge")
    assert (done.returncode, (tmp_path / "edge").exists()) == (1, False)
    assert "bundle/audio.int8.onnx" in done.stderr


def test_another_python_is_refused_by_its_version(tiny_kits: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "python3.99"
    other.write_text("#!/bin/sh\necho 3.99\n")
    other.chmod(0o755)
    done = run(tiny_kits["1.0"], "--prefix", tmp_path / "edge", "--python", other)
    assert done.returncode == 1
    assert f"is Python 3.99 and this kit is made for {PYTHON}" in done.stderr


def test_another_machine_is_refused(tiny_kits: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "uname").write_text("#!/bin/sh\necho riscv64\n")
    (tmp_path / "uname").chmod(0o755)
    done = run(tiny_kits["1.0"], "--prefix", tmp_path / "edge", "--python", sys.executable, path=tmp_path)
    assert done.returncode == 1
    assert "this machine is riscv64" in done.stderr


def test_an_upgrade_keeps_the_version_before_and_rolls_back_and_forth(
    tiny_kits: dict[str, Path], tmp_path: Path
) -> None:
    prefix = tmp_path / "edge"
    install(tiny_kits["1.0"], prefix)
    assert running(prefix) == "1.0"
    assert "no version before" in run(prefix / "current", "--rollback").stderr
    install(tiny_kits["2.0"], prefix)
    assert running(prefix) == "2.0"
    for version in ("1.0", "2.0"):
        assert run(prefix / "current", "--rollback").returncode == 0
        assert running(prefix) == version
    assert "installed already" in install(tiny_kits["2.0"], prefix)
    assert len(list((prefix / "versions").iterdir())) == 2


def test_a_version_that_fails_its_self_test_is_never_used(tiny_kits: dict[str, Path], tmp_path: Path) -> None:
    prefix = tmp_path / "edge"
    install(tiny_kits["1.0"], prefix)
    done = run(tiny_kits["2.0"], "--prefix", prefix, "--python", sys.executable, SELFTEST="3")
    assert (done.returncode, running(prefix)) == (1, "1.0")
    assert "nothing was changed" in done.stderr
    assert install(tiny_kits["2.0"], prefix, "--no-selftest", SELFTEST="3")
    assert running(prefix) == "2.0"


def shims(place: Path, stop: int) -> Path:
    """Write commands that kill the installation at one of their calls; 0 kills it never."""
    place.mkdir(exist_ok=True)
    (place / "count").unlink(missing_ok=True)
    reals = {name: shutil.which(name) for name in COMMANDS.split()}
    for name, real in {**reals, "stopping-python": sys.executable}.items():
        (place / name).write_text(SHIM.format(count=place / "count", stop=stop, real=real))
        (place / name).chmod(0o755)
    return place


def interrupted(kits: dict[str, Path], place: Path, stops: range) -> Iterator[tuple[int, str]]:
    """Upgrade again and again, killed at another command each time; yield the command's number and what runs then."""
    prefix, kept = place / "edge", place / "kept"
    install(kits["1.0"], prefix)
    shutil.copytree(prefix, kept, symlinks=True)
    for stop in stops:
        path = shims(place / "shims", stop)
        words = ("--prefix", prefix, "--python", path / "stopping-python")
        done = run(kits["2.0"], *words, path=path)
        assert done.returncode == -signal.SIGKILL, done.stderr
        yield stop, running(prefix)
        install(kits["2.0"], prefix)
        assert running(prefix) == "2.0"
        shutil.rmtree(prefix)
        shutil.copytree(kept, prefix, symlinks=True)


def test_an_upgrade_killed_at_any_command_leaves_a_version_that_works_and_can_be_done_again(
    tiny_kits: dict[str, Path], tmp_path: Path
) -> None:
    prefix = tmp_path / "edge"
    install(tiny_kits["1.0"], prefix)
    path = shims(tmp_path / "shims", 0)
    assert run(tiny_kits["2.0"], "--prefix", prefix, "--python", path / "stopping-python", path=path).returncode == 0
    calls = len((path / "count").read_text())
    assert calls > 40
    workers = 4

    def share(number: int) -> list[tuple[int, str]]:
        place = tmp_path / str(number)
        place.mkdir()
        return list(interrupted(tiny_kits, place, range(number + 1, calls + 1, workers)))

    with ThreadPoolExecutor(workers) as pool:
        found = [version for _, version in sorted(pair for part in pool.map(share, range(workers)) for pair in part)]
    assert len(found) == calls
    assert found == sorted(found)  # the old version, and from one command on the new one
    assert set(found) == {"1.0", "2.0"}


def test_the_unit_is_installed_started_and_removed(tiny_kits: dict[str, Path], tmp_path: Path, systemd: Path) -> None:
    prefix = tmp_path / "edge"
    settings = tmp_path / "listen.env"
    units = {"CLAPEDGE_UNITS": str(systemd), "CLAPEDGE_SETTINGS": str(settings)}
    assert "enabled, not started" in install(tiny_kits["1.0"], prefix, "--service", path=systemd, **units)
    settings.write_text("LISTEN=mic --labels home\n")
    (systemd / "calls").unlink()
    install(tiny_kits["1.0"], prefix, "--service", path=systemd, **units)
    unit = (systemd / f"{UNIT}.service").read_text()
    assert f"ExecStart={prefix}/bin/clapedge listen" in unit
    assert "/opt/clapedge" not in unit
    calls = (systemd / "calls").read_text().splitlines()
    assert [call for call in calls if call.startswith(("daemon", "enable", "start "))] == [
        "daemon-reload",
        f"enable {UNIT}",
        f"start {UNIT}",
    ]
    done = run(prefix / "current", "--uninstall", path=systemd, **units)
    assert done.returncode == 0, done.stderr
    assert not prefix.exists()
    assert not (systemd / f"{UNIT}.service").exists()
    assert f"disable --now {UNIT}" in (systemd / "calls").read_text()


def test_a_service_that_does_not_come_up_again_goes_back(
    tiny_kits: dict[str, Path], tmp_path: Path, systemd: Path
) -> None:
    prefix = tmp_path / "edge"
    install(tiny_kits["1.0"], prefix, path=systemd)
    (systemd / "restarted").unlink()
    (systemd / "broken").touch()
    done = run(tiny_kits["2.0"], "--prefix", prefix, "--python", sys.executable, path=systemd)
    assert (done.returncode, running(prefix)) == (1, "1.0")
    assert "does not run with the new version; went back to versions/1.0-" in done.stderr


def test_uninstalling_leaves_what_it_did_not_bring(tiny_kits: dict[str, Path], tmp_path: Path) -> None:
    prefix = tmp_path / "edge"
    install(tiny_kits["1.0"], prefix)
    (prefix / "notes.txt").write_text("mine")
    assert run(prefix / "current", "--uninstall").returncode == 0
    assert [path.name for path in prefix.iterdir()] == ["notes.txt"]
    assert "call PREFIX/current/install.sh" in run(tiny_kits["1.0"], "--uninstall").stderr
