"""Events of a stream, in order: exactly those of the timeline, however the windows come in batches."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
from hypothesis import example, given
from hypothesis import strategies as st

from clapedge.arrays import Float32Array, Float64Array
from clapedge.events.event import Event
from clapedge.events.rules import EventRule
from clapedge.events.stream import EventStream
from clapedge.events.timeline import Timeline
from clapedge.pipeline import ClipBatch
from clapedge.scoring.result import Coverage, Provenance, RecordingEmbeddings, Timing

if TYPE_CHECKING:
    from clapedge.scoring.similarity import Scorer

LABELS = ("a", "b", "c")
SHAPES = [(10.0, 1.0), (2.0, 1.0), (3.0, 0.5), (4.0, 4.0), (1.5, 0.5)]
"""Seconds of a window, and from one to the next."""

Scores = list[tuple[float, float, float]]


@dataclass(frozen=True)
class GivenScores:
    """A scorer whose embeddings are the scores: the probabilities of all labels, then their similarities."""

    names: tuple[str, ...] = LABELS
    thresholds: tuple[float | None, ...] = (None, 0.4, 0.2)

    def visible_scores(self, embeddings: Float32Array) -> tuple[Float64Array, Float32Array]:
        """Return the two halves of each row."""
        return embeddings[:, : len(LABELS)].astype(np.float64), embeddings[:, len(LABELS) :]


def recording_of(scores: Scores, window: float, hop: float, start: float, rest: float) -> RecordingEmbeddings:
    """Return a recording whose windows have these scores, the last one `rest` seconds after the one before it."""
    starts = start + np.arange(len(scores)) * hop
    if rest and len(scores) > 1:
        starts[-1] = starts[-2] + rest
    spans = tuple((float(first), float(first) + window) for first in starts)
    rows: npt.NDArray[np.float32] = np.array([(*row, *reversed(row)) for row in scores], np.float32)
    coverage = Coverage(start, spans[-1][1], spans[-1][1])
    return RecordingEmbeddings("scores", rows, spans, coverage, (), Timing(0.0, 0.0, 0.0, 0.0))


def streamed(recording: RecordingEmbeddings, rule: EventRule, window: float, batch: int) -> list[Event]:
    """Return the events of a recording that comes in batches of so many windows."""
    stream = EventStream(cast("Scorer", GivenScores()), rule, window=window)
    events: list[Event] = []
    for first in range(0, len(recording.clips), batch):
        part = slice(first, first + batch)
        spans = recording.spans[part]
        events += stream.push_ordered(ClipBatch(recording.clips[part], spans, spans[-1][1], recording.coverage.end))
    return events + list(stream.close_ordered(recording.coverage.end))


levels = st.sampled_from([0.0, 0.1, 0.2, 0.28, 0.35, 0.45, 0.6, 0.9])
rules = st.builds(
    EventRule,
    min_duration=st.sampled_from([0.0, 0.5, 1.0, 3.0, 6.0]),
    merge_gap=st.sampled_from([0.0, 0.5, 1.0, 2.0, 4.0, 9.0]),
    multi=st.booleans(),
) | st.builds(EventRule, on=st.just(0.3), off=st.sampled_from([0.1, 0.3]), merge_gap=st.sampled_from([0.0, 2.0]))


@given(
    scores=st.lists(st.tuples(levels, levels, levels), min_size=1, max_size=60),
    rule=rules,
    shape=st.sampled_from(SHAPES),
    start=st.sampled_from([0.0, 2.5]),
    rest=st.sampled_from([0.0, 0.25, 0.4]),
    batch=st.sampled_from([1, 4, 60]),
)
@example(  # three events of one span; the second label's is final before the first one's
    scores=[(0.9, 0.9, 0.9), (0.0, 0.0, 0.0), (0.0, 0.9, 0.0)],
    rule=EventRule(merge_gap=2.0),
    shape=(10.0, 1.0),
    start=0.0,
    rest=0.25,
    batch=1,
)
def test_events_come_exactly_as_the_timeline_has_them(
    scores: Scores, rule: EventRule, shape: tuple[float, float], start: float, rest: float, batch: int
) -> None:
    window, hop = shape
    recording = recording_of(scores, window, hop, start, rest)
    scorer = cast("Scorer", GivenScores())
    timeline = Timeline.from_windows(recording, scorer, window=window, provenance=Provenance("", "", "", ""))
    assert streamed(recording, rule, window, batch) == list(timeline.events(rule))
