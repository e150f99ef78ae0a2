"""Checkpoints from the hub, over a stand-in on loopback with the hub's own routes."""

from pathlib import Path

import pytest
from huggingface_hub import HfApi, snapshot_download
from tests.hub import Hub


def test_what_is_pushed_to_the_stand_in_is_what_is_downloaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {"README.md": b"---\nlicense: mit\n---\n", "audio.onnx": b"x" * 100_000, "labels/kitchen.npz": b"y" * 99}
    for name, content in contents.items():
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_bytes(content)
    with Hub() as hub:
        hub.use(monkeypatch, tmp_path / "cache", token=hub.token)
        HfApi().create_repo("someone/thing")
        commit = HfApi().upload_folder(repo_id="someone/thing", folder_path=tmp_path / "source").oid
        directory = Path(snapshot_download("someone/thing"))
        tokens = {one.token for one in hub.requests if one.path.startswith(("/cdn/", "/upload/"))}
    assert directory.name == commit
    assert {name: (directory / name).read_bytes() for name in contents} == contents
    assert tokens == {None}  # signed addresses get no token
