"""What the routes answer is what the command line answers."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tests.serve.staging import CLIPS, SIREN, Running

from clapedge.engine import Engine
from clapedge.events.rules import EventRule
from clapedge.labels import LabelSet, shipped_sets
from clapedge.output.columns import event_record
from clapedge.scoring.decision import Decision
from clapedge.scoring.result import Result
from clapedge.serve.schemas import ResultRecord

WORDS = "a siren,rain，狗叫"


def plain(result: Result) -> dict[str, object]:
    """Return the record of a result, as JSON holds it, less the time and the name of the file."""
    record = json.loads(json.dumps(result.to_dict()))
    return {key: value for key, value in record.items() if key not in {"ms", "file"}}


def same(answer: dict[str, object], result: Result) -> bool:
    """Return whether an answer is the record of a result, to the last digit."""
    return {key: value for key, value in answer.items() if key not in {"ms", "file"}} == plain(result)


@pytest.fixture(scope="session")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recording of a minute in which several things happen."""
    samples = [soundfile.read(path)[0] for path in sorted(CLIPS.glob("*.flac"))] * 4
    path = tmp_path_factory.mktemp("long") / "long.flac"
    soundfile.write(path, np.concatenate(samples), 48_000)
    return path


def test_a_form_and_a_bare_body_give_the_record_of_the_command_line(running: Running, engine: Engine) -> None:
    expected = engine.score(SIREN, LabelSet.parse(WORDS))
    form = running.client.post("/v1/score", files={"file": SIREN.open("rb")}, data={"labels": WORDS})
    bare = running.client.post("/v1/score", params={"labels": WORDS.split(",")}, content=SIREN.read_bytes())
    assert form.status_code == bare.status_code == 200
    assert same(form.json(), expected)
    assert same(bare.json(), expected)
    assert form.json()["file"] == "siren.flac"
    assert set(form.json()) == set(ResultRecord.model_fields)


def test_options_mean_what_they_mean_on_the_command_line(running: Running, engine: Engine, long: Path) -> None:
    fields = {"window": "slide", "hop": "5", "start": "2.5", "duration": "30", "pad": "zero", "resample": "HQ"}
    decided = {"multi": "true", "threshold": "0.2", "label_set": "home", "top_k": "2"}
    answer = running.client.post("/v1/score", files={"file": long.open("rb")}, data={**fields, **decided})
    expected = engine.score(
        long,
        LabelSet.from_file(shipped_sets()["home"]),
        decision=Decision(multi=True, threshold=0.2),
        window="slide",
        hop=5.0,
        start=2.5,
        duration=30.0,
        pad="zero",
        resample="HQ",
    )
    assert len(answer.json()["labels"]) == 2
    assert {**answer.json(), "labels": None, "ms": None, "file": None} == {
        **plain(expected),
        "labels": None,
        "ms": None,
        "file": None,
    }
    assert answer.json()["labels"] == plain(expected)["labels"][:2]  # type: ignore[index]


def test_requests_side_by_side_give_the_bits_of_a_lone_one(running: Running) -> None:
    def ask(path: Path) -> object:
        return running.client.post("/v1/score", params={"label_set": "city"}, content=path.read_bytes()).json()[
            "labels"
        ]

    paths = sorted(CLIPS.glob("*.flac"))
    alone = [ask(path) for path in paths]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(ask, paths * 4)) == alone * 4


def test_a_label_file_comes_along(running: Running, engine: Engine) -> None:
    files: dict[str, Any] = {
        "file": SIREN.open("rb"),
        "label_file": ("labels.toml", (CLIPS / "labels.toml").read_bytes()),
    }
    expected = engine.score(SIREN, LabelSet.from_file(CLIPS / "labels.toml"))
    assert same(running.client.post("/v1/score", files=files).json(), expected)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("labels.toml", b'extends = "/etc/passwd"', "extends"),
        ("labels.toml", b"not toml", "not TOML"),
        ("labels.npz", b"x", ".toml"),
        ("labels.txt", b"\xff\xfa", "UTF-8"),
        ("../../labels.csv", b"wrong,columns\n1,2\n", "columns"),
        ("labels.txt", b"", "no labels"),
        ("labels.txt", b"x" * 300_000, "longer"),
    ],
)
def test_a_label_file_that_cannot_be_used_is_reported(running: Running, name: str, content: bytes, found: str) -> None:
    answer = running.client.post("/v1/score", files={"file": SIREN.open("rb"), "label_file": (name, content)})
    assert answer.status_code in {400, 422}
    assert found in answer.json()["detail"]
    assert "/tmp" not in answer.json()["detail"]  # noqa: S108 - where label files are read from is nobody's business


@pytest.mark.parametrize(
    ("fields", "status", "found"),
    [
        ({}, 422, "names no labels"),
        ({"labels": "rain", "label_set": "home"}, 422, "both labels and label_set"),
        ({"label_set": "nothing"}, 404, "there are: "),
        ({"label_set": "home", "template": "x {}"}, 422, "template goes with labels"),
        ({"labels": "rain", "threshold": "0.5"}, 422, "threshold goes with multi"),
        ({"labels": "rain,rain"}, 422, "is given twice"),
        ({"labels": "rain", "window": "middle"}, 422, "window"),
        ({"labels": "rain", "start": "nan"}, 422, "start"),
        ({"labels": "rain", "start": "100"}, 422, "start earlier"),
        ({"labels": "rain", "colour": "red"}, 422, "colour"),
        ({"labels": "rain", "trim_silence": "-60"}, 422, "duration"),
    ],
)
def test_what_cannot_be_requested_is_a_problem_that_ends_with_the_fix(
    running: Running, fields: dict[str, str], status: int, found: str
) -> None:
    for answer in (
        running.client.post("/v1/score", files={"file": SIREN.open("rb")}, data=fields),
        running.client.post("/v1/score", params=fields, content=SIREN.read_bytes()),
    ):
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert found in answer.json()["detail"]
        assert answer.json()["status"] == status
        assert answer.json()["exit_code"] in {1, 2}


def test_a_field_in_the_query_and_in_the_form_is_refused(running: Running) -> None:
    query = {"labels": "rain"}
    answer = running.client.post("/v1/score", params=query, files={"file": SIREN.open("rb")}, data={"labels": "wind"})
    assert answer.status_code == 400
    assert "labels is in the query and in the form" in answer.json()["detail"]


@pytest.mark.parametrize("rule", [{}, {"on": 0.2, "off": 0.1}, {"merge_gap": 3.0, "min_duration": 2.0}])
def test_a_timeline_has_the_lines_of_the_command_line_in_their_order(
    running: Running, engine: Engine, long: Path, rule: dict[str, float]
) -> None:
    labels = LabelSet.from_file(CLIPS / "labels.toml")
    found = engine.timeline(str(long), labels, window=3.0, hop=0.5)
    events = found.events(EventRule(**rule))  # type: ignore[arg-type]
    expected = [event_record("long.flac", event, found.provenance) for event in events]
    fields = {"window": "3", "hop": "0.5", **{name: str(value) for name, value in rule.items()}}
    files: dict[str, Any] = {
        "file": long.open("rb"),
        "label_file": ("labels.toml", (CLIPS / "labels.toml").read_bytes()),
    }
    answer = running.client.post("/v1/timeline", data={**fields, "progress": "true"}, files=files)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line for line in lines if "label" in line] == expected
    assert len(expected) > 5
    positions = [line["heard"] for line in lines if "heard" in line]
    assert positions == sorted(positions)
    assert len(positions) > 5
    last = max(index for index, line in enumerate(lines) if "heard" in line)
    assert any("label" in line for line in lines[:last]), "no event came before all was scored"


def test_a_timeline_that_fails_before_its_first_line_has_a_status_of_its_own(running: Running) -> None:
    answer = running.client.post("/v1/timeline", params={"label_set": "home"}, content=b"no audio")
    assert answer.status_code == 422
    assert "not audio that can be decoded" in answer.json()["detail"]


def test_embeddings_are_those_of_the_engine(running: Running, engine: Engine) -> None:
    audio = running.client.post("/v1/embed/audio", content=SIREN.read_bytes()).json()
    assert np.array_equal(np.float32(audio["embedding"]), engine.embed_audio([SIREN])[0])
    prompts = ["This is a sound of rain.", "a dog"]
    text = running.client.post("/v1/embed/text", json={"prompts": prompts}).json()
    assert np.array_equal(np.float32(text["embeddings"]), engine.embed_text(prompts))


def test_answers_and_the_list_of_models_name_the_embedding_space(running: Running, engine: Engine) -> None:
    space = engine.provenance.space
    (serving, *_) = running.client.get("/v1/models").json()["models"]
    audio = running.client.post("/v1/embed/audio", content=SIREN.read_bytes()).json()
    text = running.client.post("/v1/embed/text", json={"prompts": ["rain"]}).json()
    assert (serving["space"], audio["space"]) == (space, space)
    assert text["space"] == space.partition("-")[0]


def test_the_default_label_set_answers_requests_that_name_none(running: Running, engine: Engine) -> None:
    service = running.service
    service.label_store.default = "home"
    try:
        answer = running.client.post("/v1/score", content=SIREN.read_bytes())
    finally:
        service.label_store.default = None
    assert same(answer.json(), engine.score(SIREN, LabelSet.from_file(shipped_sets()["home"])))


def test_what_was_wrong_with_a_recording_follows_its_events(running: Running) -> None:
    torn = SIREN.read_bytes()[:-20_000]
    answer = running.client.post("/v1/timeline", params={"label_set": "home", "progress": "1"}, content=torn)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert list(lines[-1]) == ["warnings"]
    assert lines[-1]["warnings"]
