"""A whole export: what the bundle holds, that it is true, and that nothing is left of one that fails."""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from transformers import ClapModel

from clapedge import EmbeddedLabels, Engine
from clapedge.errors import BundleError, LabelError, ModelError, ParityError, UsageError
from clapedge.model.bundle import Bundle, Variant
from clapedge.model.towers import AudioTower, TextTower
from clapedge_export import ExportOptions, export_bundle, verify

SHORT = ("audio.fp32.strips1.onnx", "audio.fp32.strips2.onnx")
TOLERANCES: dict[Variant, tuple[float, float]] = {"fp32": (2e-6, 0.999999), "fp16": (2e-3, 0.9999), "int8": (1, 0.995)}
"""Largest error and least cosine of each variant, as promised to users."""
FLAGS = {"short": [False], "long": [True], "short and long": [False, True, True], "all short": [False, False, False]}
WORDS = ["rain", "a dog barks, twice", "警报声", "x" * 100]


def check(found: np.ndarray, expected: torch.Tensor, variant: Variant) -> None:
    """Hold embeddings against a reference."""
    reference = expected.numpy()
    error, cosine = TOLERANCES[variant]
    assert np.abs(found - reference).max() <= error
    assert (found * reference).sum(1).min() >= cosine
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def digests(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a directory."""
    paths = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
@pytest.mark.parametrize("variant", TOLERANCES)
def test_the_audio_tower_of_a_bundle_embeds_as_transformers_does(
    bundle: Bundle, fused_model: ClapModel, mels: torch.Tensor, variant: Variant, flags: list[bool]
) -> None:
    features, is_longer = mels[: len(flags)], torch.tensor(flags)
    with torch.inference_mode():
        expected = fused_model.get_audio_features(input_features=features, is_longer=is_longer).pooler_output
    tower = AudioTower(bundle.path(bundle.file("audio", variant)))
    check(tower.embed(features.numpy(), is_longer.numpy()), expected, variant)


@pytest.mark.parametrize("variant", TOLERANCES)
def test_the_text_tower_of_a_bundle_embeds_as_transformers_does(
    bundle: Bundle, fused_model: ClapModel, variant: Variant
) -> None:
    limit = bundle.manifest.max_tokens
    tower = TextTower(
        bundle.path(bundle.file("text", variant)), bundle.read(bundle.file("tokenizer")), max_tokens=limit
    )
    encoder = tokenizers.Tokenizer.from_str(bundle.read(bundle.file("tokenizer")).decode())
    encoder.enable_truncation(limit)
    ids = [torch.tensor([encoder.encode(word).ids]) for word in WORDS]
    assert max(one.shape[1] for one in ids) == limit
    with torch.inference_mode():
        expected = [fused_model.get_text_features(one, torch.ones_like(one)).pooler_output for one in ids]
    check(tower.embed(WORDS), torch.cat(expected), variant)


def test_the_manifest_says_where_the_model_comes_from_and_how_true_each_variant_is(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert (manifest.model, manifest.revision, manifest.licence) == ("small-fused", None, "cc-by-4.0")
    assert (manifest.weights, manifest.embedding_size, manifest.max_tokens) == ("pretrained", 32, 38)
    assert manifest.logit_scale == pytest.approx(1 / 0.07)
    assert (manifest.front_end.fusion, manifest.front_end.mel_scale, manifest.front_end.f_min) == (True, "htk", 50.0)
    assert {"clapedge", "torch", "transformers", "onnx", "onnxruntime"} <= manifest.made_with.keys()
    for file in manifest.files:
        if file.variant is not None and file.role != "short":
            error, cosine = TOLERANCES[file.variant]
            assert 0 < file.checks["max_abs_error"] <= error
            assert cosine <= file.checks["min_cosine"] <= 1
    assert bundle.faults() == []
    assert manifest.text_tower == bundle.file("text", "fp32").sha256


def test_a_bundle_scores_with_the_labels_that_it_stores(bundle: Bundle) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    with Engine.load(bundle.directory, provider="cpu", precision="fp32") as engine:
        stored = engine.stored_labels("kitchen")
        result = engine.score(noise, stored)
    assert sorted(score.name for score in result.labels) == ["dog barking", "rain", "siren"]
    assert sum(score.probability for score in result.labels) == pytest.approx(1, abs=1e-6)
    tower = TextTower(bundle.path(bundle.file("text", "fp32")), bundle.read(bundle.file("tokenizer")), max_tokens=38)
    np.testing.assert_allclose(stored.embeddings[:1], tower.embed(["This is a sound of rain."]), atol=1e-6)


@pytest.fixture(scope="module")
def narrow(
    tmp_path_factory: pytest.TempPathFactory,
    make_model: Callable[..., ClapModel],
    make_directory: Callable[..., Path],
    label_file: Path,
) -> Bundle:
    """Export an unfused model for two clips at once, without its text tower."""
    directory = make_directory(
        tmp_path_factory.mktemp("checkpoint") / "small-unfused", make_model(fusion=False), clapedge_weights="demo"
    )
    out = tmp_path_factory.mktemp("bundle") / "narrow"
    return export_bundle(str(directory), out, ExportOptions(labels=[label_file], text=False, batch=2))


def test_an_unfused_model_takes_one_mel_a_clip_and_no_flag(narrow: Bundle) -> None:
    inputs = narrow.file("audio", "fp32").inputs
    assert [(tensor.name, tensor.shape) for tensor in inputs] == [("input_features", (2, 1, 1001, 64))]
    assert (narrow.manifest.front_end.fusion, narrow.manifest.front_end.mel_scale) == (False, "slaney")
    assert narrow.manifest.weights == "demo"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_tower_for_a_fixed_batch_embeds_any_number_of_clips(
    narrow: Bundle, make_model: Callable[..., ClapModel], mels: torch.Tensor, count: int
) -> None:
    features = mels[:count, :1].contiguous()
    with torch.inference_mode():
        expected = make_model(fusion=False).get_audio_features(input_features=features).pooler_output
    tower = AudioTower(narrow.path(narrow.file("audio", "fp32")))
    check(tower.embed(features.numpy(), np.zeros(count, np.bool_)), expected, "fp32")


def test_a_bundle_without_text_tower_still_knows_its_labels_and_what_embedded_them(narrow: Bundle) -> None:
    assert {file.role for file in narrow.manifest.files} == {"audio", "short", "labels"}
    assert sorted(digests(narrow.directory)) == ["audio.fp32.onnx", *SHORT, "labels/kitchen.npz", "manifest.json"]
    labels = EmbeddedLabels.load(narrow.path(narrow.file("labels")))
    assert labels.text_tower == narrow.manifest.text_tower
    with pytest.raises(BundleError, match="holds no text"):
        narrow.file("text", "fp32")


def test_the_same_checkpoint_gives_the_same_bytes(
    tmp_path: Path, bundle: Bundle, fused_directory: Path, label_file: Path
) -> None:
    again = export_bundle(str(fused_directory), tmp_path / "again", ExportOptions(labels=[label_file]))
    first, second = digests(bundle.directory), digests(again.directory)
    del second["manifest.json"]  # the first bundle holds more variants
    assert second == {name: first[name] for name in second}
    assert {"audio.fp32.onnx", *SHORT, "text.fp32.onnx", "labels/kitchen.npz", "tokenizer.json"} == second.keys()


@pytest.mark.usefixtures("without_tracing")
def test_a_variant_over_its_tolerance_fails_the_export_and_leaves_nothing_behind(
    tmp_path: Path, fused_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(verify.MAX_ERROR, "fp32", 1e-12)
    with pytest.raises(ParityError, match=r"audio\.fp32\.onnx does not reproduce the original model"):
        export_bundle(str(fused_directory), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("without_tracing")
def test_a_tower_of_other_weights_is_found_out(
    tmp_path: Path, make_model: Callable[..., ClapModel], make_directory: Callable[..., Path]
) -> None:
    other = make_directory(tmp_path / "other", make_model(seed=1))
    with pytest.raises(ParityError, match="least cosine"):
        export_bundle(str(other), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("without_tracing")
def test_a_bundle_is_replaced_only_when_forced_and_kept_when_its_successor_fails(
    tmp_path: Path, bundle: Bundle, fused_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(bundle.directory, out)
    before = digests(out)
    with pytest.raises(UsageError, match="force=True"):
        export_bundle(str(fused_directory), out)
    with monkeypatch.context() as patch:
        patch.setitem(verify.MIN_COSINE, "fp32", 1.1)
        with pytest.raises(ParityError):
            export_bundle(str(fused_directory), out, force=True)
    assert digests(out) == before
    steps: list[str] = []
    export_bundle(str(fused_directory), out, force=True, progress=steps.append)
    assert sorted(digests(out)) == ["audio.fp32.onnx", *SHORT, "manifest.json", "text.fp32.onnx", "tokenizer.json"]
    assert list(tmp_path.iterdir()) == [out]
    assert [step.split()[0] for step in steps] == ["loading", *["exporting", "verifying"] * 4]


@pytest.mark.usefixtures("without_tracing")
def test_a_disk_that_is_full_is_said_in_one_line_and_nothing_is_left(
    tmp_path: Path, fused_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(ModelError, match=r"cannot be written \(No space left on device"):
        export_bundle(str(fused_directory), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_no_bundle_is_never_replaced(tmp_path: Path, fused_directory: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="something else than a bundle"):
        export_bundle(str(fused_directory), tmp_path, force=True)
    with pytest.raises(UsageError, match="is not a directory"):
        export_bundle(str(fused_directory), tmp_path / "thesis.txt", force=True)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    "options",
    [{"precisions": ()}, {"precisions": ("fp32", "fp32")}, {"precisions": ("bf16",)}, {"batch": 0}, {"seed": -1}],
    ids=str,
)
def test_options_that_mean_nothing_are_refused_before_any_work(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ExportOptions(**options)


def test_two_label_files_of_one_name_are_refused(tmp_path: Path, label_file: Path) -> None:
    other = tmp_path / label_file.name
    other.write_text("fire\n")
    with pytest.raises(LabelError, match="same name"):
        ExportOptions(labels=[label_file, other])
