"""Events of a recording while it is embedded: each as soon as no later window can change it or come before it."""

import itertools
from collections.abc import Iterator
from heapq import heappop, heappush

from clapedge.events.event import Event, LiveEvent
from clapedge.events.rules import EventRule, Span
from clapedge.events.tracker import EventUpdate, Tracker
from clapedge.pipeline import ClipBatch
from clapedge.scoring.similarity import Scorer

MILLISECONDS = 3
"""Decimals of the seconds of an event."""


class EventStream:
    """Follows the windows of one recording, and yields the events of all labels as they come.

    `push` yields what happens at once; `push_ordered` yields what `Timeline.events` would, in the same order.
    """

    def __init__(self, scorer: Scorer, rule: EventRule, *, window: float, update: float = 0.0) -> None:
        """Begin before the first window.

        Args:
            scorer: the labels.
            rule: when a label counts as present.
            window: seconds of each window.
            update: seconds after which an event that goes on is yielded again; 0 never does.
        """
        self._scorer, self._rule, self._window, self._update = scorer, rule, window, update
        self._tracker: Tracker | None = None
        self._numbers = itertools.count(1)
        self._ended: list[tuple[float, float, int, Event]] = []

    def push(self, batch: ClipBatch) -> Iterator[LiveEvent]:
        """Take the next windows, and yield what happens in them."""
        for update in self._updates(batch):
            yield LiveEvent(**vars(self._event(update)), kind=update.kind, number=update.number)

    def close(self, end: float) -> Iterator[LiveEvent]:
        """Yield the ends of what is in progress where the recording ends, in seconds."""
        for update in self._tracker.close(end) if self._tracker else ():
            yield LiveEvent(**vars(self._event(update)), kind=update.kind, number=update.number)

    def push_ordered(self, batch: ClipBatch) -> Iterator[Event]:
        """Take the next windows, and yield the events that are final, in the order in which they begin."""
        self._keep(self._updates(batch))
        yield from self._settled(self._tracker.open_since if self._tracker else 0.0)

    def close_ordered(self, end: float) -> Iterator[Event]:
        """Yield the events that are left where the recording ends, in seconds."""
        if self._tracker:
            self._keep(self._tracker.close(end))
        yield from self._settled(float("inf"))

    def _updates(self, batch: ClipBatch) -> Iterator[EventUpdate]:
        """Score windows, and yield what happens."""
        if self._tracker is None:
            self._tracker = Tracker(
                self._scorer.thresholds,
                self._rule,
                window=self._window,
                start=round(batch.spans[0][0], MILLISECONDS),
                update=self._update,
                numbers=self._numbers,
            )
        probabilities, similarities = self._scorer.visible_scores(batch.embeddings)
        for span, chances, cosines in zip(batch.spans, probabilities.tolist(), similarities.tolist(), strict=True):
            yield from self._tracker.push(Span(*span), chances, cosines)

    def _keep(self, updates: Iterator[EventUpdate]) -> None:
        """Keep events that ended until none that began before them is in progress."""
        for update in updates:
            if update.kind == "end":
                event = self._event(update)
                heappush(self._ended, (event.start, event.end, update.label, event))

    def _settled(self, open_since: float) -> Iterator[Event]:
        """Yield the ended events that began before what is in progress; of equal starts, the ends decide the order."""
        while self._ended and self._ended[0][0] < round(open_since, MILLISECONDS):
            yield heappop(self._ended)[-1]

    def _event(self, update: EventUpdate) -> Event:
        """Return an update as an event, its label by name."""
        return Event(
            self._scorer.names[update.label],
            round(update.start, MILLISECONDS),
            round(update.end, MILLISECONDS),
            round(update.peak.centre, MILLISECONDS),
            update.peak.probability,
            update.peak.similarity,
        )
