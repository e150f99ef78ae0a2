import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from clapedge.cli import cli
from clapedge.engine import Engine
from clapedge.errors import UsageError
from clapedge.labels import EmbeddedLabels
from clapedge.model.bundle import demo_directory
from clapedge.scoring.similarity import probabilities
from clapedge_calib.metrics import calibration_error
from clapedge_calib.scores import fit_temperature, fit_thresholds

pytestmark = pytest.mark.filterwarnings("ignore::clapedge.errors.ClapEdgeWarning")


def test_the_temperature_of_overconfident_scores_is_found_again() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (4000, 5))
    chances = probabilities(logits, 1.0)
    truth = np.array([generator.choice(5, p=row) for row in chances])
    similarity = (3 * logits / 100).astype(np.float32)  # three times too sure
    found = fit_temperature(similarity, truth, logit_scale=100.0)
    assert found == pytest.approx(3.0, rel=0.1)
    before, after = (calibration_error(probabilities(similarity, 100 / each), truth) for each in (1.0, found))
    assert after < before / 3


def test_a_threshold_parts_a_labels_clips_from_the_others() -> None:
    similarity = np.array([[0.9, 0.1], [0.7, 0.1], [0.3, 0.1], [0.1, 0.1]], np.float32)
    first, second = fit_thresholds(similarity, np.array([0, 0, 1, 1]))
    assert first == pytest.approx(0.5)
    assert second is not None
    assert second < 0.1
    assert fit_thresholds(similarity, np.array([0, 0, 0, 0]))[1] is None


def test_a_label_set_keeps_its_temperature_and_thresholds_on_disk(tones: Path, tmp_path: Path) -> None:
    target = tmp_path / "tones.npz"
    more = tmp_path / "more"
    for name in ("low_hum", "whistle"):
        (more / name).mkdir(parents=True)
        for number in range(14):
            shutil.copy(tones / name / f"{number % 11 + 1}.wav", more / name / f"{number}.wav")
    done = CliRunner().invoke(
        cli,
        ["calibrate", str(demo_directory()), "--audio", str(more), "--scores", str(target)],
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    assert "ECE" in done.stdout
    labels = EmbeddedLabels.load(target)
    assert all(label.threshold is not None for label in labels.label_set.labels)


def test_recordings_without_a_class_are_refused(tones: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli,
        ["calibrate", str(demo_directory()), "--audio", str(tones / "whistle"), "--scores", str(tmp_path / "a.npz")],
    )
    assert isinstance(done.exception, UsageError)
    assert "has no label" in str(done.exception)


def test_a_temperature_changes_probabilities_and_never_similarities(tones: Path) -> None:
    path = tones / "whistle" / "3.wav"
    with Engine.load(precision="fp32") as engine:
        plain = engine.embed_labels(["low hum", "whistle"])
        cool, warm = (engine.score(path, replace(plain, temperature=each)) for each in (1.0, 4.0))
    assert [label.similarity for label in cool.labels] == [label.similarity for label in warm.labels]
    assert warm.top.probability < cool.top.probability


def test_a_label_set_of_an_older_version_has_the_temperature_one(tmp_path: Path) -> None:
    with Engine.load(precision="fp32") as engine:
        labels = engine.embed_labels(["rain", "siren"])
    labels.save(tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as data:
        np.savez(tmp_path / "old.npz", **{name: data[name] for name in data.files if name != "temperature"})
    assert EmbeddedLabels.load(tmp_path / "old.npz").temperature == 1.0
