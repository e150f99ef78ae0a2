"""A long recording to events: which label is heard, from when to when.

The recording is heard in windows, one every `hop` seconds. What a window says counts for the part of the recording that
is nearer to its middle than to any other window's. An event of a label begins where its score reaches `on` and lasts
until it falls below `off`, less a quarter of a window at both ends (see `TRIM`); events closer to each other than
`merge_gap` are one; what is then shorter than `min_duration` is none.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clapedge import audio
from clapedge.arrays import Float32Array, Float64Array
from clapedge.audio import AudioSource
from clapedge.engine import Engine, Labels
from clapedge.errors import UsageError
from clapedge.events.rules import TRIM, EventRule, Span, hysteresis, merge_close, trim_ends
from clapedge.labels import LabelSet
from clapedge.scoring import similarity as scoring
from clapedge.scoring.result import Coverage, RecordingEmbeddings

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from clapedge.pipeline import Hearing, Listening

HOP_SECONDS = 1.0

SHORTEST_WINDOW, LONGEST_WINDOW = 1.0, 10.0
"""Seconds of a window that nobody chose: less holds too little of most sounds, more does not fit into a clip."""


def window_for(hop: float) -> float:
    """Return the seconds that a window hears where nobody chose: twice the hop, which places events to within a hop.

    An event is placed to within a quarter of a window (see `TRIM`) and half a hop.
    """
    return min(max(2 * hop, SHORTEST_WINDOW), LONGEST_WINDOW)


WINDOW_SECONDS = window_for(HOP_SECONDS)


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
    heard: Coverage
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
    listened: RecordingEmbeddings,
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
        provider=engine.provider_config.provider,
    )
