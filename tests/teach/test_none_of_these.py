""" "None of these": thresholds from background, what they promise, and what results say then."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.teach.sounds import RATE, Recorder, render

from clapedge import (
    AudioError,
    ClapEdgeWarning,
    EmbeddedLabels,
    Engine,
    EventRule,
    LabelSet,
    Lesson,
    Result,
    UsageError,
)
from clapedge.scoring.explain import explain
from clapedge.teaching.background import FalseAlarms, calibrate

WORDS = ["siren", "door knock", "rain", "dog barking"]


@pytest.fixture
def background(record: Recorder) -> list[Path]:
    """Return two minutes of a site: a little noise, and a buzz now and then."""
    parts = [render("buzz" if take % 7 == 0 else "none", take, 10.0) for take in range(12)]
    return [record("site", samples=np.concatenate(parts))]


@pytest.fixture
def calibrated(engine: Engine, record: Recorder, background: list[Path]) -> EmbeddedLabels:
    """Return words and a taught label, calibrated with that background."""
    taught = engine.teach(Lesson("warble", [record("warble", take) for take in range(3)]), LabelSet.of(WORDS))
    return engine.teacher.calibrate(taught, background, alarms=FalseAlarms(20, "1000"), window=2.0, hop=1.0)


def random_labels(count: int) -> EmbeddedLabels:
    """Return labels whose embeddings do not matter."""
    rows = np.eye(count, 8, dtype=np.float32)
    return EmbeddedLabels(LabelSet.of([f"label {number}" for number in range(count)]), rows, "x")


@settings(deadline=None, max_examples=30)
@given(st.integers(200, 2000), st.integers(5, 200), st.integers(0, 2**32 - 1))
def test_as_many_windows_reach_a_threshold_as_the_promise_allows(count: int, rate: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(0.2, 0.1, (count, 3)).astype(np.float32).clip(-1, 0.99)
    share = rate / 1000
    alarms = FalseAlarms(rate, "1000")
    if share * (count + 1) < 1:
        with pytest.warns(ClapEdgeWarning, match="can promise"):
            made = calibrate(random_labels(3), [rows], alarms=alarms, hop=1.0)
        allowed = 0
    else:
        made = calibrate(random_labels(3), [rows[:100], rows[100:]], alarms=alarms, hop=1.0)
        allowed = int(share * (count + 1) + 1e-9) - 1
    limits = np.array([label.threshold for label in made.label_set.labels])
    assert ((rows >= limits).sum(axis=0) == allowed).all()


def test_the_promise_holds_on_new_background_on_average() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        rows = np.tanh(rng.standard_exponential((599, 1)).astype(np.float32) / 5)
        made = calibrate(random_labels(1), [rows], alarms=FalseAlarms(10, "1000"), hop=1.0)
        fresh = np.tanh(rng.standard_exponential(5000).astype(np.float32) / 5)
        shares.append((fresh >= np.array(made.label_set.labels[0].threshold)).mean())
    assert 0.007 < np.mean(shares) < 0.0113  # 10 in 1000, of which rank 6 of 600 is all; four standard errors


def test_too_little_background_is_said_with_numbers() -> None:
    rows = np.linspace(0, 0.5, 3600, dtype=np.float32)[:, None]
    with pytest.warns(
        ClapEdgeWarning, match=r"3600 windows .* promise 24 false alarms a label and day, not 1; .* 86400"
    ):
        made = calibrate(random_labels(1), [rows], alarms=FalseAlarms(), hop=1.0)
    assert made.rejection is not None
    assert made.rejection.share == pytest.approx(1 / 3601)
    with pytest.raises(AudioError, match="99 windows"):
        calibrate(random_labels(1), [rows[:99]], alarms=FalseAlarms(), hop=1.0)


@pytest.mark.parametrize("text", ["", "1", "0/day", "-1/day", "1/week", "x/1000", "1/day/hour"])
def test_a_rate_that_is_none_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match="not a rate"):
        FalseAlarms.parse(text)


def test_a_known_sound_fits_and_another_is_none_of_these(
    engine: Engine, record: Recorder, calibrated: EmbeddedLabels
) -> None:
    known = engine.score(record("warble", 9), calibrated)
    assert known.top.name == "warble"
    assert (known.unknown, known.fit) == (False, known.top.similarity)
    others = [engine.score(record("none", take), calibrated, duration=2.0) for take in range(70, 80)]
    unknown = [result for result in others if result.unknown]
    assert len(unknown) >= 8, "of ten; five labels were promised 2 % of the windows each"
    other = unknown[0]
    assert Result.from_dict(other.to_dict()) == other
    assert any("none of these" in sentence for sentence in explain(other))


def test_a_taught_label_asks_for_a_share_of_what_its_own_clips_reach(
    engine: Engine, record: Recorder, calibrated: EmbeddedLabels
) -> None:
    own = engine.score(record("warble", 1), calibrated).top.similarity
    threshold = calibrated.label_set.labels[-1].threshold
    assert threshold is not None
    assert 0.5 * own < threshold < 0.7 * own, "background alone, which is so unlike it, would put it far below"


def test_the_fit_of_a_label_is_the_same_in_every_set(
    engine: Engine, calibrated: EmbeddedLabels, background: list[Path]
) -> None:
    words = engine.embed_labels(LabelSet.of([*WORDS, *(f"sound number {number}" for number in range(40))]))
    alarms = FalseAlarms(20, "1000")
    large = engine.teacher.calibrate(words, background, alarms=alarms, window=2.0, hop=1.0)
    knock = Path(__file__).parents[2] / "engine/clapedge/demo_clips/door-knock.flac"
    small = engine.score(knock, calibrated)
    assert small.fit == engine.score(knock, large).fit
    assert small.top.name == "door knock"


def test_without_calibration_results_are_what_they_were(engine: Engine, record: Recorder) -> None:
    result = engine.score(record("warble", 9), WORDS)
    assert (result.fit, result.unknown) == (None, None)
    assert "fit" not in result.to_dict()
    assert "unknown" not in result.to_dict()


def test_events_are_found_of_what_fits_alone(engine: Engine, record: Recorder, calibrated: EmbeddedLabels) -> None:
    samples = np.concatenate([render("none", 5, 20.0), render("warble", 5, 5.0), render("none", 6, 10.0)])
    timeline = engine.timeline(record("day", samples=samples), calibrated)
    events = timeline.events(EventRule(on=0.1, off=0.05))
    assert [event.label for event in events] == ["warble"]
    assert abs(events[0].start - 20) <= 1
    assert [event.label for event in timeline.events(EventRule(multi=True))].count("warble") == 1
    blocks = (samples[first : first + RATE] for first in range(0, len(samples), RATE))
    ends = [one for one in engine.stream(blocks, calibrated, rule=EventRule(on=0.1, off=0.05)) if one.kind == "end"]
    assert [one.label for one in ends] == ["warble"]


def test_a_calibrated_set_is_kept_in_its_file_and_loses_what_is_taught_anew(
    engine: Engine, record: Recorder, calibrated: EmbeddedLabels, tmp_path: Path
) -> None:
    calibrated.save(tmp_path / "sounds.npz")
    again = EmbeddedLabels.load(tmp_path / "sounds.npz")
    clip = record("warble", 9)
    assert engine.score(clip, again).to_dict()["fit"] == engine.score(clip, calibrated).to_dict()["fit"]
    more = engine.teach(Lesson("warble", [record("warble", 6)]), again)
    thresholds = [label.threshold for label in more.label_set.labels]
    assert thresholds[:-1] == [label.threshold for label in again.label_set.labels[:-1]]
    assert thresholds[-1] is None
    assert engine.score(clip, more).unknown is None
