"""Label sets that are more than words: taught by clips, calibrated with background, of novelty."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tests.serve.staging import Running, serving
from tests.teach.sounds import RATE, render

from clapedge import EmbeddedLabels, Engine, LabelSet, Lesson
from clapedge.kit.bundle_subset import copy_subset
from clapedge.serve.models import load
from clapedge.teaching.background import FalseAlarms

ALARMS = FalseAlarms(20, "1000")


def clip(kind: str, take: int) -> tuple[np.ndarray, int]:
    """Return two seconds of a kind of sound."""
    return render(kind, take), RATE


@pytest.fixture(scope="module")
def sets(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a taught set, the same with thresholds from background, and one of novelty alone."""
    folder = tmp_path_factory.mktemp("sets")
    words = LabelSet.of(["rain", "siren", "door knock"])
    taught = engine.teach(Lesson("gate", [clip("warble", take) for take in range(3)]), words)
    taught.save(folder / "yard.npz")
    background = [folder / f"{take}.wav" for take in range(36)]
    for take, path in enumerate(background):
        soundfile.write(path, render("none", take, 10.0), RATE, subtype="FLOAT")
    engine.teacher.calibrate(taught, background, alarms=ALARMS).save(folder / "site.npz")
    engine.teacher.calibrate(None, background, alarms=ALARMS, novelty=True).save(folder / "odd.npz")
    return folder


@pytest.fixture
def served(sets: Path) -> Iterator[Callable[[str], Running]]:
    """Return what serves one of them as the default set."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(serving(labels=sets / f"{name}.npz"))


def sound(folder: Path, kind: str, take: int, seconds: float = 2.0) -> bytes:
    """Return a file of a kind of sound."""
    path = folder / f"{kind}-{take}.wav"
    soundfile.write(path, render(kind, take, seconds), RATE, subtype="FLOAT")
    return path.read_bytes()


def test_a_taught_set_says_which_labels_clips_taught(served: Callable[[str], Running]) -> None:
    client = served("yard").client
    found = client.get("/v1/labels/yard").json()
    assert [label["examples"] for label in found["labels"]] == [0, 0, 0, 3]
    assert found["calibrated"] is False
    assert client.get("/v1/labels").json()["label_sets"]["yard"] == found


def test_a_taught_or_calibrated_set_is_not_put_back_as_words(served: Callable[[str], Running]) -> None:
    for name, reason in (("yard", "label 'gate' is taught by 3 clips"), ("site", "calibrated with background")):
        client = served(name).client
        found = client.get(f"/v1/labels/{name}").json()
        for method, path in ((client.put, "/v1/labels/mine"), (client.post, "/v1/labels/check")):
            refused = method(path, json=found)
            assert refused.status_code == 422
            assert reason in refused.text
        assert client.get("/v1/labels/mine").status_code == 404
        words = [label for label in found["labels"] if not label["examples"]]
        assert client.put("/v1/labels/mine", json={"labels": words}).status_code == 200


def test_a_calibrated_set_decides_none_of_these(
    engine: Engine, sets: Path, served: Callable[[str], Running], tmp_path: Path
) -> None:
    client, labels = served("site").client, EmbeddedLabels.load(sets / "site.npz")
    for kind, best in (("warble", "gate"), ("none", None)):
        content = sound(tmp_path, kind, 77)
        record = client.post("/v1/score", content=content).json()
        expected = engine.score(content, labels)
        assert record["unknown"] is (best is None)
        assert record["fit"] == pytest.approx(expected.fit, abs=1e-6)
        assert best is None or record["labels"][0]["name"] == best
    lines = client.post("/v1/timeline", content=sound(tmp_path, "warble", 78, 6.0)).text.splitlines()
    assert {json.loads(line)["label"] for line in lines} == {"gate"}
    assert client.post("/v1/timeline", content=sound(tmp_path, "none", 79, 6.0)).text == ""


def test_novelty_is_scored_and_found_over_time(served: Callable[[str], Running], tmp_path: Path) -> None:
    client = served("odd").client
    known, odd = (client.post("/v1/score", content=sound(tmp_path, kind, 80)).json() for kind in ("none", "warble"))
    assert (known["unknown"], odd["unknown"]) == (True, False)
    lines = client.post("/v1/timeline", content=sound(tmp_path, "warble", 81, 6.0)).text.splitlines()
    assert {json.loads(line)["label"] for line in lines} == {"novelty"}


def test_a_taught_set_is_served_by_a_bundle_without_text_tower(
    engine: Engine, tmp_path: Path, served: Callable[[str], Running]
) -> None:
    bundle = copy_subset(engine.bundle, tmp_path / "device", precisions=["int8"], labels=["home"], text=False)
    running = served("yard")
    service: Any = running.service
    service.models.swap(load(str(bundle.directory), "device", service.settings, service.metrics))
    record = running.client.post("/v1/score", content=sound(tmp_path, "warble", 82)).json()
    assert record["labels"][0]["name"] == "gate"
    assert "yard" in running.client.get("/v1/labels").json()["label_sets"]
