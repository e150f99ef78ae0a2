"""Bundles: what a manifest guards against."""

import shutil
from pathlib import Path

import msgspec
import pytest

from clapedge.errors import BundleDamagedError, BundleError, BundleNotFoundError
from clapedge.features.front_end import FrontEnd
from clapedge.model.bundle import MANIFEST_NAME, Bundle, Manifest, demo_directory, describe, write_manifest


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Make a bundle with one text file as its tower: what is in the files does not matter here."""
    directory = tmp_path / "bundle"
    directory.mkdir()
    (directory / "audio.fp32.onnx").write_bytes(b"graph")
    manifest = Manifest(
        model="test",
        revision=None,
        licence="none",
        weights="random",
        front_end=FrontEnd(),
        embedding_size=8,
        logit_scale=10.0,
        max_tokens=77,
        files=(describe(directory, "audio.fp32.onnx", role="audio", variant="fp32"),),
    )
    write_manifest(directory, manifest)
    return directory


def rewrite(directory: Path, **changes: object) -> None:
    """Change fields of a manifest."""
    path = directory / MANIFEST_NAME
    path.write_bytes(msgspec.json.encode(msgspec.json.decode(path.read_bytes()) | changes))


def test_a_sound_bundle_has_no_faults(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    assert opened.faults() == []
    assert opened.path(opened.file("audio", "fp32")) == bundle / "audio.fp32.onnx"


def test_a_manifest_survives_being_written_and_read(bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    write_manifest(bundle, manifest)
    assert Bundle.open(bundle).manifest == manifest
    assert sorted(path.name for path in bundle.iterdir()) == ["audio.fp32.onnx", "manifest.json"]


@pytest.mark.parametrize(
    ("content", "complaint"), [(b"other", "SHA-256"), (b"longer than that", "16 bytes where the manifest says 5")]
)
def test_a_changed_file_is_refused(bundle: Path, content: bytes, complaint: str) -> None:
    (bundle / "audio.fp32.onnx").write_bytes(content)
    opened = Bundle.open(bundle)
    with pytest.raises(BundleDamagedError, match=complaint):
        opened.path(opened.file("audio", "fp32"))
    assert len(opened.faults()) == 1


def test_what_was_opened_of_a_changed_file_is_never_returned(bundle: Path) -> None:
    (bundle / "audio.fp32.onnx").write_bytes(b"other")
    opened = Bundle.open(bundle)
    tower = opened.file("audio", "fp32")
    with pytest.raises(BundleDamagedError, match="SHA-256"):
        opened.opened(tower, Path.read_bytes)
    with pytest.raises(BundleDamagedError, match="SHA-256"):  # rather than that it cannot be run
        opened.opened(tower, lambda path: int(path.read_bytes()))


def test_what_goes_wrong_while_a_sound_file_is_opened_is_said(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    assert opened.opened(opened.file("audio", "fp32"), Path.read_bytes) == b"graph"
    with pytest.raises(ValueError, match="graph"):
        opened.opened(opened.file("audio", "fp32"), lambda path: int(path.read_bytes()))


def test_a_missing_file_is_refused(bundle: Path) -> None:
    (bundle / "audio.fp32.onnx").unlink()
    opened = Bundle.open(bundle)
    with pytest.raises(BundleDamagedError, match="is missing"):
        opened.path(opened.file("audio", "fp32"))


def test_a_symlink_is_refused(bundle: Path, tmp_path: Path) -> None:
    shutil.move(bundle / "audio.fp32.onnx", tmp_path / "elsewhere")
    (bundle / "audio.fp32.onnx").symlink_to(tmp_path / "elsewhere")
    opened = Bundle.open(bundle)
    with pytest.raises(BundleDamagedError, match="symlink"):
        opened.path(opened.file("audio", "fp32"))


@pytest.mark.parametrize("path", ["../audio.onnx", "/etc/passwd", "a/../../b", "", "C:\\x", "a\\..\\b", "a\0b"])
def test_a_file_name_that_leads_out_of_the_bundle_is_refused(bundle: Path, path: str) -> None:
    rewrite(bundle, files=[{"path": path, "role": "audio", "bytes": 1, "sha256": "0"}])
    with pytest.raises(BundleDamagedError, match="leads out of the bundle"):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"schema": 1}',
        b'{"schema": "one"}',
        b"\xff\xfe",
        b'{"model": "\xff"}',
        b'{"model":' + b"[" * 200_000,
    ],
)
def test_a_damaged_manifest_is_refused_with_its_name(bundle: Path, text: bytes) -> None:
    (bundle / MANIFEST_NAME).write_bytes(text)
    with pytest.raises(BundleDamagedError, match=r"manifest\.json is damaged"):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    "parameters",
    [
        {"sampling_rate": 44_100},
        {"hop_length": 0},
        {"n_fft": -5},
        {"n_mels": 0},
        {"f_min": 15_000.0},
        {"f_max": 1e9},
        {"clip_samples": 100},
    ],
)
def test_a_front_end_that_the_engine_does_not_have_is_refused(bundle: Path, parameters: dict[str, float]) -> None:
    rewrite(bundle, front_end=parameters)
    with pytest.raises(BundleDamagedError, match=r"manifest\.json is damaged.*front_end"):
        Bundle.open(bundle)


@pytest.mark.parametrize("change", [{"logit_scale": -1.0}, {"embedding_size": 0}, {"max_tokens": 0}])
def test_numbers_that_no_model_has_are_refused(bundle: Path, change: dict[str, float]) -> None:
    rewrite(bundle, **change)
    with pytest.raises(BundleDamagedError, match=next(iter(change))):
        Bundle.open(bundle)


@pytest.mark.parametrize("change", [{"n_mels": 32}, {"clip_samples": 48_000}, {"fusion": False}])
def test_a_front_end_that_makes_something_else_than_the_tower_takes_is_refused(
    tmp_path: Path, change: dict[str, float]
) -> None:
    directory = tmp_path / "bundle"
    shutil.copytree(demo_directory(), directory)
    rewrite(directory, front_end=change)
    with pytest.raises(BundleDamagedError, match="contradicts itself"):
        Bundle.open(directory)


def test_a_manifest_that_cannot_be_written_leaves_nothing(bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    (bundle / MANIFEST_NAME).unlink()
    (bundle / MANIFEST_NAME).mkdir()
    with pytest.raises(IsADirectoryError):
        write_manifest(bundle, manifest)
    assert {path.name for path in bundle.iterdir()} == {"audio.fp32.onnx", MANIFEST_NAME}


def test_a_newer_layout_asks_for_an_upgrade(bundle: Path) -> None:
    rewrite(bundle, schema=2)
    with pytest.raises(BundleError, match="upgrade clapedge"):
        Bundle.open(bundle)


def test_a_directory_without_manifest_and_a_missing_one_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFoundError, match="is no bundle"):
        Bundle.open(tmp_path)
    with pytest.raises(BundleNotFoundError, match="does not exist"):
        Bundle.open(tmp_path / "none")


def test_a_variant_that_is_not_there_is_named_with_those_that_are(bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"no audio tower in int8 \(present: audio\.fp32\.onnx\)"):
        Bundle.open(bundle).file("audio", "int8")


def test_the_environment_names_the_default_bundle(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAPEDGE_BUNDLE", str(bundle))
    assert Bundle.open().directory == bundle
    monkeypatch.delenv("CLAPEDGE_BUNDLE")
    assert Bundle.open().directory == demo_directory()


def test_the_demo_model_in_the_package_is_whole_and_says_what_it_is() -> None:
    demo = Bundle.open(demo_directory())
    assert demo.faults() == []
    assert demo.manifest.weights == "demo"
    assert sum(file.bytes for file in demo.manifest.files) <= 20e6
