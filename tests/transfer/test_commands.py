"""`clapedge bundle pull` and `push` as a user runs them, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.hub import Hub
from tests.transfer.conftest import NAME, SOURCE

from clapedge import Bundle
from clapedge.cache_dir import CACHE_VARIABLE
from clapedge.model.bundle import demo_directory


@pytest.fixture
def environment(hub: Hub, tmp_path: Path) -> dict[str, str]:
    """Return the environment of a process that talks to the stand-in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "CLAPEDGE_"))}
    own = hub.environment(tmp_path / "home", token=hub.token)
    return {**kept, **own, CACHE_VARIABLE: str(tmp_path / "cache")}


def run(environment: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command line."""
    command = [sys.executable, "-m", "clapedge.cli", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False, text=True)
    assert "Traceback" not in done.stderr
    return done


def test_somebody_publishes_a_bundle_once_and_each_device_fetches_what_it_runs(
    hub: Hub, environment: dict[str, str], tmp_path: Path
) -> None:
    pushed = run(environment, "bundle", "push", demo_directory(), SOURCE, "--message", "first")
    assert pushed.returncode == 0, pushed.stderr
    assert f"clapedge bundle pull {SOURCE}@" in pushed.stdout
    listed = run(environment, "bundle", "pull", SOURCE, "--variant", "int8", "--list")
    assert [line.split() for line in listed.stdout.splitlines()[:2]] == [
        ["fetch", "4.3", "MB", "audio.int8.onnx"],
        ["fetch", "1.7", "MB", "text.int8.onnx"],
    ]
    assert "leave      11.0 MB  audio.fp32.onnx" in listed.stdout
    manifest = Bundle.open(demo_directory()).manifest
    wanted = [file for file in manifest.files if file.variant != "fp32"]
    size = sum(file.bytes for file in wanted) / 1e6
    assert listed.stdout.endswith(f"{size:.1f} MB of clapedge-demo to fetch\n")
    assert not (tmp_path / "cache").exists()
    pulled = run(environment, "bundle", "pull", SOURCE, "--variant", "int8")
    assert pulled.returncode == 0, pulled.stderr
    assert f"{len(wanted)} files, {size:.1f} MB, as the manifest says" in pulled.stdout
    assert "fetching audio.int8.onnx, 4.3 MB" in pulled.stderr
    hub.stop()
    clip = demo_directory().parent / "demo_clips" / "siren.flac"
    scored = run(environment, "score", clip, "-l", "siren", "-l", "rain", "--bundle", SOURCE, "--format", "jsonl")
    assert scored.returncode == 0, scored.stderr
    assert manifest.spaces["int8"] in scored.stdout
    other = run(environment, "score", clip, "-l", "siren", "--bundle", SOURCE, "--precision", "fp32")
    assert other.returncode == 3
    assert "export or pull it again with that part" in other.stderr


def test_a_command_fetches_the_bundle_that_it_names_and_says_so(hub: Hub, environment: dict[str, str]) -> None:
    hub.add(NAME, demo_directory())
    done = run(environment, "bundle", "info", SOURCE)
    assert done.returncode == 0, done.stderr
    assert "is not on this machine yet" in done.stderr
    assert "clapedge-demo" in done.stdout
    again = run({**environment, "HF_HUB_OFFLINE": "1"}, "bundle", "verify", SOURCE)
    assert again.returncode == 0
    assert "fetching" not in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        ((SOURCE,), 3, "does not exist, or is private"),
        (("nothing.tar.gz", "-o", "out"), 3, "nothing.tar.gz does not exist"),
        (("nothing.tar.gz",), 2, "--output DIR"),
        (("http://example.org/kit.tar.gz", "-o", "out"), 2, "is not encrypted"),
        ((SOURCE, "--sha256", "abc"), 2, "is not an archive"),
    ],
)
def test_what_goes_wrong_is_one_line(
    environment: dict[str, str], tmp_path: Path, arguments: tuple[str, ...], code: int, complaint: str
) -> None:
    command = [sys.executable, "-m", "clapedge.cli", "bundle", "pull", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, check=False, text=True, cwd=tmp_path)
    assert done.returncode == code
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_list_of_an_archive_behind_a_url_is_its_size(hub: Hub, environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "kit.tar.gz").write_bytes(b"x" * 2_500_000)
    hub.add("web/site", tmp_path / "web")
    (entry,) = hub.repositories["web/site"]["main"].files.values()
    done = run(environment, "bundle", "pull", f"{hub.url}/cdn/{entry.sha256}?name=kit.tar.gz", "--list")
    assert done.stdout.endswith("one archive of 2.5 MB, which is fetched as a whole\n")
