"""An installed device over the years: damage, full and read-only disks, two installers at once, other labels."""

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.kit.installing import install, run, running

pytestmark = [
    pytest.mark.filterwarnings("ignore:clapedge-demo is the built-in demo model"),
    pytest.mark.usefixtures("no_systemd"),
]


def again(kit: Path, prefix: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Install a kit, which may fail."""
    return run(kit, "--prefix", prefix, "--python", sys.executable, path=path)


@pytest.mark.parametrize("damage", ["changed", "missing", "no python"])
def test_a_damaged_installation_is_repaired_by_its_own_kit(
    tiny_kits: dict[str, Path], tmp_path: Path, damage: str
) -> None:
    prefix = tmp_path / "edge"
    install(tiny_kits["1.0"], prefix)
    install(tiny_kits["2.0"], prefix)
    assert "installed already, and whole" in install(tiny_kits["2.0"], prefix)
    model = (prefix / "current").resolve() / "bundle/audio.int8.onnx"
    if damage == "changed":
        model.write_bytes(model.read_bytes()[:-1] + b"x")
    elif damage == "missing":
        model.unlink()
    else:
        (prefix / "current/venv/bin/python").unlink()
    said = install(tiny_kits["2.0"], prefix)
    assert "is damaged; the kit is installed anew" in said
    assert damage == "no python" or "audio.int8.onnx" in said
    packed = (tiny_kits["2.0"] / "bundle/audio.int8.onnx").read_bytes()
    assert ((prefix / "current").resolve() / "bundle/audio.int8.onnx").read_bytes() == packed
    assert "installed already, and whole" in install(tiny_kits["2.0"], prefix)
    assert len(list((prefix / "versions").iterdir())) == 2, "the damaged copy is gone"
    assert run(prefix / "current", "--rollback").returncode == 0
    assert running(prefix) == "1.0", "the version before is not the damaged copy"


def test_a_damaged_version_is_not_gone_back_to(tiny_kits: dict[str, Path], tmp_path: Path) -> None:
    prefix = tmp_path / "edge"
    install(tiny_kits["1.0"], prefix)
    (prefix / "current/bundle/audio.int8.onnx").write_bytes(b"x")
    install(tiny_kits["2.0"], prefix)
    done = run(prefix / "current", "--rollback")
    assert (done.returncode, running(prefix)) == (1, "2.0")
    assert "the version before is damaged; install its kit again" in done.stderr


@pytest.mark.parametrize("file", ["broken", "dead"])
def test_an_upgrade_that_does_not_run_leaves_what_was_there_and_says_why(
    tiny_kits: dict[str, Path], tmp_path: Path, systemd: Path, file: str
) -> None:
    prefix = tmp_path / "edge"
    install(tiny_kits["1.0"], prefix, path=systemd)
    install(tiny_kits["2.0"], prefix, path=systemd)
    assert run(prefix / "current", "--rollback", path=systemd).returncode == 0
    links = (prefix / "current", prefix / "previous")
    before = {path.name: str(path.readlink()) for path in links}
    shutil.rmtree(prefix / before["previous"])  # so that 2.0 is new
    (systemd / "restarted").unlink()
    (systemd / file).touch()
    done = again(tiny_kits["2.0"], prefix, path=systemd)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        f"error: clapedge-listen does not run with the new version; went back to {before['current']}"
    )
    assert "which does not run either. See: journalctl -u clapedge-listen" in last
    assert {path.name: str(path.readlink()) for path in links} == before
    assert [path.name for path in (prefix / "versions").iterdir()] == [before["current"].removeprefix("versions/")]


def test_a_first_installation_that_does_not_run_leaves_nothing(
    tiny_kits: dict[str, Path], tmp_path: Path, systemd: Path
) -> None:
    (systemd / "dead").touch()
    done = again(tiny_kits["1.0"], tmp_path / "edge", path=systemd)
    assert done.returncode == 1
    assert "which was removed; there was none before" in done.stderr
    assert not list((tmp_path / "edge/versions").iterdir())
    assert not (tmp_path / "edge/current").is_symlink()


@contextmanager
def locked(prefix: Path) -> Iterator[None]:
    """Hold the lock of an installation, as a second installer would."""
    with (prefix / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_whatever_changes_an_installation_takes_its_lock(tiny_kits: dict[str, Path], tmp_path: Path) -> None:
    prefix = tmp_path / "edge"
    install(tiny_kits["1.0"], prefix)
    install(tiny_kits["2.0"], prefix)
    (tmp_path / "set.npz").write_text("fit")
    actions = ("--rollback",), ("--uninstall",), ("--labels", tmp_path / "set.npz")
    with locked(prefix):
        refused = [again(tiny_kits["1.0"], prefix), *(run(prefix / "current", *words) for words in actions)]
    assert {done.returncode for done in refused} == {1}
    assert all("another installation into" in done.stderr for done in refused)
    assert running(prefix) == "2.0"


DISK = """
import shutil, types
shutil.disk_usage = lambda _: types.SimpleNamespace(free={free})
"""


def test_the_room_is_checked_before_anything_is_written(tiny_kits: dict[str, Path], tmp_path: Path) -> None:
    prefix = tmp_path / "edge"
    install(tiny_kits["1.0"], prefix)
    (tmp_path / "sitecustomize.py").write_text(DISK.format(free=10**6))
    words = ("--prefix", prefix, "--python", sys.executable)
    done = run(tiny_kits["2.0"], *words, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "1 MB are free, and " in done.stderr
    assert "error: there is not enough room" in done.stderr
    assert (running(prefix), len(list((prefix / "versions").iterdir()))) == ("1.0", 1)


def test_what_a_full_disk_interrupts_leaves_nothing_and_is_an_error(tiny_kits: dict[str, Path], tmp_path: Path) -> None:
    prefix = tmp_path / "edge"
    install(tiny_kits["1.0"], prefix)
    place = tmp_path / "full"
    place.mkdir()
    (place / "cp").write_text("#!/bin/sh\necho 'cp: No space left on device' >&2\nexit 1\n")
    (place / "cp").chmod(0o755)
    done = again(tiny_kits["2.0"], prefix, path=place)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: a command failed, see above; what ran before runs still"
    assert (running(prefix), len(list((prefix / "versions").iterdir()))) == ("1.0", 1)


def test_a_read_only_disk_is_named(tiny_kits: dict[str, Path], tmp_path: Path) -> None:
    prefix = tmp_path / "edge"
    install(tiny_kits["1.0"], prefix)
    unshare = shutil.which("unshare")
    script = f'mount --bind "{prefix}" "{prefix}" && mount -o remount,ro,bind "{prefix}" && exec "$@"'
    command = [str(unshare), "-m", "sh", "-c", script, "sh"]
    if unshare is None or subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a read-only mount needs unshare, and root")
    for words in (
        [tiny_kits["2.0"] / "install.sh", "--prefix", prefix, "--python", sys.executable],
        [prefix / "current/install.sh", "--uninstall"],
        [prefix / "current/install.sh", "--rollback"],
    ):
        done = subprocess.run([*command, *map(str, words)], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert f"error: {prefix} cannot be written (a read-only or full disk?)" in done.stderr
    assert running(prefix) == "1.0"


def test_other_labels_are_copied_once_they_are_known_to_fit_and_upgrades_keep_them(
    tiny_kits: dict[str, Path], tmp_path: Path, systemd: Path
) -> None:
    prefix = tmp_path / "edge"
    install(tiny_kits["1.0"], prefix, path=systemd)
    for name, text in (("words.npz", "fit"), ("other.npz", "of another model"), ("two words.npz", "fit")):
        (tmp_path / name).write_text(text)
    done = run(prefix / "current", "--labels", tmp_path / "words.npz", path=systemd)
    assert done.returncode == 0, done.stderr
    assert f"use --labels {prefix}/labels/words.npz" in done.stderr
    assert "restart clapedge-listen" in (systemd / "calls").read_text()
    for name, complaint in (
        ("other.npz", "they are of another model"),
        ("two words.npz", "rename it"),
        ("no", "no file"),
    ):
        done = run(prefix / "current", "--labels", tmp_path / name, path=systemd)
        assert done.returncode == 1
        assert complaint in done.stderr
    install(tiny_kits["2.0"], prefix, path=systemd)
    assert [path.name for path in (prefix / "labels").iterdir()] == ["words.npz"]
    (prefix / "labels/words.npz").write_text("of another model")
    shutil.rmtree((prefix / "previous").resolve())
    done = again(tiny_kits["1.0"], prefix, path=systemd)
    assert done.returncode == 1
    assert "words.npz does not fit this kit" in done.stderr
    assert running(prefix) == "2.0"


def test_the_labels_of_a_real_kit_are_scored_before_they_are_used(real_kit_files: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "edge"
    install(real_kit_files, prefix, "--no-selftest")
    labels = real_kit_files / "bundle/labels/demo-clips.npz"
    done = run(prefix / "current", "--labels", labels)
    assert done.returncode == 0, done.stderr
    (tmp_path / "words.txt").write_text("siren\n")
    done = run(prefix / "current", "--labels", tmp_path / "words.txt")
    assert done.returncode == 1
    assert "does not fit the installed model" in done.stderr
    assert [path.name for path in (prefix / "labels").iterdir()] == ["demo-clips.npz"]
