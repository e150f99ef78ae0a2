"""Which labels a command line names: a file, else a set of the bundle, else one that comes with clapedge."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from clapedge import Bundle, EmbeddedLabels, LabelSet
from clapedge.errors import LabelError
from clapedge.labels import find_file, shipped_sets
from clapedge.model.bundle import demo_directory, describe, write_manifest

Run = Callable[..., Any]
"""The fixture `run`: gives what `conftest.Done` describes."""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Make a bundle that holds label sets: one of its own, and one named as a shipped one."""
    path = tmp_path / "bundle"
    shutil.copytree(demo_directory(), path)
    (path / "labels").mkdir()
    manifest = Bundle.open(path).manifest
    rows = np.eye(2, manifest.embedding_size, dtype=np.float32)
    for name in ("yard", "home"):
        label_set = LabelSet.of([f"{name} one", f"{name} two"])
        EmbeddedLabels(label_set, rows, manifest.text_tower or "").save(path / "labels" / f"{name}.npz")
    stored = tuple(describe(path, f"labels/{name}.npz", role="labels") for name in ("yard", "home"))
    write_manifest(path, msgspec.structs.replace(manifest, files=(*manifest.files, *stored)))
    return path


def names(done: Any) -> set[str]:  # noqa: ANN401 - what the fixture `run` gives
    """Return the labels of the one result that was written."""
    assert done.code == 0, done.err
    return {label["name"] for label in json.loads(done.out)["labels"]}


def test_a_shipped_set_is_named_without_a_path(run: Run, noise: Path) -> None:
    shown = {label.name for label in LabelSet.from_file(shipped_sets()["industrial"]).labels if not label.hidden}
    assert names(run("score", noise, "--labels", "industrial", "--format", "jsonl")) == shown


def test_a_set_of_the_bundle_comes_before_a_shipped_one_and_a_file_before_both(
    run: Run, noise: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("score", noise, "--bundle", bundle, "--format", "jsonl", "--labels")
    assert names(run(*command, "yard")) == {"yard one", "yard two"}
    assert names(run(*command, "home")) == {"home one", "home two"}
    assert len(names(run(*command, "city"))) == 6
    (tmp_path / "home").write_text("rain\nwind\n", encoding="utf-8")
    assert names(run(*command, "home")) == {"rain", "wind"}


def test_a_directory_takes_no_set_its_name(
    run: Run, noise: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "yard").mkdir()
    (tmp_path / "city").mkdir()
    command = ("score", noise, "--bundle", bundle, "--format", "jsonl", "--labels")
    assert names(run(*command, "yard")) == {"yard one", "yard two"}
    assert len(names(run(*command, "city"))) == 6


@pytest.mark.parametrize("command", [("score",), ("labels", "check")])
def test_a_name_that_nothing_has_is_wrong_usage_and_told_what_there_is(
    run: Run, noise: Path, command: tuple[str, ...]
) -> None:
    done = run(*command, *((noise, "--labels") if command == ("score",) else ()), "kitchen")
    assert done.code == 2
    assert "city, home, industrial, wildlife" in done.complaint


@pytest.mark.parametrize("content", [b"PK\x03\x04 nothing", b"", b"\x93NUMPY"])
def test_a_damaged_set_is_wrong_usage_in_plain_words(run: Run, noise: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "set.npz"
    path.write_bytes(content)
    done = run("score", noise, "--labels", path)
    assert done.code == 2
    assert "damaged, or not an .npz file" in done.complaint
    assert "pickle" not in done.complaint


def test_labels_check_takes_the_name_of_a_shipped_set(run: Run) -> None:
    done = run("labels", "check", "wildlife")
    assert done.code == 0
    assert done.out == "wildlife: 7 labels, no advice\n"


def test_the_help_names_every_shipped_set(run: Run) -> None:
    assert ", ".join(shipped_sets()) in " ".join(run("score", "--help").out.split())


def test_a_set_of_your_own_extends_a_shipped_one_unless_a_file_beside_it_has_the_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "home"\n[[label]]\nname = "kettle"\n', encoding="utf-8")
    shipped = LabelSet.from_file(find_file("home")).labels
    assert [label.name for label in LabelSet.from_file(path).labels] == [*(one.name for one in shipped), "kettle"]
    (tmp_path / "home").write_text("rain", encoding="utf-8")
    assert [label.name for label in LabelSet.from_file(path).labels] == ["rain", "kettle"]


def test_a_path_is_found_as_it_is_and_never_taken_for_a_name(tmp_path: Path) -> None:
    path = tmp_path / "home.toml"
    path.touch()
    assert find_file(path) == path
    with pytest.raises(LabelError, match="does not exist"):
        find_file("./home")
    with pytest.raises(LabelError, match="is a directory"):
        find_file(tmp_path)
