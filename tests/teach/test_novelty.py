"""Novelty: what is unlike the background of a site; and the background that a quiet day of listening keeps."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.teach.sounds import RATE, Recorder, clapedge, render

from clapedge import AudioError, EmbeddedLabels, Engine, LabelError, LabelSet, Lesson, UsageError
from clapedge.live.background_keeper import BackgroundKeeper
from clapedge.teaching.background import FalseAlarms
from clapedge.teaching.novelty import diverse
from clapedge.teaching.windows import BackgroundWindows

RARELY = FalseAlarms(10, "1000")
BUNDLE = Path(__file__).parents[2] / "engine/clapedge/demo_model"


@pytest.fixture
def site(record: Recorder) -> Path:
    """Return six minutes of a site: a little noise, and a buzz now and then."""
    parts = [render("buzz" if take % 7 == 0 else "none", take, 10.0) for take in range(36)]
    return record("site", samples=np.concatenate(parts))


@pytest.fixture
def day(record: Recorder) -> Path:
    """Return another half minute of it, with a warble that it does not know."""
    parts = [render("none", 90, 12.0), render("warble", 5, 5.0), render("none", 91, 8.0), render("buzz", 92, 8.0)]
    return record("day", samples=np.concatenate(parts))


def test_what_a_site_does_not_know_is_novel_without_any_label(engine: Engine, site: Path, day: Path) -> None:
    labels = engine.teacher.calibrate(None, [site], alarms=RARELY, novelty=True)
    events = engine.timeline(day, labels).events()
    assert [event.label for event in events] == ["novelty"]
    assert abs(events[0].start - 12) <= 1, "the buzz is of the site"
    assert abs(events[0].end - 17) <= 1
    assert events[0].probability == 1
    result = engine.score(day, labels, start=12.0, duration=5.0)
    assert (result.top.name, result.unknown) == ("novelty", False)
    assert engine.score(day, labels, duration=5.0).unknown is True


def test_novelty_stands_beside_labels_without_a_share_of_their_probability(
    engine: Engine, site: Path, day: Path, tmp_path: Path
) -> None:
    words = LabelSet.of(["siren", "door knock", "rain"])
    embedded = engine.embed_labels(words)
    labels = engine.teacher.calibrate(embedded, [site], alarms=RARELY, novelty=True)
    labels.save(tmp_path / "site.npz")
    labels = EmbeddedLabels.load(tmp_path / "site.npz")
    plain, beside = engine.score(day, words), engine.score(day, labels)
    assert beside.labels == plain.labels
    timeline = engine.timeline(day, labels)
    assert timeline.labels == ("siren", "door knock", "rain", "novelty")
    assert "novelty" in [event.label for event in timeline.events()]
    blocks = (block for block in np.split(np.concatenate([render("none", 90, 6.0), render("warble", 5, 4.0)]), 10))
    streamed = [one.label for one in engine.stream(blocks, labels, sample_rate=RATE)]
    assert "novelty" in streamed


def test_novelty_outlives_lessons_and_is_measured_anew(engine: Engine, record: Recorder, site: Path) -> None:
    words = engine.embed_labels(LabelSet.of(["siren", "rain"]))
    labels = engine.teacher.calibrate(words, [site], alarms=RARELY, novelty=True)
    taught = engine.teach(Lesson("gate", [record("clicks", take) for take in range(3)]), labels)
    assert [label.name for label in taught.label_set.labels] == ["siren", "rain", "gate", "novelty"]
    assert taught.label_set.labels[-1] == labels.label_set.labels[-1]
    again = engine.teacher.calibrate(taught, [site], alarms=RARELY, novelty=True)
    assert [label.name for label in again.label_set.labels] == ["siren", "rain", "gate", "novelty"]
    np.testing.assert_array_equal(again.embeddings, taught.embeddings)
    forgotten = engine.teacher.forget(again, "gate")
    assert [label.name for label in forgotten.label_set.labels] == ["siren", "rain", "novelty"]


def test_the_name_of_novelty_is_its_own(engine: Engine, record: Recorder, site: Path) -> None:
    with pytest.raises(LabelError, match="give the sound another"):
        engine.teach(Lesson("novelty", [record("warble")]))
    with pytest.raises(LabelError, match="give it another name"):
        engine.teacher.calibrate(engine.embed_labels(["novelty"]), [site], alarms=RARELY, novelty=True)
    with pytest.raises(LabelError, match="no labels to calibrate"):
        engine.teacher.calibrate(None, [site], alarms=RARELY)


def test_the_kept_windows_cover_rare_sounds() -> None:
    rng = np.random.default_rng(0)
    common, rare = rng.normal(0, 0.05, (500, 8)) + np.eye(8)[0], np.eye(8)[3:4]
    rows = np.concatenate([common, rare])
    rows = np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
    assert any(np.array_equal(row, rows[-1]) for row in diverse(rows, 3))
    assert len(diverse(rows[:2], 3)) == 2


def test_the_command_calibrates_a_site_without_labels(site: Path, day: Path, tmp_path: Path) -> None:
    given = ("--background", site, "--false-alarms", "10/1000")
    clapedge("calibrate", BUNDLE, *given, "--scores", tmp_path / "novelty.npz")
    found = clapedge("timeline", day, "--labels", tmp_path / "novelty.npz", "--format", "jsonl")
    assert [json.loads(line)["label"] for line in found.stdout.splitlines()] == ["novelty"]
    assert "hidden" not in found.stderr
    clapedge("teach", "-o", tmp_path / "home.npz", "--labels", "home", *given, "--novelty")
    assert EmbeddedLabels.load(tmp_path / "home.npz").label_set.labels[-1].name == "novelty"
    alone = ("--labels", tmp_path / "novelty.npz")
    checked = clapedge("labels", "check", tmp_path / "novelty.npz")
    assert "1 label, no advice" in checked.stdout
    scored = clapedge("score", day, *alone, "--format", "jsonl")
    assert "lone label" not in scored.stderr
    folder = tmp_path / "kept"
    clapedge("embed", day, "-o", folder, "--window", "slide", "--length", "2", "--hop", "1")
    kept = clapedge("timeline", "--embeddings", folder, *alone, "--format", "jsonl")
    assert kept.stdout == found.stdout
    clapedge("batch", "--embeddings", folder, *alone, "-o", tmp_path / "rows.jsonl")
    (row,) = (json.loads(line) for line in (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines())
    assert (row["labels"][0]["name"], row["unknown"]) == ("novelty", False)
    assert "goes with --background" in clapedge("teach", "gate", day, "-o", "x.npz", "--novelty", code=2).stderr


def test_listening_to_a_quiet_day_keeps_its_background_and_goes_on(site: Path, day: Path, tmp_path: Path) -> None:
    kept = tmp_path / "quiet.npz"
    listen = ("listen", site, "--speed", "0", "-l", "rain", "--learn")
    clapedge(*listen, kept)
    clapedge("teach", "-o", tmp_path / "a.npz", "--background", kept, "--false-alarms", "10/1000", "--novelty")
    clapedge("teach", "-o", tmp_path / "b.npz", "--background", site, "--false-alarms", "10/1000", "--novelty")
    live, read = (EmbeddedLabels.load(tmp_path / name).label_set.labels[0] for name in ("a.npz", "b.npz"))
    assert live.threshold == pytest.approx(read.threshold, abs=0.01)
    events = clapedge("listen", day, "--speed", "0", "--labels", tmp_path / "a.npz").stdout.splitlines()
    assert {json.loads(line)["label"] for line in events} == {"novelty"}
    size = len(np.load(kept)["background"])
    clapedge(*listen, kept)
    assert len(np.load(kept)["background"]) == 2 * size
    assert "name another file" in clapedge(*listen, kept, "--hop", "0.5", code=2).stderr
    assert "does not end in .npz" in clapedge(*listen, tmp_path / "quiet.bin", code=2).stderr
    shutil.copy(day, tmp_path / "sound.npz")
    refused = clapedge("teach", "-o", tmp_path / "c.npz", "--background", tmp_path / "sound.npz", code=1)
    assert "holds no windows of background" in refused.stderr


def test_the_background_of_a_day_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clapedge.live.background_keeper.MOST_KEPT", 5)
    monkeypatch.setattr("clapedge.live.background_keeper.SAVED_EVERY", 3)
    path = tmp_path / "quiet.npz"
    keeper = BackgroundKeeper(path, hop=1.0, space="a-b-c", size=4)
    rows = np.eye(4, dtype=np.float32)
    for number in range(8):
        keeper.add(rows[number % 4][None])
        assert path.exists() == (number >= 2), "a power cut takes what came after the last third"
    keeper.save()
    found = np.concatenate(list(BackgroundWindows.load(path, size=4).parts()))
    np.testing.assert_array_equal(found, rows[[3, 0, 1, 2, 3]])
    with pytest.raises(UsageError, match="of the space a-b-c"):
        BackgroundKeeper(path, hop=1.0, space="x-y-z", size=4)
    with pytest.raises(AudioError, match="of another model"):
        BackgroundWindows.load(path, size=5)


def test_background_of_another_model_is_an_error(engine: Engine) -> None:
    size = engine.bundle.manifest.embedding_size
    windows = BackgroundWindows(np.ones((300, size), np.int8), 1.0, "a-b-fp32")
    with pytest.raises(AudioError, match="space a-b-fp32"):
        engine.teacher.calibrate(engine.embed_labels(["rain"]), windows, alarms=RARELY)
