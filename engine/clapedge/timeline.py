"""A long recording to events: which label is heard, from when to when.

The recording is heard in windows, one every `hop` seconds. What a window says counts for the part of the recording that
is nearer to its middle than to any other window's. An event of a label begins where its score reaches `on` and lasts
until it falls below `off`, less a quarter of a window at both ends (see `TRIM`); events closer to each other than
`merge_gap` are one; what is then shorter than `min_duration` is none.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clapedge import audio, scoring
from clapedge.audio import AudioSource
from clapedge.decision import THRESHOLD
from clapedge.engine import Engine, Labels
from clapedge.errors import UsageError
from clapedge.labels import LabelSet
from clapedge.mel import Float32Array, Float64Array
from clapedge.result import Heard, Listened

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from clapedge.hearing import Hearing, Listening

HOP_SECONDS = 1.0

SHORTEST_WINDOW, LONGEST_WINDOW = 1.0, 10.0
"""Seconds of a window that nobody chose: less holds too little of most sounds, more does not fit into a clip."""

ON_PROBABILITY, OFF_PROBABILITY = 0.5, 0.3
"""More probable than all other labels together; and low enough that a flicker does not end an event."""

SIMILARITY_HYSTERESIS = 0.05
"""How far a similarity must fall below its threshold to end an event: a sixth of the usual threshold."""


TRIM = 0.25
"""Share of a window that is taken off both ends of an event. A window whose middle lies outside an event still hears
it if it reaches into it: a loud event with any part of the window, a faint one with half of it. So an event seems to
begin earlier and to end later by something between nothing and half a window; with the middle, it is placed to within
a quarter."""


def window_for(hop: float) -> float:
    """Return the seconds that a window hears where nobody chose: twice the hop, which places events to within a hop.

    An event is placed to within a quarter of a window (see `TRIM`) and half a hop.
    """
    return min(max(2 * hop, SHORTEST_WINDOW), LONGEST_WINDOW)


WINDOW_SECONDS = window_for(HOP_SECONDS)


class Span(NamedTuple):
    """A part of a recording, in seconds."""

    start: float
    end: float


@dataclass(frozen=True)
class EventRule:
    """When a label counts as heard.

    Attributes:
        on: score from which an event begins; None means 0.5 of probability or, with `multi`, the label's threshold.
        off: score below which it ends, at most `on`; None means 0.3 of probability (less if `on` is less) or, with
            `multi`, 0.05 of similarity below `on`.
        min_duration: seconds; shorter events are left out.
        merge_gap: seconds; events of a label that are no farther apart become one.
        multi: whether labels are decided apart, by their similarities; else they share the probability.
    """

    on: float | None = None
    off: float | None = None
    min_duration: float = 0.0
    merge_gap: float = 0.0
    multi: bool = False

    def __post_init__(self) -> None:
        """Refuse values that decide nothing."""
        for name, seconds in (("min_duration", self.min_duration), ("merge_gap", self.merge_gap)):
            if not (math.isfinite(seconds) and seconds >= 0):
                raise UsageError(f"{name} is {seconds} s; give a number of seconds, 0 or more")
        low = -1.0 if self.multi else 0.0
        for name, score in (("on", self.on), ("off", self.off)):
            if score is not None and not low <= score <= 1:
                raise UsageError(f"the threshold {name} is {score}; give a number from {low:g} to 1")
        if self.on is None and self.off is not None:
            raise UsageError("the threshold off is given without on; give both")
        if self.on is not None and self.off is not None and self.off > self.on:
            raise UsageError(f"the threshold off ({self.off}) lies above on ({self.on}); exchange them")

    def thresholds(self, own: float | None) -> tuple[float, float]:
        """Return `on` and `off` for a label with a threshold of its own, or None."""
        if self.multi:
            on = self.on if self.on is not None else THRESHOLD if own is None else own
            return on, on - SIMILARITY_HYSTERESIS if self.off is None else self.off
        on = ON_PROBABILITY if self.on is None else self.on
        return on, min(on, OFF_PROBABILITY) if self.off is None else self.off


@dataclass(frozen=True)
class Event:
    """A label that is heard for a while.

    Attributes:
        label: its name.
        start: where it begins, in seconds of the recording.
        end: where it ends.
        peak: the middle of the window in which it is clearest.
        probability: its probability there.
        similarity: its similarity there.
    """

    label: str
    start: float
    end: float
    peak: float
    probability: float
    similarity: float


@dataclass(frozen=True, eq=False)
class Timeline:
    """The scores of a recording over time.

    Attributes:
        file: path or kind of the source.
        labels: names of the labels that are not hidden, in the user's order.
        thresholds: their own thresholds, or None.
        window: seconds that each window hears.
        centres: (N,) float64, the middles of the windows in seconds of the recording.
        edges: (N + 1,) float64, where what one window says gives way to what the next one says.
        probabilities: (N, labels) float64, softmax over the whole label set, hidden labels included.
        similarities: (N, labels) float32, cosines.
        heard: the span that was heard.
        warnings: sentences about the recording.
        model: model id of the bundle.
        weights: `pretrained`, `random` or `demo`.
        variant: precision of the audio tower.
        provider: where the tower ran.
    """

    file: str
    labels: tuple[str, ...]
    thresholds: tuple[float | None, ...]
    window: float
    centres: Float64Array
    edges: Float64Array
    probabilities: Float64Array
    similarities: Float32Array
    heard: Heard
    warnings: tuple[str, ...]
    model: str
    weights: str
    variant: str
    provider: str

    def events(self, rule: EventRule | None = None) -> tuple[Event, ...]:
        """Return the events of all labels in the order in which they begin."""
        rule = rule or EventRule()
        found = (self._event(label, span) for label in range(len(self.labels)) for span in self._spans(label, rule))
        return tuple(sorted(found, key=lambda event: (event.start, event.end)))

    def _spans(self, label: int, rule: EventRule) -> Iterator[Span]:
        """Yield when a label is heard."""
        on, off = rule.thresholds(self.thresholds[label])
        scores = self.similarities if rule.multi else self.probabilities
        runs = hysteresis(scores[:, label].tolist(), on, off)
        spans = (Span(float(self.edges[first]), float(self.edges[stop])) for first, stop in runs)
        whole = Span(float(self.edges[0]), float(self.edges[-1]))
        placed = (trimmed(span, TRIM * self.window, whole) for span in spans)
        return (span for span in merged(placed, rule.merge_gap) if span.end - span.start >= rule.min_duration)

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


def hysteresis(scores: Iterable[float], on: float, off: float) -> Iterator[tuple[int, int]]:
    """Yield the runs [first, stop) of scores that begin with `on` or more and end before the first one below `off`."""
    first, index = None, -1
    for index, score in enumerate(scores):
        if first is None:
            first = index if score >= on else None
        elif score < off:
            yield first, index
            first = None
    if first is not None:
        yield first, index + 1


def trimmed(span: Span, seconds: float, whole: Span) -> Span:
    """Return a span without so many seconds at its ends, but at least half of it; an end of the whole stays."""
    most = (span.end - span.start) / 4
    start = span.start if span.start <= whole.start else span.start + min(seconds, most)
    end = span.end if span.end >= whole.end else span.end - min(seconds, most)
    return Span(start, end)


def merged(spans: Iterable[Span], gap: float) -> Iterator[Span]:
    """Yield spans, which come in order, those that are no more than `gap` seconds apart as one."""
    held: Span | None = None
    for span in spans:
        if held and span.start - held.end <= gap:
            held = Span(held.start, span.end)
        else:
            if held:
                yield held
            held = span
    if held:
        yield held


def listen(
    engine: Engine,
    source: AudioSource,
    labels: Labels,
    *,
    window: float | None = None,
    hop: float = HOP_SECONDS,
    start: float = 0.0,
    duration: float | None = None,
    **listening: "Unpack[Listening]",
) -> Timeline:
    """Score a recording over time. It is read as a stream: of each window only its embedding is kept.

    Args:
        engine: what hears it.
        source: a path, bytes, a file object, or samples.
        labels: a label set, an embedded one, or a list of words.
        window: seconds that each window hears, at most a clip's 10; None means `window_for(hop)`.
        hop: seconds from one window to the next; on multiples of 10 ms, windows share their log-mels.
        start: where to begin, in seconds.
        duration: seconds to hear at most; None hears all.
        **listening: what goes along with it: `told`, `tower`, `longest`, see `Engine.listen`.

    Raises:
        AudioError: the recording cannot be used.
        LabelError: the labels cannot be used.
        UsageError: window or hop cannot be.
    """
    window = window_for(hop) if window is None else window
    if hop > window:
        raise UsageError(f"a hop of {hop:g} s leaves parts unheard between windows of {window:g} s; make it shorter")
    embedded = engine.embed_labels(labels)
    hearing: Hearing = {"start": start, "duration": duration, "window": "slide", "length": window, "hop": hop}
    listened = engine.listen(source, **listening, **hearing)
    similarity = scoring.similarities(listened.clips, embedded.embeddings)
    scale = engine.bundle.manifest.logit_scale / embedded.temperature
    probability = scoring.probabilities(similarity, scale)
    return assemble(engine, audio.source_name(source), embedded.label_set, window, listened, similarity, probability)


def assemble(
    engine: Engine,
    file: str,
    label_set: LabelSet,
    window: float,
    listened: Listened,
    similarity: Float32Array,
    probability: Float64Array,
) -> Timeline:
    """Join what was heard, all of it or as far as it has come, with what made it, without hidden labels.

    Args:
        engine: what heard it.
        file: path or kind of the source.
        label_set: the labels.
        window: seconds that each window hears.
        listened: the windows.
        similarity: (N, labels) cosines, hidden labels included.
        probability: (N, labels), hidden labels included.
    """
    shown = [index for index, label in enumerate(label_set.labels) if not label.hidden]
    heard, manifest = listened.heard, engine.bundle.manifest
    centres = np.mean(np.minimum(listened.spans, heard.end), axis=1)
    return Timeline(
        file=file,
        labels=tuple(label_set.labels[index].name for index in shown),
        thresholds=tuple(label_set.labels[index].threshold for index in shown),
        window=window,
        centres=centres,
        edges=np.concatenate([[heard.start], (centres[1:] + centres[:-1]) / 2, [heard.end]]),
        probabilities=probability[:, shown],
        similarities=similarity[:, shown],
        heard=heard,
        warnings=listened.warnings,
        model=manifest.model,
        weights=manifest.weights,
        variant=engine.variant,
        provider=engine.plan.provider,
    )
