"""Timelines: where events begin and end, and whether planted ones are found."""

import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import clapedge
from clapedge import EmbeddedLabels, Engine, Label, LabelSet, audio
from clapedge.arrays import Float32Array
from clapedge.errors import AudioFileNotFoundError, ClapEdgeWarning, UsageError
from clapedge.events import timeline
from clapedge.events.event import Event
from clapedge.events.rules import EventRule, Span, hysteresis, merge_close, trim_ends
from clapedge.scoring.result import Coverage, Provenance

RATE = 48_000
CLIPS = Path(clapedge.__file__).parent / "demo_clips"
PLANTED = {
    "siren": (5.0, 4.0),
    "smoke alarm": (15.3, 5.0),
    "telephone ringing": (27.6, 6.0),
    "bird chirping": (41.0, 5.0),
    "church bell": (54.7, 6.0),
}
"""What is planted: from which second on, and for how many."""
SECONDS = 70

scores_of_a_label = st.lists(st.floats(0, 1), max_size=40)
spans_in_order = st.lists(st.floats(0, 5), max_size=20).map(
    lambda steps: [Span(float(end - step / 2), float(end)) for step, end in zip(steps, np.cumsum(steps), strict=True)]
)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Open the demo model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClapEdgeWarning)
        with Engine.load() as opened:
            yield opened


@pytest.fixture(scope="module")
def labels(engine: Engine) -> EmbeddedLabels:
    """Return the labels of what is planted, and the noise around it as a hidden one."""
    shown = tuple(Label(name, (f"This is a sound of {name}.",)) for name in PLANTED)
    return engine.embed_labels(LabelSet((*shown, Label("noise", ("white noise",), hidden=True))))


@pytest.fixture(scope="module")
def planted() -> Float32Array:
    """Make a recording of noise with demo sounds at known times."""
    samples = (0.003 * np.random.default_rng(0).standard_normal(SECONDS * RATE)).astype(np.float32)
    for name, (start, seconds) in PLANTED.items():
        sound = audio.read(CLIPS / f"{name.replace(' ', '-')}.flac").samples
        place = slice(round(start * RATE), round((start + seconds) * RATE))
        samples[place] += np.resize(sound, place.stop - place.start)
    return np.clip(samples, -1, 1)


@pytest.fixture(scope="module")
def found(engine: Engine, labels: EmbeddedLabels, planted: Float32Array) -> timeline.Timeline:
    """Return the timeline of the planted recording, in windows of 2 s."""
    return engine.timeline(planted, labels, window=2.0, hop=1.0)


def test_planted_events_are_found_within_one_hop_and_nothing_else(found: timeline.Timeline) -> None:
    events = found.events(EventRule(merge_gap=1.5, min_duration=1.0))
    assert [event.label for event in events] == list(PLANTED)
    for event, (start, seconds) in zip(events, PLANTED.values(), strict=True):
        assert abs(event.start - start) <= 1.0
        assert abs(event.end - (start + seconds)) <= 1.0
        assert event.start <= event.peak <= event.end
        assert event.probability > 0.9


def test_with_no_settings_at_all_planted_events_are_found_within_one_hop(
    engine: Engine, labels: EmbeddedLabels, planted: Float32Array
) -> None:
    events = engine.timeline(planted, labels).events()
    hits = {
        event.label
        for event in events
        for start, seconds in [PLANTED[event.label]]
        if max(abs(event.start - start), abs(event.end - start - seconds)) <= timeline.HOP_SECONDS
    }
    assert 2 * len(hits) / (len(PLANTED) + len(events)) >= 0.9


@pytest.mark.parametrize(("hop", "window"), [(1.0, 2.0), (0.1, 1.0), (2.5, 5.0), (10.0, 10.0), (1e9, 10.0)])
def test_a_window_that_nobody_chose_is_twice_the_hop_as_far_as_that_goes(hop: float, window: float) -> None:
    assert timeline.default_window(hop) == window


def test_labels_apart_find_them_by_similarity_too(found: timeline.Timeline) -> None:
    events = found.events(EventRule(multi=True, on=0.4, merge_gap=1.5, min_duration=1.0))
    heard = {event.label: event for event in events}
    assert set(heard) == set(PLANTED)
    assert all(abs(heard[name].start - start) <= 1.0 for name, (start, _) in PLANTED.items())


def test_a_timeline_covers_the_recording_without_gaps(found: timeline.Timeline) -> None:
    assert found.edges[0] == 0.0
    assert found.edges[-1] == SECONDS
    assert (np.diff(found.edges) > 0).all()
    assert ((found.edges[:-1] <= found.centres) & (found.centres <= found.edges[1:])).all()
    assert found.probabilities.shape == found.similarities.shape == (len(found.centres), len(PLANTED))
    assert (found.probabilities.sum(axis=1) < 1).all()


def test_a_part_of_a_recording_is_placed_in_the_whole(
    engine: Engine, labels: EmbeddedLabels, planted: Float32Array
) -> None:
    part = engine.timeline(planted, labels, window=2.0, hop=1.0, start=10.0, duration=15.0)
    (event,) = part.events(EventRule(min_duration=1.0))
    assert (part.edges[0], part.edges[-1]) == (10.0, 25.0)
    assert event.label == "smoke alarm"
    assert abs(event.start - 15.3) <= 1.0


def test_a_window_scores_as_its_span_alone(engine: Engine, labels: EmbeddedLabels, planted: Float32Array) -> None:
    whole = engine.timeline(planted[: 12 * RATE], labels, window=3.0, hop=0.7)
    alone = engine.score(planted, labels, start=4.2, duration=3.0)
    index = int(np.abs(whole.centres - 5.7).argmin())
    expected = {score.name: score.similarity for score in alone.labels}
    np.testing.assert_allclose(whole.similarities[index], [expected[name] for name in whole.labels], atol=1e-6)


def test_a_recording_shorter_than_a_window_is_one_window(engine: Engine, labels: EmbeddedLabels) -> None:
    short = engine.timeline(np.zeros(RATE, np.float32), labels)
    assert short.edges.tolist() == [0.0, 1.0]
    assert short.centres.tolist() == [0.5]


@pytest.mark.parametrize("samples", [1, 24, 100])
def test_a_recording_of_no_length_has_an_event_too(engine: Engine, samples: int) -> None:
    found = engine.timeline(np.ones(samples, np.float32), ["a siren", "rain"])
    assert len(found.events(EventRule(on=0.0, off=0.0))) == 2


def test_a_stream_reports_its_position_up_to_the_end(engine: Engine, planted: Float32Array) -> None:
    stream = engine.embed_stream(planted[: 30 * RATE], **timeline.window_options(5.0, 5.0), batch=1)
    reached = [(batch.position, batch.end) for batch in stream]
    assert reached[-1] == (30.0, 30.0)
    assert reached == sorted(reached)
    assert len(reached) > 1


def test_what_cannot_be_is_refused(engine: Engine, labels: EmbeddedLabels) -> None:
    with pytest.raises(UsageError, match="leaves gaps between windows"):
        engine.timeline(np.zeros(RATE, np.float32), labels, window=2.0, hop=3.0)
    with pytest.raises(UsageError, match="10 s long at most"):
        engine.timeline(np.zeros(RATE, np.float32), labels, window=11.0)
    with pytest.raises(AudioFileNotFoundError):
        engine.timeline("none.wav", labels)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"on": 1.5}, "threshold on is 1.5"),
        ({"on": float("nan")}, "threshold on is nan"),
        ({"on": -0.2}, "from 0 to 1"),
        ({"off": 0.2}, "off is given without on"),
        ({"on": 0.4, "off": 0.6}, "lies above on"),
        ({"min_duration": -1.0}, "min_duration is -1.0 s"),
        ({"merge_gap": float("inf")}, "merge_gap is inf s"),
    ],
)
def test_a_rule_that_finds_nothing_is_refused(options: dict[str, float], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        EventRule(**options)  # type: ignore[arg-type]


def test_thresholds_come_from_the_rule_the_label_or_the_default_in_this_order() -> None:
    assert EventRule().thresholds(0.4) == (0.5, 0.3)
    assert EventRule(on=0.2).thresholds(None) == (0.2, 0.2)
    assert EventRule(on=0.9, off=0.8).thresholds(None) == (0.9, 0.8)
    assert EventRule(multi=True).thresholds(None) == (0.3, 0.25)
    assert EventRule(multi=True).thresholds(0.0) == (0.0, -0.05)
    assert EventRule(multi=True, on=0.6, off=0.1).thresholds(0.4) == (0.6, 0.1)


@given(scores_of_a_label, st.floats(0, 1), st.floats(0, 1))
def test_runs_begin_at_on_end_below_off_and_leave_out_nothing(scores: list[float], one: float, other: float) -> None:
    off, on = sorted((one, other))
    runs = list(hysteresis(scores, on, off))
    inside = {index for first, stop in runs for index in range(first, stop)}
    assert all(scores[first] >= on for first, _ in runs)
    assert all(scores[index] >= off for index in inside)
    assert all(stop == len(scores) or scores[stop] < off for _, stop in runs)
    assert all(score < on for index, score in enumerate(scores) if index not in inside)
    assert all(earlier[1] < later[0] for earlier, later in itertools.pairwise(runs))


@given(spans_in_order, st.floats(0, 5))
def test_merged_spans_are_farther_apart_than_the_gap_and_cover_the_same(spans: list[Span], gap: float) -> None:
    joined = list(merge_close(spans, gap))
    assert all(later.start - earlier.end > gap for earlier, later in itertools.pairwise(joined))
    assert all(any(one.start <= span.start and span.end <= one.end for one in joined) for span in spans)
    assert {span.start for span in joined} <= {span.start for span in spans}
    assert {span.end for span in joined} <= {span.end for span in spans}
    assert list(merge_close(joined, gap)) == joined


@given(st.floats(0, 10), st.floats(0.1, 10), st.floats(0, 5))
def test_a_trimmed_span_keeps_half_of_itself_around_its_middle(start: float, seconds: float, trim: float) -> None:
    span = Span(start + 0.5, start + 0.5 + seconds)
    short = trim_ends(span, trim, Span(0.0, 100.0))
    assert short.end - short.start >= seconds / 2 - 1e-9
    assert short.start + short.end == pytest.approx(span.start + span.end)
    assert trim_ends(span, trim, span) == span


def test_events_are_sorted_and_short_ones_left_out() -> None:
    scores = np.zeros((10, 2))
    scores[2:8, 0] = 0.9
    scores[1, 1] = scores[5:9, 1] = 0.6
    coverage, about = Coverage(0.0, 10.0, 10.0), Provenance("model", "demo", "fp32", "cpu")
    edges = np.arange(11.0)
    one = timeline.Timeline(
        *("x.wav", ("rain", "wind"), (None, None), 1.0, edges[:-1] + 0.5, edges),
        *(scores, scores.astype(np.float32), coverage, (), about),
    )
    assert [(event.label, event.start, event.end) for event in one.events()] == [
        ("wind", 1.25, 1.75),
        ("rain", 2.25, 7.75),
        ("wind", 5.25, 8.75),
    ]
    assert one.events(EventRule(min_duration=2.0))[0] == Event("rain", 2.25, 7.75, 2.5, 0.9, float(np.float32(0.9)))
    assert [event.label for event in one.events(EventRule(merge_gap=4.0))] == ["wind", "rain"]
