"""Checkpoints from the hub, over a stand-in on loopback with the hub's own routes."""

import logging
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import run

import pytest
import torch
from huggingface_hub import HfApi, constants, snapshot_download
from tests.hub import Access, Hub
from transformers import ClapModel

from clapedge.errors import ModelError
from clapedge_export.load import load_checkpoint

NAME = "someone/small"
WEIGHTS = "model.safetensors"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve a hub that this process talks to, with a cache of its own."""
    with Hub() as started:
        started.use(monkeypatch, tmp_path / "cache")
        yield started


@pytest.fixture
def commit(hub: Hub, fused_directory: Path) -> str:
    """Put the small checkpoint on the hub, and return its commit."""
    return hub.add(NAME, fused_directory)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hub's library try again at once, and keep what it has after each 10 kB instead of 10 MB."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)


def ranges(hub: Hub) -> list[str | None]:
    """Return the ranges of the large file that were asked for."""
    return [one.range for one in hub.requests if one.path.startswith("/cdn/")]


def test_what_is_pushed_to_the_stand_in_is_what_is_downloaded_again(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {"README.md": b"---\nlicense: mit\n---\n", "audio.onnx": b"x" * 100_000, "labels/kitchen.npz": b"y" * 99}
    for name, content in contents.items():
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_bytes(content)
    hub.use(monkeypatch, tmp_path / "cache", token=hub.token)
    HfApi().create_repo("someone/thing")
    commit = HfApi().upload_folder(repo_id="someone/thing", folder_path=tmp_path / "source").oid
    directory = Path(snapshot_download("someone/thing"))
    assert directory.name == commit
    assert {name: (directory / name).read_bytes() for name in contents} == contents
    signed = [one for one in hub.requests if one.path.startswith(("/cdn/", "/upload/"))]
    assert {one.token for one in signed} == {None}


@pytest.mark.parametrize("weights", [WEIGHTS, "pytorch_model.bin"])
def test_weights_of_both_formats_are_downloaded_once(
    tmp_path: Path,
    hub: Hub,
    fused_directory: Path,
    fused_model: ClapModel,
    weights: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Path(shutil.copytree(fused_directory, tmp_path / "source"))
    (source / "tf_model.h5").write_bytes(b"of no use")
    if weights != WEIGHTS:
        (source / WEIGHTS).unlink()
    # beside safetensors it is not fetched
    torch.save(fused_model.state_dict(), source / "pytorch_model.bin")
    commit = hub.add(NAME, source)
    checkpoint = load_checkpoint(NAME)
    assert (checkpoint.name, checkpoint.revision) == (NAME, commit)
    assert torch.equal(checkpoint.model.logit_scale_a, fused_model.logit_scale_a)
    names = {"config.json", "preprocessor_config.json", "tokenizer.json", "README.md", weights}
    assert sorted(hub.downloads()) == sorted(names)
    hub.requests.clear()
    load_checkpoint(NAME)
    assert hub.downloads() == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load_checkpoint(NAME).revision == commit


@pytest.mark.usefixtures("commit", "impatient")
def test_a_download_that_breaks_goes_on_where_it_stopped(hub: Hub) -> None:
    hub.cuts[WEIGHTS] = [100_000]
    load_checkpoint(NAME)
    assert ranges(hub) == [None, "bytes=100000-"]


@pytest.mark.usefixtures("commit", "impatient")
def test_a_download_that_keeps_breaking_is_given_up_and_keeps_the_files_that_arrived(hub: Hub) -> None:
    hub.cuts[WEIGHTS] = [100_000] + [0] * 9
    with pytest.raises(ModelError, match=rf"{NAME} cannot be downloaded: .*; run it again: files that have arrived"):
        load_checkpoint(NAME)
    hub.cuts.clear()
    hub.requests.clear()
    assert load_checkpoint(NAME).name == NAME
    assert hub.downloads() == [WEIGHTS]


@pytest.mark.usefixtures("commit")
@pytest.mark.parametrize("file", [WEIGHTS, "tokenizer.json"], ids=["large file", "small file"])
def test_a_file_with_a_wrong_hash_is_refused_and_not_kept(hub: Hub, file: str) -> None:
    hub.lies.add(file)
    for _ in range(2):
        with pytest.raises(ModelError, match=rf"{file} arrived with the hash \w+… instead of \w+…, and was removed"):
            load_checkpoint(NAME)
    hub.lies.clear()
    assert load_checkpoint(NAME).name == NAME
    assert hub.downloads().count(file) == 3


@pytest.mark.usefixtures("commit")
@pytest.mark.parametrize(
    ("access", "token", "message"),
    [
        ("private", None, "no such model, or it is private; check its name, or set HF_TOKEN"),
        ("private", "hf_wrong", "does not accept the token; renew it"),
        ("gated", None, "access has to be granted; ask for it on the model's page, and set HF_TOKEN"),
        ("gated", "hf_wrong", "does not accept the token; renew it"),
    ],
)
def test_a_token_that_is_missing_or_wrong_is_named_with_its_fix(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, access: Access, token: str | None, message: str
) -> None:
    hub.access = access
    hub.use(monkeypatch, tmp_path / "cache", token=token)
    with pytest.raises(ModelError, match=f"{NAME} cannot be downloaded: .*{message}"):
        load_checkpoint(NAME)
    hub.use(monkeypatch, tmp_path / "cache", token=hub.token)
    assert load_checkpoint(NAME).name == NAME


@pytest.mark.usefixtures("commit")
@pytest.mark.parametrize("name", ["someone/else", "nobody/small"])
def test_a_model_that_the_hub_does_not_have_is_named(name: str) -> None:
    with pytest.raises(ModelError, match=f"{name} cannot be downloaded: there is no such model"):
        load_checkpoint(name)


def test_a_revision_is_a_branch_a_tag_or_a_commit(tmp_path: Path, hub: Hub, fused_directory: Path, commit: str) -> None:
    older = Path(shutil.copytree(fused_directory, tmp_path / "older"))
    (older / "README.md").write_text("---\nlicense: mit\n---\n")
    tagged = hub.add(NAME, older, revision="v1")
    assert load_checkpoint(NAME).revision == commit
    for revision in ("v1", tagged):
        checkpoint = load_checkpoint(NAME, revision=revision)
        assert (checkpoint.revision, checkpoint.licence) == (tagged, "mit")
    with pytest.raises(ModelError, match="it has no revision v2; name a branch, tag or commit"):
        load_checkpoint(NAME, revision="v2")


def test_after_a_first_download_the_cache_serves_without_a_network(
    hub: Hub, commit: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load_checkpoint(NAME)
    hub.stop()
    with caplog.at_level(logging.INFO, "clapedge"):
        assert load_checkpoint(NAME).revision == commit
    assert caplog.messages[0].startswith(f"{NAME} is taken from the cache, since it cannot be downloaded: ")
    caplog.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load_checkpoint(NAME).revision == commit
    assert caplog.messages == []


@pytest.mark.usefixtures("commit")
def test_the_command_asks_the_hub_of_its_environment_and_ends_with_one_line(tmp_path: Path, hub: Hub) -> None:
    hub.access = "gated"
    command = [sys.executable, "-m", "clapedge.cli", "export", NAME, "-o", str(tmp_path / "out")]
    environment = {**hub.environment(tmp_path / "home"), "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    ended = run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout, len(ended.stderr.splitlines())) == (3, "", 1)
    assert ended.stderr.startswith(f"error: {NAME} cannot be downloaded: access has to be granted")
    assert not (tmp_path / "out").exists()
