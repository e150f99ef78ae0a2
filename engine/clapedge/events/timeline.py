"""A long recording to events: which label is present, from when to when.

The recording is scored in windows, one every `hop` seconds. A window's scores count for the part of the recording that
is nearer to its middle than to any other window's. An event of a label begins where its score reaches `on` and lasts
until it falls below `off`, less a quarter of a window at both ends (see `TRIM`); events closer to each other than
`merge_gap` are one; what is then shorter than `min_duration` is dropped.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from clapedge.arrays import Float32Array, Float64Array
from clapedge.errors import UsageError
from clapedge.events.event import Event
from clapedge.events.rules import TRIM, EventRule, Span, hysteresis, merge_close, trim_ends
from clapedge.features.strips import Strips
from clapedge.pipeline import RecordingOptions
from clapedge.scoring.result import Coverage, Provenance, RecordingEmbeddings
from clapedge.scoring.similarity import Scorer

HOP_SECONDS = 1.0

SHORTEST_WINDOW, LONGEST_WINDOW = 1.0, 10.0
"""Seconds of a default window: less holds too little of most sounds, more does not fit into a clip."""


def default_window(hop: float) -> float:
    """Return the default seconds of a window: twice the hop, which places events to within a hop.

    An event is placed to within a quarter of a window (see `TRIM`) and half a hop.
    """
    return min(max(2 * hop, SHORTEST_WINDOW), LONGEST_WINDOW)


WINDOW_SECONDS = default_window(HOP_SECONDS)


def window_options(
    window: float | None = None, hop: float = HOP_SECONDS, strips: Strips | None = None
) -> RecordingOptions:
    """Return how a recording is embedded in windows.

    Args:
        window: seconds of each window, at most a clip's 10; None means `default_window(hop)`.
        hop: seconds from one window to the next; on multiples of 10 ms, windows share their log-mels.
        strips: of a clip, for a short tower.

    Raises:
        UsageError: the hop is longer than the window.
    """
    window = default_window(hop) if window is None else window
    if hop > window:
        raise UsageError(f"a hop of {hop:g} s leaves gaps between windows of {window:g} s; make it shorter")
    options: RecordingOptions = {"window": "slide", "length": window, "hop": hop}
    return options if strips is None else {**options, "strips": strips}


@dataclass(frozen=True, eq=False)
class Timeline:
    """The scores of a recording over time.

    Attributes:
        file: path or kind of the source.
        labels: names of the labels that are not hidden, in the user's order.
        thresholds: their own thresholds, or None.
        window: seconds of each window.
        centres: (N,) float64, the middles of the windows in seconds of the recording.
        edges: (N + 1,) float64, where the scores of one window give way to those of the next.
        probabilities: (N, labels) float64, softmax over the whole label set, hidden labels included.
        similarities: (N, labels) float32, cosines.
        coverage: the span that the windows cover.
        warnings: sentences about the recording.
        provenance: what made the scores.
    """

    file: str
    labels: tuple[str, ...]
    thresholds: tuple[float | None, ...]
    window: float
    centres: Float64Array
    edges: Float64Array
    probabilities: Float64Array
    similarities: Float32Array
    coverage: Coverage
    warnings: tuple[str, ...]
    provenance: Provenance

    @classmethod
    def from_windows(
        cls, recording: RecordingEmbeddings, scorer: Scorer, *, window: float, provenance: Provenance
    ) -> "Timeline":
        """Score the windows of a recording.

        Args:
            recording: its windows, embedded as `window_options` says.
            scorer: the labels.
            window: seconds of each window.
            provenance: what embedded it.
        """
        coverage = recording.coverage
        centres = np.mean(np.minimum(recording.spans, coverage.end), axis=1)
        probabilities, similarities = scorer.visible_scores(recording.clips)
        return cls(
            file=recording.file,
            labels=scorer.names,
            thresholds=scorer.thresholds,
            window=window,
            centres=centres,
            edges=np.concatenate([[coverage.start], (centres[1:] + centres[:-1]) / 2, [coverage.end]]),
            probabilities=probabilities,
            similarities=similarities,
            coverage=coverage,
            warnings=recording.warnings,
            provenance=provenance,
        )

    def events(self, rule: EventRule | None = None) -> tuple[Event, ...]:
        """Return the events of all labels in the order in which they begin."""
        rule = rule or EventRule()
        found = (self._event(label, span) for label in range(len(self.labels)) for span in self._spans(label, rule))
        return tuple(sorted(found, key=lambda event: (event.start, event.end)))

    def _spans(self, label: int, rule: EventRule) -> Iterator[Span]:
        """Yield the spans in which a label is present."""
        on, off = rule.thresholds(self.thresholds[label])
        scores = self.similarities if rule.multi else self.probabilities
        runs = hysteresis(scores[:, label].tolist(), on, off)
        spans = (Span(float(self.edges[first]), float(self.edges[stop])) for first, stop in runs)
        whole = Span(float(self.edges[0]), float(self.edges[-1]))
        placed = (trim_ends(span, TRIM * self.window, whole) for span in spans)
        return (span for span in merge_close(placed, rule.merge_gap) if span.end - span.start >= rule.min_duration)

    def _event(self, label: int, span: Span) -> Event:
        """Describe an event by the window in which it is clearest."""
        # of a recording that lasts no millisecond, all edges are at one place
        first = min(int(np.searchsorted(self.edges, span.start, side="right")), len(self.centres)) - 1
        stop = max(first + 1, int(np.searchsorted(self.edges, span.end, side="left")))
        best = first + int(self.similarities[first:stop, label].argmax())
        return Event(
            self.labels[label],
            round(span.start, 3),
            round(span.end, 3),
            round(float(self.centres[best]), 3),
            float(self.probabilities[best, label]),
            float(self.similarities[best, label]),
        )

    def __repr__(self) -> str:
        """Show the file, the labels and how much was scored."""
        return (
            f"<Timeline {self.file!r}: {len(self.centres)} windows of {self.window:g} s, {len(self.labels)} labels, "
            f"{self.coverage.start:g} to {self.coverage.end:g} s>"
        )
