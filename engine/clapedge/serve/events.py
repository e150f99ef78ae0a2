"""Events of a recording while it is still heard: each is told as soon as no later window can change it."""

from collections.abc import Callable, Iterator

import numpy as np

from clapedge.arrays import BoolArray, Float32Array
from clapedge.audio import AudioSource, source_name
from clapedge.engine import Engine
from clapedge.events import timeline as timelines
from clapedge.events.rules import EventRule
from clapedge.events.timeline import Event, Timeline
from clapedge.labels import EmbeddedLabels
from clapedge.pipeline import Embedder, Told
from clapedge.scoring import similarity as scoring
from clapedge.scoring.result import Coverage, RecordingEmbeddings

FEWEST_WINDOWS = 32
"""Windows that are gathered before events are looked for: some seconds of work."""

GROWTH = 8
"""Events are looked for again when an eighth more windows were heard: often, and in a time that grows with them."""


class Settling:
    """Stands in front of a tower, gathers the windows that pass, and tells the events that are settled."""

    def __init__(  # noqa: PLR0913 - all of them make an event
        self,
        engine: Engine,
        source: AudioSource,
        labels: EmbeddedLabels,
        *,
        rule: EventRule,
        window: float,
        hop: float,
        start: float,
        tower: Embedder,
        tell: Callable[[Timeline, Event], None],
    ) -> None:
        """Gather the windows of one recording.

        Args:
            engine: what hears it.
            source: the recording.
            labels: what it is scored against.
            rule: when a label counts as heard.
            window: seconds that each window hears.
            hop: seconds from one window to the next.
            start: where the recording is begun, in seconds.
            tower: embeds the windows.
            tell: is told each event once, in the order in which they begin.
        """
        self._engine, self._file, self._labels, self._rule = engine, source_name(source), labels, rule
        self._window, self._hop, self._start = window, hop, start
        self._tower, self._tell = tower, tell
        self._rows: list[Float32Array] = []
        self._windows = self._looked = self._told = 0

    def embed(self, features: Float32Array, is_longer: BoolArray) -> Float32Array:
        """Embed windows and keep what they are embedded to, see `AudioTower.embed`."""
        rows = self._tower.embed(features, is_longer)
        self._rows.append(rows)
        self._windows += len(rows)
        return rows

    def after(self, told: Told) -> Told:
        """Return what is told how far the recording was heard: another one, and then whoever waits for events."""

        def both(heard: float, until: float) -> None:
            told(heard, until)
            if self._windows >= max(FEWEST_WINDOWS, self._looked + self._looked // GROWTH):
                self._looked = self._windows
                timeline = self._so_far(until)
                self._tell_all(timeline, self._settled(timeline))

        return both

    def finish(self, timeline: Timeline) -> None:
        """Tell the events that are left, when all was heard."""
        self._tell_all(timeline, iter(timeline.events(self._rule)))

    def _tell_all(self, timeline: Timeline, events: Iterator[Event]) -> None:
        """Tell events, but for those that were told before: they come in the same order."""
        for number, event in enumerate(events):
            if number >= self._told:
                self._told += 1
                self._tell(timeline, event)

    def _so_far(self, until: float) -> Timeline:
        """Return the timeline of the windows gathered so far."""
        clips = np.concatenate(self._rows)
        starts = self._start + self._hop * np.arange(len(clips))
        spans = tuple((float(start), float(start) + self._window) for start in starts)
        heard = Coverage(self._start, spans[-1][1], until)
        similarity = scoring.similarities(clips, self._labels.embeddings)
        scale = self._engine.bundle.manifest.logit_scale / self._labels.temperature
        probability = scoring.probabilities(similarity, scale)
        listened = RecordingEmbeddings(clips, spans, heard, (), 0.0, 0.0)
        return timelines.assemble(
            self._engine, self._file, self._labels.label_set, self._window, listened, similarity, probability
        )

    def _settled(self, timeline: Timeline) -> Iterator[Event]:
        """Yield the events that no later window can change, up to the first one that it can.

        What begins later, or is too short as yet, begins behind the horizon, so that the order stays.
        """
        margin = self._window + self._rule.merge_gap + self._rule.min_duration
        horizon = float(timeline.centres[-2]) - margin
        for event in timeline.events(self._rule):
            if event.end > horizon:
                return
            yield event
