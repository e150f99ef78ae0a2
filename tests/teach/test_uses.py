"""Taught sounds where labels are used: commands, kept embeddings, search, a bundle without words, the service."""

import csv
import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from pyarrow import parquet
from tests.teach.sounds import Recorder, clapedge

from clapedge import Bundle, EmbeddedLabels, Engine, LabelSet, Lesson
from clapedge.kit.bundle_subset import copy_subset
from clapedge.model.bundle import write_manifest

KINDS = ("warble", "clicks", "buzz")


def csv_of(labels: str | Path) -> tuple[str | Path, ...]:
    """Return options that score against labels and show the best as a row."""
    return ("--labels", labels, "--duration", "2", "--top-k", "1", "--format", "csv")


def test_the_command_teaches_more_forgets_and_scores(record: Recorder, tmp_path: Path) -> None:
    target = tmp_path / "sounds.npz"
    clips = [record("warble", take) for take in range(3)]
    shown = clapedge("teach", "garden gate", *clips, "--labels", "home", "-o", target)
    assert "garden gate: 3 clips" in shown.stdout
    clapedge("teach", "relay", record("clicks", 0), record("clicks", 1), "--not", record("buzz", 0), "-o", target)
    scored = clapedge("score", record("warble", 7), record("clicks", 7), "--labels", target, "--format", "jsonl").stdout
    assert [json.loads(line)["labels"][0]["name"] for line in scored.splitlines()] == ["garden gate", "relay"]
    timeline = clapedge("timeline", record("warble", 7), "--labels", target, "--format", "jsonl").stdout
    assert json.loads(timeline.splitlines()[0])["label"] == "garden gate"
    assert "2 labels" not in clapedge("labels", "check", target).stdout
    clapedge("teach", "relay", "--forget", "-o", target)
    assert "relay" not in [label.name for label in EmbeddedLabels.load(target).label_set.labels]
    assert "exists" in clapedge("teach", "relay", clips[0], "--labels", "home", "-o", target, code=2).stderr


def test_an_event_that_was_wrong_is_taught_as_what_the_sound_is_not(record: Recorder, tmp_path: Path) -> None:
    target, clips = tmp_path / "s.npz", [record("warble", 0), record("clicks", 0), record("warble", 1)]
    clapedge("teach", "gate", *clips, "--labels", "home", "-o", target)
    before = EmbeddedLabels.load(target)
    clapedge("teach", "gate", "--not", record("clicks", 5), "-o", target)
    after = EmbeddedLabels.load(target)
    assert after.examples is not None
    wrong = after.examples.where(kind="negative").vectors()[0]

    def cosine(labels: EmbeddedLabels) -> float:
        assert labels.placement is not None
        return float(labels.placement.similarities((wrong @ labels.embeddings.T)[None])[0, -1])

    assert cosine(after) < cosine(before)
    assert "no clip teaches" in clapedge("teach", "fan", "--not", clips[0], "-o", target, code=2).stderr


def test_many_sounds_are_taught_from_folders_and_from_a_table(record: Recorder, tmp_path: Path) -> None:
    for kind in KINDS:
        (tmp_path / "sounds" / kind).mkdir(parents=True)
        for take in range(2):
            shutil.move(record(kind, take), tmp_path / "sounds" / kind)
    clapedge("teach", "--from", tmp_path / "sounds", "-o", tmp_path / "folders.npz")
    rows = [f"{path.relative_to(tmp_path)},{path.parent.name}" for path in sorted(tmp_path.glob("sounds/*/*.wav"))]
    (tmp_path / "clips.csv").write_text("\n".join(["file,label", *rows]), encoding="utf-8")
    clapedge("teach", "--from", tmp_path / "clips.csv", "-o", tmp_path / "table.npz")
    one, other = (EmbeddedLabels.load(tmp_path / name) for name in ("folders.npz", "table.npz"))
    assert [label.name for label in one.label_set.labels] == sorted(KINDS)
    np.testing.assert_array_equal(one.embeddings, other.embeddings)


def test_background_gives_thresholds_and_none_of_these_is_shown(record: Recorder, tmp_path: Path) -> None:
    target, site = tmp_path / "sounds.npz", tmp_path / "site"
    site.mkdir()
    for take in range(50):
        shutil.move(record("none", take), site)
    clapedge("teach", "gate", record("warble", 0), record("warble", 1), "-o", target, "--labels", "home")
    done = clapedge("teach", "-o", target, "--background", site, "--false-alarms", "20/1000")
    assert "can promise" not in done.stderr
    quiet = clapedge("score", record("none", 77), "--duration", "2", "--labels", target, "--explain").stdout
    assert "none of these" in quiet
    assert "none of these" not in clapedge("score", record("warble", 77), "--labels", target).stdout
    table = clapedge("score", tmp_path / "no.wav", record("warble", 77), record("none", 77), *csv_of(target), code=1)
    rows = list(csv.DictReader(table.stdout.splitlines()))
    assert [row["unknown"] for row in rows] == ["", "false", "true"]
    assert all(float(row["fit"]) == pytest.approx(float(row["similarity"])) for row in rows[1:])
    assert rows[0]["error"]
    clapedge("batch", site, "--labels", target, "-o", tmp_path / "site.parquet")
    kept = parquet.read_table(tmp_path / "site.parquet").to_pydict()
    assert set(kept["unknown"]) <= {True, False}
    assert len(kept["fit"]) == len(kept["file"])
    assert "fit" not in clapedge("score", record("none", 77), *csv_of("home")).stdout
    hint = clapedge("teach", "-o", target, "--background", site, "--false-alarms", "1/day").stderr
    assert "can promise" in hint


def test_calibrate_gives_words_thresholds_by_background(record: Recorder, tmp_path: Path) -> None:
    site, bundle = tmp_path / "site", Path(__file__).parents[2] / "engine/clapedge/demo_model"
    site.mkdir()
    for take in range(50):
        shutil.move(record("none", take), site)
    given = ("calibrate", bundle, "--background", site, "--labels", "home", "--false-alarms", "20/1000")
    assert "goes with --labels" in clapedge(*given, code=2).stderr
    assert "too few for novelty" in clapedge(*given, "--scores", tmp_path / "home.npz").stderr
    thresholds = [label.threshold for label in EmbeddedLabels.load(tmp_path / "home.npz").label_set.labels]
    assert None not in thresholds


def test_a_search_by_sound_finds_its_kind_and_names_the_same_recording(record: Recorder, tmp_path: Path) -> None:
    folder = tmp_path / "all"
    folder.mkdir()
    for kind in KINDS:
        for take in range(3):
            shutil.move(record(kind, take), folder)
    clapedge("embed", folder, "-o", tmp_path / "kept")
    found = clapedge(
        *("search", "--like", folder / "clicks-0.wav", "--not", folder / "buzz-0.wav"),
        *("--embeddings", tmp_path / "kept", "--format", "jsonl", "--top-k", "3"),
    ).stdout
    records = [json.loads(line) for line in found.splitlines()]
    assert all("clicks" in record["file"] for record in records)
    assert [record["duplicate"] for record in records if record["file"].endswith("clicks-0.wav")] == [True]
    mixed = clapedge("search", "a siren", "--like", folder / "warble-0.wav", "--embeddings", tmp_path / "kept").stdout
    assert "warble" in mixed.splitlines()[0]
    assert "no words" in clapedge("search", "--embeddings", tmp_path / "kept", code=2).stderr


def test_kept_embeddings_are_scored_against_taught_sounds(record: Recorder, tmp_path: Path) -> None:
    folder = tmp_path / "all"
    folder.mkdir()
    for kind in KINDS:
        shutil.move(record(kind, 5), folder)
    clapedge("teach", "gate", record("warble", 0), record("warble", 1), "--labels", "home", "-o", tmp_path / "s.npz")
    clapedge("embed", folder, "-o", tmp_path / "kept")
    clapedge("batch", "--embeddings", tmp_path / "kept", "--labels", tmp_path / "s.npz", "-o", tmp_path / "r.jsonl")
    records = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()]
    best = {Path(record["file"]).stem: record["labels"][0]["name"] for record in records}
    assert best["warble-5"] == "gate"
    assert best["buzz-5"] != "gate"


def test_two_taught_sounds_that_are_one_are_advice(record: Recorder, tmp_path: Path) -> None:
    for name, first in (("gate", 0), ("door", 3)):
        clapedge("teach", name, *(record("warble", first + take) for take in range(3)), "-o", tmp_path / "s.npz")
    clapedge("teach", "twin", record("warble", 0), "-o", tmp_path / "s.npz")
    assert "better: make them one label" in clapedge("labels", "check", tmp_path / "s.npz").stdout


def test_a_bundle_without_words_is_taught_on_the_device(engine: Engine, record: Recorder, tmp_path: Path) -> None:
    copy_subset(engine.bundle, tmp_path / "device", precisions=["int8"], labels=["home"], text=False)
    clips = [record("warble", take) for take in range(3)]
    options = ("--bundle", tmp_path / "device")
    clapedge("teach", "gate", *clips, "--labels", "home", "-o", tmp_path / "s.npz", *options)
    scored = clapedge(
        "score", record("warble", 7), "--labels", tmp_path / "s.npz", "--format", "jsonl", *options
    ).stdout
    assert json.loads(scored)["labels"][0]["name"] == "gate"
    assert not Bundle.open(tmp_path / "device").files("text")


def test_a_bundle_without_a_pool_asks_for_other_sounds(engine: Engine, record: Recorder, tmp_path: Path) -> None:
    bundle = copy_subset(engine.bundle, tmp_path / "device", precisions=["int8"], labels=["home"], text=False)
    files = tuple(file for file in bundle.manifest.files if file.role != "pool")
    write_manifest(bundle.directory, msgspec.structs.replace(bundle.manifest, files=files))
    told = clapedge("teach", "gate", record("warble"), "-o", tmp_path / "s.npz", "--bundle", bundle.directory, code=2)
    assert "0 other sounds are known, and 32 are needed" in told.stderr
    assert "--others FOLDER" in told.stderr


def test_the_service_scores_with_a_taught_set(engine: Engine, record: Recorder, tmp_path: Path) -> None:
    fastapi = pytest.importorskip("fastapi", reason="the extra web is not installed")
    assert fastapi
    from clapedge.serve.label_store import LabelStore
    from clapedge.serve.settings import Settings

    labels = engine.teach(Lesson("gate", [record("warble", take) for take in range(3)]), LabelSet.of(["rain", "siren"]))
    labels.save(tmp_path / "yard.npz")
    store = LabelStore(Settings(labels=tmp_path / "yard.npz"))
    assert store.default == "yard"
    assert store.embedded is not None
    assert [label.name for label in store.get("yard").labels] == ["rain", "siren", "gate"]
