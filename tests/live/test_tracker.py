"""Tracking: events that are reported as they happen are those that a timeline finds afterwards."""

import itertools
from collections.abc import Sequence

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from clapedge.events.event import Event
from clapedge.events.rules import EventRule, Span
from clapedge.events.timeline import Timeline
from clapedge.events.tracker import EventUpdate, Tracker
from clapedge.scoring.result import Coverage, Provenance

LABELS = ("a", "b")


def timeline_of(scores: Sequence[Sequence[float]], *, window: float, hop: float, rest: float) -> Timeline:
    """Return a timeline of given scores, the last window ending `rest` seconds after the one before it."""
    starts = np.arange(len(scores), dtype=np.float64) * hop
    if rest and len(scores) > 1:
        starts[-1] = starts[-2] + rest
    centres = starts + window / 2
    end = float(starts[-1]) + window
    similarities = np.array(scores, np.float32)
    return Timeline(
        file="scores",
        labels=LABELS,
        thresholds=(None, 0.4),
        window=window,
        centres=centres,
        edges=np.concatenate([[0.0], (centres[1:] + centres[:-1]) / 2, [end]]),
        probabilities=similarities.astype(np.float64),
        similarities=similarities,
        coverage=Coverage(0.0, end, end),
        warnings=(),
        provenance=Provenance("", "", "", ""),
    )


def updates_of(timeline: Timeline, rule: EventRule, update: float = 0.0) -> list[EventUpdate]:
    """Track the windows of a timeline."""
    numbers = itertools.count(1)
    tracker = Tracker(timeline.thresholds, rule, window=timeline.window, start=0.0, update=update, numbers=numbers)
    updates: list[EventUpdate] = []
    for centre, probabilities, similarities in zip(
        timeline.centres.tolist(), timeline.probabilities.tolist(), timeline.similarities.tolist(), strict=True
    ):
        span = Span(centre - timeline.window / 2, centre + timeline.window / 2)
        updates += tracker.push(span, probabilities, similarities)
    return updates + list(tracker.close(timeline.coverage.end))


def event_of(update: EventUpdate) -> Event:
    """Return what a timeline would call this."""
    peak = update.peak
    return Event(
        LABELS[update.label],
        round(update.start, 3),
        round(update.end, 3),
        round(peak.centre, 3),
        peak.probability,
        peak.similarity,
    )


levels = st.sampled_from([0.0, 0.1, 0.2, 0.28, 0.35, 0.45, 0.6, 0.9])
rows = st.lists(st.tuples(levels, levels), min_size=1, max_size=60)
rules = st.builds(
    EventRule,
    min_duration=st.sampled_from([0.0, 0.5, 1.0, 3.0, 6.0]),
    merge_gap=st.sampled_from([0.0, 0.5, 1.0, 2.0, 4.0, 9.0]),
    multi=st.booleans(),
)


@given(
    scores=rows,
    rule=rules,
    shape=st.sampled_from([(10.0, 1.0), (2.0, 1.0), (3.0, 0.5), (4.0, 4.0)]),
    rest=st.sampled_from([0.0, 0.25, 0.4]),
)
@example(scores=[(0.9, 0.0)] * 30, rule=EventRule(), shape=(10.0, 1.0), rest=0.0)
def test_what_ends_is_what_a_timeline_finds(
    scores: list[tuple[float, float]], rule: EventRule, shape: tuple[float, float], rest: float
) -> None:
    timeline = timeline_of(scores, window=shape[0], hop=shape[1], rest=rest)
    ended = [event_of(update) for update in updates_of(timeline, rule) if update.kind == "end"]
    expected = timeline.events(rule)
    assert sorted(ended, key=lambda event: (event.label, event.start)) == sorted(
        expected, key=lambda event: (event.label, event.start)
    )


@given(scores=rows, rule=rules, update=st.sampled_from([0.0, 2.0]))
def test_every_event_begins_once_goes_on_and_ends_once(
    scores: list[tuple[float, float]], rule: EventRule, update: float
) -> None:
    updates = updates_of(timeline_of(scores, window=4.0, hop=1.0, rest=0.0), rule, update)
    for number in {one.number for one in updates}:
        own = [one for one in updates if one.number == number]
        assert [one.kind for one in own] == ["begin", *["update"] * (len(own) - 2), "end"]
        assert [one.sequence for one in own] == list(range(len(own)))
        assert {one.label for one in own} == {own[0].label}
        assert all(one.start <= other.start and one.end <= other.end for one, other in itertools.pairwise(own))
    if not update:
        assert "update" not in {one.kind for one in updates}


def test_an_event_is_reported_with_the_first_window_that_reaches_it() -> None:
    timeline = timeline_of([(0.0, 0.0), (0.9, 0.0), (0.9, 0.0), (0.0, 0.0)], window=2.0, hop=1.0, rest=0.0)
    tracker = Tracker((None, None), EventRule(), window=2.0, start=0.0, update=0.0, numbers=itertools.repeat(1))
    rows = timeline.probabilities.tolist()
    kinds = [[h.kind for h in tracker.push(Span(k, k + 2.0), row, row)] for k, row in enumerate(rows)]
    assert kinds == [[], ["begin"], [], ["end"]]


def test_an_event_of_a_day_keeps_no_more_windows_than_one_of_a_minute() -> None:
    tracker = Tracker(
        (None,),
        EventRule(merge_gap=5.0, min_duration=3.0),
        window=10.0,
        start=0.0,
        update=60.0,
        numbers=itertools.repeat(1),
    )
    reported = 0
    most = 0
    for k in range(86_400):
        reported += len(list(tracker.push(Span(k, k + 10.0), [0.9], [0.5 + (k % 7) / 100])))
        most = max(most, len(tracker._labels[0]._recent))
    assert most < 20
    assert reported == 1 + 86_400 // 60 - 1
