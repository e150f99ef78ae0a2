"""Named label sets: listed, put, checked, kept within bounds."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from tests.serve.staging import CLIPS, SIREN, made

from clapedge.errors import LabelError
from clapedge.labels import Label, LabelSet, shipped_sets
from clapedge.serve.app import create_app
from clapedge.serve.errors import UnknownError
from clapedge.serve.label_store import LabelStore
from clapedge.serve.settings import Settings

PUT = {"labels": [{"name": "警报", "prompts": ["a siren"], "threshold": 0.2}, {"name": "rain", "hidden": True}]}
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(lambda text: text.strip())


@pytest.fixture
def client(app: Any) -> Any:  # noqa: ANN401 - a generator of clients
    """Yield a client of a service with ordinary limits."""
    with TestClient(app) as one:
        yield one


def test_a_set_that_is_put_can_be_named_listed_and_deleted(client: TestClient) -> None:
    put = client.put("/v1/labels/mine", json=PUT)
    assert put.status_code == 200
    assert put.json()["labels"][1]["prompts"] == ["This is a sound of rain."]
    assert client.get("/v1/labels/mine").json() == put.json()
    assert {"mine", *shipped_sets()} <= set(client.get("/v1/labels").json()["label_sets"])
    answer = client.post("/v1/score", params={"label_set": "mine"}, content=SIREN.read_bytes())
    assert [label["name"] for label in answer.json()["labels"]] == ["警报"]
    assert client.delete("/v1/labels/mine").status_code == 204
    assert client.get("/v1/labels/mine").status_code == 404
    assert client.delete("/v1/labels/mine").status_code == 404


@pytest.mark.parametrize("name", ["..", "a.b", "x" * 41, "-x", "%2e%2e%2fx", "a%2Fb", "a%00"])
def test_a_name_that_could_lead_anywhere_names_nothing(client: TestClient, name: str) -> None:
    assert client.put(f"/v1/labels/{name}", json=PUT).status_code in {404, 405, 422}


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ({"labels": []}, "no labels"),
        ({"labels": [{"name": "a"}, {"name": "a"}]}, "twice"),
        ({"labels": [{"name": " "}]}, "no words"),
        ({"labels": [{"name": "a", "threshold": 2}]}, "threshold"),
        ({"labels": [{"name": "a", "colour": "red"}]}, "colour"),
        ({"labels": [{"name": "a", "prompts": ["x" * 501]}]}, "501 characters"),
        ({"labels": [{"name": str(number)} for number in range(201)]}, "201 labels"),
        ({"labels": [{"name": "a", "prompts": ["x"] * 1001}]}, "1002"),
        ({"labels": [{"name": "\ud800"}]}, "UTF-8"),
        ({"labels": [{"name": "a"}], "template": "no place"}, "{}"),
        ({"labels": [{"name": "a" * 100}], "template": "{}" * 100}, "10000 characters"),
    ],
)
def test_a_set_that_cannot_be_scored_against_is_refused(client: TestClient, record: dict[str, Any], found: str) -> None:
    answer = client.put("/v1/labels/mine", content=json.dumps(record), headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert found in answer.json()["detail"]


def test_advice_is_that_of_the_command_line(client: TestClient) -> None:
    advice = client.post("/v1/labels/check", json={"labels": [{"name": "a"}, {"name": "other noises"}]}).json()[
        "advice"
    ]
    assert {one["rule"] for one in advice} >= {"count", "vague"}
    assert all(one["found"] and one["reason"] and one["better"] for one in advice)


def test_sets_are_kept_in_a_directory_if_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "yard.txt").write_text("a dog\nrain\n")
    (tmp_path / "bad name.txt").write_text("x")
    with TestClient(create_app(made(labels_dir=tmp_path), page=False)) as client:
        assert client.put("/v1/labels/mine", json=PUT).status_code == 200
        assert {"mine", "yard"} <= set(client.get("/v1/labels").json()["label_sets"])
        kept = LabelSet.from_file(tmp_path / "mine.toml")
        assert kept.labels[0] == Label("警报", ("a siren",), 0.2, hidden=False)
        assert client.delete("/v1/labels/mine").status_code == 204
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad name.txt", "yard.txt"]


def test_what_is_put_is_before_a_file_of_that_name_and_a_bad_file_stops_no_other(tmp_path: Path) -> None:
    (tmp_path / "yard.txt").write_text("a dog\nrain\n")
    label_store = LabelStore(Settings(labels_dir=tmp_path))
    label_store.put("yard", LabelSet.of(["wind", "hail"]))
    assert [label.name for label in label_store.get("yard").labels] == ["wind", "hail"]
    (tmp_path / "broken.toml").write_text("label = [")
    assert [label.name for label in label_store.get("yard").labels] == ["wind", "hail"]
    with pytest.raises(LabelError, match="broken"):
        label_store.get("broken")
    assert "yard" in label_store.sets()
    assert "broken" not in label_store.sets()
    label_store.put("more", LabelSet.of(["wind"]))
    label_store.delete("yard")
    assert [label.name for label in label_store.get("yard").labels] == ["a dog", "rain"]
    with pytest.raises(UnknownError, match="stay"):
        label_store.delete("yard")
    assert (tmp_path / "yard.txt").exists()


def test_a_directory_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    place = tmp_path / "labels"
    place.mkdir()
    with TestClient(create_app(made(labels_dir=place), page=False)) as client:
        (place / "mine.toml.tmp").mkdir()
        answer = client.put("/v1/labels/mine", json=PUT)
    assert answer.status_code == 503
    assert "--labels-dir" in answer.json()["detail"]


def test_no_more_sets_are_kept_than_the_limit_says(tmp_path: Path) -> None:
    for settings_ in (Settings(max_sets=2), Settings(max_sets=2, labels_dir=tmp_path)):
        label_store = LabelStore(settings_)
        label_set = LabelSet.of(["rain", "wind"])
        for name in ("one", "two", "one"):
            label_store.put(name, label_set)
        with pytest.raises(Exception, match="delete one first"):
            label_store.put("three", label_set)


def test_the_set_of_the_service_is_first_and_stays(tmp_path: Path) -> None:
    label_store = LabelStore(Settings(labels=CLIPS / "labels.toml"))
    assert next(iter(label_store.sets())) == label_store.default == "labels"
    with pytest.raises(Exception, match="service's own"):
        label_store.put("labels", LabelSet.of(["rain"]))
    with pytest.raises(LabelError, match="not a directory"):
        LabelStore(Settings(labels_dir=tmp_path / "nothing"))


@given(
    st.lists(
        st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=3)), min_size=1, max_size=4, unique_by=lambda x: x[0]
    )
)
@settings(max_examples=60, deadline=None)
def test_what_is_put_is_read_back_from_the_directory_as_it_was(labels: list[tuple[str, list[str]]]) -> None:
    label_set = LabelSet(tuple(Label(name, tuple(prompts), -0.5) for name, prompts in labels))
    with tempfile.TemporaryDirectory() as directory:
        label_store = LabelStore(Settings(labels_dir=Path(directory)))
        label_store.put("mine", label_set)
        assert label_store.get("mine") == label_set


def test_many_label_sets_leave_no_growth(client: TestClient) -> None:
    service = client.app.state.service  # type: ignore[attr-defined]
    body = SIREN.read_bytes()
    for number in range(80):
        assert client.post("/v1/score", params={"labels": f"a{number},b"}, content=body).status_code == 200
    with service.models.using() as model:
        assert len(model.engine._encoder._embedded) <= 64
    hits = service.metrics.registry.get_sample_value("clapedge_label_sets_total", {"cache": "miss"})
    assert hits == 80
