"""A file that does not fit its layout is complained of in the words of who wrote it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from clapedge import Bundle, EmbeddedLabels, LabelSet
from clapedge.errors import BundleDamagedError, BundleNotFoundError, LabelError
from clapedge.model.bundle import MANIFEST_NAME, demo_directory, describe, write_manifest
from clapedge.validation import describe_mismatch

Run = Callable[..., Any]
"""The fixture `run`: gives what `conftest.Done` describes."""


class Layout(msgspec.Struct, forbid_unknown_fields=True):
    """A layout of many kinds."""

    name: str
    counts: tuple[int, ...] = ()
    more: dict[str, int] = {}
    share: float | None = None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"name": 1}', "name: expected text, found a whole number"),
        (b'{"name": "a", "counts": [1, "b"]}', "counts 2: expected a whole number, found text"),
        (b"{}", "name is missing"),
        (b'{"name": "a", "nmae": "b"}', "nmae is unknown"),
        (b'{"name": "a", "share": "b"}', "share: expected a number or nothing, found text"),
        (b'{"name": "a", "more": []}', "more: expected a table, found a list"),
        (b"{", "Input data was truncated"),
    ],
)
def test_a_misfit_is_named_with_its_place(content: bytes, words: str) -> None:
    with pytest.raises(msgspec.MsgspecError) as caught:
        msgspec.json.decode(content, type=Layout)
    assert describe_mismatch(caught.value) == words


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[[label]]\nname = 3\n", "label 1: name: expected text, found a whole number; a label has a name"),
        ('[[label]]\nname = "a"\n[[label]]\npromts = []\n', "label 2: promts is unknown; a label has a name, and"),
        ('label = "rain"\n', "label: expected a list, found text"),
    ],
)
def test_a_label_file_that_does_not_fit_names_label_and_key(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "labels.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(LabelError) as caught:
        LabelSet.from_file(path)
    assert f"labels.toml: {words}" in str(caught.value)
    assert "`" not in str(caught.value)
    assert "$" not in str(caught.value)


def test_a_bundle_that_the_environment_names_wrongly_is_told_so(
    run: Run, noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAPEDGE_BUNDLE", str(tmp_path / "none"))
    done = run("score", noise, "-l", "rain")
    assert done.code == 3
    assert "none, which CLAPEDGE_BUNDLE names, does not exist" in done.complaint
    with pytest.raises(BundleNotFoundError) as caught:
        Bundle.open(tmp_path / "none")
    assert "CLAPEDGE_BUNDLE" not in str(caught.value)


def test_a_folder_of_a_bundle_is_no_symlink_either(tmp_path: Path) -> None:
    bundle, elsewhere = tmp_path / "bundle", tmp_path / "elsewhere"
    shutil.copytree(demo_directory(), bundle)
    elsewhere.mkdir()
    manifest = Bundle.open(bundle).manifest
    row = np.eye(1, manifest.embedding_size, dtype=np.float32)
    EmbeddedLabels(LabelSet.of(["rain"]), row, manifest.text_tower or "").save(elsewhere / "a.npz")
    (bundle / "labels").symlink_to(elsewhere)
    entry = describe(bundle, "labels/a.npz", role="labels")
    write_manifest(bundle, msgspec.structs.replace(manifest, files=(*manifest.files, entry)))
    opened = Bundle.open(bundle)
    (fault,) = opened.faults()
    assert fault.endswith("labels/a.npz is a symlink, behind a symlink or no file, which a bundle never holds")
    with pytest.raises(BundleDamagedError, match="behind a symlink"):
        opened.path(opened.label_sets["a"])


def test_a_bundle_itself_may_be_reached_through_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(demo_directory())
    assert Bundle.open(tmp_path / "current").faults() == []
    assert (tmp_path / "current" / MANIFEST_NAME).exists()
