"""What the page asks beside the HTTP interface, asked without a browser."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.serve.staging import CLIPS, SIREN, made

from clapedge.engine import Engine
from clapedge.labels import LabelSet, shipped_sets
from clapedge.serve.models import load
from clapedge.serve.service import Service

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

DEMO_MODEL = CLIPS.parent / "demo_model"
TWO_LABELS = b'[[label]]\nname = "\xe8\xad\xa6\xe7\xac\x9b"\nprompts = ["siren"]\n[[label]]\nname = "rain"\n'


def client_of(service: Service) -> "TestClient":
    """Return a client of a service with its page."""
    pytest.importorskip("gradio", reason="Gradio is not installed: pip install 'clapedge[web]'")
    from fastapi.testclient import TestClient

    from clapedge.serve.app import create_app

    return TestClient(create_app(service))


@pytest.fixture(scope="module")
def client() -> Iterator["TestClient"]:
    """Return a client of the demo model's service."""
    with client_of(made()) as client:
        yield client


def test_the_page_gets_the_limits_the_sets_and_the_clips(client: "TestClient") -> None:
    facts = client.get("/page/facts").json()
    assert (facts["weights"], facts["max_upload"], facts["key"], facts["reads_words"]) == (
        "demo",
        50_000_000,
        False,
        True,
    )
    assert [preset["name"] for preset in facts["presets"]] == [None, *shipped_sets()]
    for clip in facts["clips"]:
        assert client.get(f"/page/clips/{clip['file']}").content == (CLIPS / clip["file"]).read_bytes()
        assert set(clip) == {"file", "en", "zh"}


def test_every_chinese_word_of_the_glossary_means_one_thing(client: "TestClient") -> None:
    glossary = client.get("/page/facts").json()["glossary"]
    words = [word for entry in glossary for word in entry["zh"]]
    assert len(set(words)) == len(words)
    assert all(entry["en"].isascii() for entry in glossary)


def test_a_timeline_reports_its_progress_and_ends_as_the_engines_own(client: "TestClient", tmp_path: Path) -> None:
    labels = tmp_path / "labels.toml"
    labels.write_bytes(TWO_LABELS)
    answer = client.post("/page/timeline", files={"file": SIREN.open("rb"), "label_file": ("labels.toml", TWO_LABELS)})
    *steps, last = map(json.loads, answer.text.splitlines())
    assert [set(step) for step in steps] == [{"heard", "until"}] * len(steps)
    assert steps
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = Engine.load(threads=2).timeline(SIREN, LabelSet.from_file(labels))
    assert last["edges"] == found.edges.round(3).tolist()
    assert np.array(last["probabilities"]) == pytest.approx(found.probabilities, abs=1e-4)
    assert last["events"] == json.loads(json.dumps([asdict(event) for event in found.events()]))


def test_recordings_may_be_as_large_as_those_that_are_scored(client: "TestClient") -> None:
    for path in ("/page/picture", "/page/timeline"):
        answer = client.post(path, files={"file": ("a.wav", bytes(5_000_000))}, data={"label_set": "city"})
        assert (answer.status_code, answer.json()["error"]) == (422, "AudioFormatError")


def test_a_timeline_takes_a_set_by_its_name(client: "TestClient") -> None:
    answer = client.post("/page/timeline", files={"file": SIREN.open("rb")}, data={"label_set": "city"})
    assert json.loads(answer.text.splitlines()[-1])["events"][0]["label"] == "siren"


@pytest.mark.parametrize(
    ("path", "files", "status", "found"),
    [
        ("/page/picture", {"file": ("a.wav", b"RIFF")}, 422, "a.wav"),
        ("/page/picture", {"other": ("a.wav", b"RIFF")}, 400, "other"),
        ("/page/timeline", {"file": ("a.wav", b"RIFF"), "label_file": ("l.toml", TWO_LABELS)}, 422, "a.wav"),
        ("/page/timeline", {"file": ("a.wav", b"RIFF")}, 400, "no labels"),
        ("/page/timeline", {"label_file": ("l.toml", TWO_LABELS)}, 400, "no recording"),
    ],
)
def test_what_is_wrong_with_a_request_is_reported(
    client: "TestClient", path: str, files: dict[str, Any], status: int, found: str
) -> None:
    answer = client.post(path, files=files)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert found in answer.json()["detail"]


def test_a_bundle_that_reads_no_words_offers_its_own_sets_alone(tmp_path: Path) -> None:
    service = made()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load(str(audio_only_bundle(tmp_path)), "small", service.settings, service.metrics)
    service.models.swap(model)
    with client_of(service) as client:
        facts = client.get("/page/facts").json()
        assert (facts["reads_words"], [preset["name"] for preset in facts["presets"]]) == (False, ["alarms"])
        answer = client.post("/page/timeline", files={"file": SIREN.open("rb")}, data={"label_set": "alarms"})
        assert json.loads(answer.text.splitlines()[-1])["events"][0]["label"] == "siren"


def audio_only_bundle(directory: Path) -> Path:
    """Make a bundle of the demo model's audio tower and a label set."""
    manifest = json.loads((DEMO_MODEL / "manifest.json").read_text(encoding="utf-8"))
    (directory / "labels").mkdir()
    stored = directory / "labels" / "alarms.npz"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Engine.load().embed_labels(["siren", "smoke alarm"]).save(stored)
    kept = [file for file in manifest["files"] if file["path"] == "audio.int8.onnx"]
    shutil.copy(DEMO_MODEL / "audio.int8.onnx", directory)
    content = stored.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    kept.append({"path": "labels/alarms.npz", "role": "labels", "bytes": len(content), "sha256": sha256})
    (directory / "manifest.json").write_text(json.dumps({**manifest, "files": kept}), encoding="utf-8")
    return directory
