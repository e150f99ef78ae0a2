"""The one name of an embedding space: what it is made of, where it stands, and what it keeps apart."""

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from clapedge import Bundle, ClapEdgeWarning, EmbeddedLabels, Engine, LabelSet
from clapedge.batch.embedding_store import EmbeddingStore
from clapedge.batch.embedding_writer import appending
from clapedge.batch.fingerprint import Stamp
from clapedge.batch.run import embedding_config, search_store
from clapedge.batch.store_files import CONFIG_NAME, EmbeddingConfig
from clapedge.errors import LabelError, UsageError
from clapedge.features.front_end import FrontEnd
from clapedge.model.bundle import MANIFEST_NAME, Manifest, Variant, demo_directory
from clapedge.model.space import clip_space, words_of, words_space
from clapedge.scoring.result import Coverage, Provenance, RecordingEmbeddings, Result, Timing

A, B = "a" * 64, "b" * 64
TONE = np.sin(np.arange(48_000, dtype=np.float32) / 10)


def manifest(**changes: object) -> Manifest:
    """Return the demo model's manifest with changes."""
    return msgspec.structs.replace(Bundle.open(demo_directory()).manifest, **changes)


def loaded(variant: Variant) -> Engine:
    """Load the demo model."""
    with pytest.warns(ClapEdgeWarning, match="demo model"):
        return Engine.load(demo_directory(), precision=variant, provider="cpu", threads=1)


def test_the_name_of_known_facts_never_changes() -> None:
    name = clip_space(text_tower=A, audio_tower=B, front_end=FrontEnd(), variant="fp32")
    assert name == "6b6217cc-bc255bfa-fp32"  # in archives on disk: another value makes every one of them a stranger
    assert words_of(name) == words_space(A)
    assert words_space(None) == words_space("")


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"audio_tower": A}, True),
        ({"front_end": FrontEnd(fusion=False)}, True),
        ({"variant": "fp16"}, True),
        ({"text_tower": B}, False),
    ],
)
def test_every_fact_counts_and_labels_depend_on_the_text_tower_alone(change: dict[str, str], *, kept: bool) -> None:
    facts = {"text_tower": A, "audio_tower": B, "front_end": FrontEnd(), "variant": "fp32"}
    name, other = clip_space(**facts), clip_space(**facts | change)  # type: ignore[arg-type]
    assert name != other
    assert (words_of(name) == words_of(other)) is kept


def test_a_manifest_of_an_older_version_has_the_same_names_and_one_that_lies_is_not_believed(tmp_path: Path) -> None:
    expected = manifest().spaces
    assert list(expected) == ["fp32", "int8"]
    shutil.copytree(demo_directory(), tmp_path / "bundle")
    path = tmp_path / "bundle" / MANIFEST_NAME
    content = json.loads(path.read_bytes())
    for given in (None, {"fp32": "made up", "int8": "made up", "fp16": "made up"}):
        content.pop("spaces", None)
        path.write_text(json.dumps(content if given is None else {**content, "spaces": given}))
        assert Bundle.open(tmp_path / "bundle").manifest.spaces == expected


def test_a_part_of_a_bundle_has_the_names_of_the_whole() -> None:
    alone = [file for file in manifest().files if file.variant == "int8"]
    assert manifest(files=tuple(alone)).spaces == {"int8": manifest().spaces["int8"]}


def test_a_tower_for_one_provider_alone_does_not_rename_the_space() -> None:
    own = next(file for file in manifest().files if file.role == "audio" and file.variant == "fp32")
    cuda = msgspec.structs.replace(own, path="audio.fp32.cuda.onnx", sha256=A, providers=("cuda",))
    assert manifest(files=(cuda, *manifest().files)).spaces == manifest().spaces


def test_results_name_their_space_and_those_of_older_versions_are_read(engine_result: Result) -> None:
    record = engine_result.to_dict()
    assert record["space"] == manifest().spaces["int8"]
    assert Result.from_dict(record) == engine_result
    del record["space"]
    assert Result.from_dict(record).provenance.space == ""


@pytest.fixture(scope="module")
def engine_result() -> Result:
    """Score a tone."""
    with loaded("int8") as engine:
        return engine.score((TONE, 48_000), ["a tone", "rain"])


def add(directory: Path, config: EmbeddingConfig, name: str) -> None:
    """Add a recording to an archive."""
    row = np.eye(1, config.embedding_size, dtype=np.float32)
    recording = RecordingEmbeddings(name, row, ((0.0, 1.0),), Coverage(0.0, 1.0, 1.0), (), Timing(0, 0, 0, 0))
    with appending(directory, config) as store:
        store.add(name, Stamp(1, 1), name, recording)


@pytest.fixture(scope="module")
def config() -> EmbeddingConfig:
    """Return how the demo model makes embeddings."""
    with loaded("fp32") as engine:
        return embedding_config(engine, {})


def test_an_archive_names_its_space_and_takes_no_clips_of_another(tmp_path: Path, config: EmbeddingConfig) -> None:
    add(tmp_path / "kept", config, "a.wav")
    assert json.loads((tmp_path / "kept" / CONFIG_NAME).read_bytes())["space"] == manifest().spaces["fp32"]
    with loaded("int8") as engine:
        other = embedding_config(engine, {})
    both = f"its embedding space is {config.space}, not {other.space}; use the same options and bundle, or another"
    with pytest.raises(UsageError, match=both):
        add(tmp_path / "kept", other, "b.wav")


def test_an_archive_of_an_older_version_is_read_and_added_to(tmp_path: Path, config: EmbeddingConfig) -> None:
    add(tmp_path / "kept", config, "a.wav")
    path = tmp_path / "kept" / CONFIG_NAME
    content = json.loads(path.read_bytes())
    del content["space"]
    path.write_text(json.dumps(content))
    assert EmbeddingStore.open(tmp_path / "kept").config.space == config.space
    add(tmp_path / "kept", config, "b.wav")
    assert list(EmbeddingStore.open(tmp_path / "kept").by_file) == ["a.wav", "b.wav"]


def test_the_same_model_under_another_name_is_the_same_space(tmp_path: Path, config: EmbeddingConfig) -> None:
    add(tmp_path / "kept", config, "a.wav")
    add(tmp_path / "kept", msgspec.structs.replace(config, model="its local name", weights="pretrained"), "b.wav")
    assert len(EmbeddingStore.open(tmp_path / "kept").by_file) == 2


def test_labels_name_their_space_and_fit_every_variant_of_their_model(tmp_path: Path) -> None:
    with loaded("fp32") as engine:
        engine.embed_labels(["a tone", "rain"]).save(tmp_path / "labels.npz")
    assert str(np.load(tmp_path / "labels.npz")["space"]) == words_of(manifest().spaces["fp32"])
    with loaded("int8") as engine:
        assert engine.embed_labels(EmbeddedLabels.load(tmp_path / "labels.npz")).space == words_of(
            engine.provenance.space
        )


def test_labels_of_another_model_are_refused_with_both_names(tmp_path: Path, config: EmbeddingConfig) -> None:
    row = np.eye(1, config.embedding_size, dtype=np.float32)
    strange = EmbeddedLabels(LabelSet.of(["rain"]), row, A)
    own = words_of(config.space)
    with loaded("int8") as engine, pytest.raises(LabelError, match=rf"space {strange.space}\).*\(space {own}\); embed"):
        engine.embed_labels(strange)
    add(tmp_path / "kept", config, "a.wav")
    with pytest.raises(LabelError, match=rf"space {config.space}\).*space {strange.space}\); use the bundle"):
        search_store(EmbeddingStore.open(tmp_path / "kept"), strange, count=1)


def test_provenance_of_four_fields_goes_on_working() -> None:
    assert Provenance("model", "demo", "int8", "cpu").space == ""
