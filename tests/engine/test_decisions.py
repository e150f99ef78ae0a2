"""Decisions: one best label or several apart, when they are unsure, and how a result explains itself."""

import csv
import io
import json
import re
import sys
from pathlib import Path

import pytest

import clapedge
from clapedge.cli import main
from clapedge.errors import UsageError
from clapedge.labels import Label, LabelSet
from clapedge.scoring.decision import DecidedScore, Decision, Score
from clapedge.scoring.explain import explain
from clapedge.scoring.result import Coverage, Provenance, Result, Timing
from clapedge.scoring.similarity import decide

LABELS = LabelSet((Label("rain", ("rain",), threshold=0.5), Label("wind", ("wind",)), Label("dog", ("dog",))))
SCORES = (Score("rain", 0.6, 0.45), Score("wind", 0.3, 0.31), Score("dog", 0.1, 0.1))
SIREN = Path(clapedge.__file__).parent / "demo_clips" / "siren.flac"


def result(decision: Decision | None = None, *warnings: str) -> Result:
    """Return a result of the scores above."""
    scores, unsure = decide(SCORES, LABELS, decision)
    made_by = Provenance("model", "pretrained", "fp32", "cpu")
    return Result("yard.wav", scores, unsure, Coverage(0, 10, 40), warnings, made_by, Timing(1, 1, 1, 3))


def test_without_multi_the_scores_stay_as_they_are() -> None:
    scores, unsure = decide(SCORES, LABELS)
    assert scores is SCORES
    assert unsure is False


@pytest.mark.parametrize(("margin", "unsure"), [(0.0, False), (0.29, False), (0.31, True), (1.0, True)])
def test_a_result_is_unsure_below_the_margin_that_was_asked_for(margin: float, unsure: bool) -> None:  # noqa: FBT001
    assert decide(SCORES, LABELS, Decision(unsure_margin=margin))[1] is unsure


def test_with_multi_each_label_has_its_own_threshold_or_the_given_one() -> None:
    scores, unsure = decide(SCORES, LABELS, Decision(multi=True, threshold=0.2))
    assert scores == (
        DecidedScore("rain", 0.6, 0.45, 0.5, present=False),
        DecidedScore("wind", 0.3, 0.31, 0.2, present=True),
        DecidedScore("dog", 0.1, 0.1, 0.2, present=False),
    )
    assert unsure is False


def test_with_multi_all_or_none_may_be_present() -> None:
    everywhere = LabelSet.of(["rain", "wind", "dog"])
    for threshold, present in ((0.05, True), (0.9, False)):
        scores, _ = decide(SCORES, everywhere, Decision(multi=True, threshold=threshold))
        assert {score.present for score in scores if isinstance(score, DecidedScore)} == {present}


def test_with_multi_a_similarity_near_its_threshold_is_unsure() -> None:
    assert decide(SCORES, LABELS, Decision(multi=True, threshold=0.3))[1] is True
    assert decide(SCORES, LABELS, Decision(multi=True, threshold=0.3, unsure_margin=0.005))[1] is False


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"unsure_margin": -0.1}, "margin of unsure is -0.1"),
        ({"unsure_margin": float("nan")}, "margin of unsure is nan"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": float("nan")}, "threshold is nan"),
    ],
)
def test_a_decision_that_decides_nothing_is_refused(options: dict[str, float], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Decision(**options)  # type: ignore[arg-type]


def test_a_result_explains_similarity_margin_span_and_warnings() -> None:
    assert explain(result(None, "the recording is clipped")) == (
        "similarity: +0.450 between the recording and 'rain'",
        "next: +0.310 for 'wind', 0.140 less",
        "margin: 30.0% of probability before 'wind'; sure, since that is not below 10.0%",
        "heard: 0 to 10 s of 40 s (25 %)",
        "mind: the recording is clipped",
    )


def test_an_unsure_result_says_so() -> None:
    decision = Decision(unsure_margin=0.5)
    assert "unsure, since that is below 50.0%" in explain(result(decision), decision)[2]


def test_labels_apart_explain_their_distance_to_the_threshold() -> None:
    decision = Decision(multi=True, threshold=0.3)
    sentences = explain(result(decision), decision)
    assert sentences[0] == "'rain': similarity +0.450 is 0.050 below its threshold 0.5"
    assert sentences[1] == "'wind': similarity +0.310 is 0.010 above its threshold 0.3, unsure within 0.02"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run `clapedge score` on a demo clip, and return its exit code."""
    words = ["clapedge", "score", str(SIREN), "-l", "siren,rain,door knock", *arguments]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_decides_labels_apart_and_explains(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--multi", "--explain") == 0
    out = capsys.readouterr().out
    assert re.search(r"siren +\+0\.\d{3} >= 0\.300 +present", out)
    assert re.search(r"rain +[+-]\d\.\d{3} < +0\.300 +absent", out)
    assert "'siren': similarity" in out
    assert "heard: 0 to 4 s of 4 s (100 %)" in out


def test_records_gain_threshold_and_presence_with_multi_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, apart = (
        {"name", "probability", "similarity"},
        {"name", "probability", "similarity", "threshold", "present"},
    )
    for arguments, fields in (((), plain), (("--multi",), apart)):
        assert run(monkeypatch, *arguments, "--format", "jsonl") == 0
        assert {frozenset(label) for label in json.loads(capsys.readouterr().out)["labels"]} == {frozenset(fields)}
        assert run(monkeypatch, *arguments, "--format", "csv") == 0
        rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        assert [row.get("present") for row in rows] == (["true", "false", "false"] if arguments else [None] * 3)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--explain", "--format", "csv"), "--explain goes with --format table"),
        (("--threshold", "0.4"), "--threshold goes with --multi"),
        (("--unsure-margin", "2"), "margin of unsure is 2"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], complaint: str
) -> None:
    assert run(monkeypatch, *arguments) == 2
    assert complaint in capsys.readouterr().err
