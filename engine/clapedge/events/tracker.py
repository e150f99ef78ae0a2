"""Scores of windows, one after the other, to events that begin, go on and end: a timeline, as it happens.

An event is told as soon as it is sure to be one, and ends where `Timeline.events` would end it: what that knows of the
whole recording is here waited for. Of the windows that an event hears, only the clearest is kept.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from clapedge.events.event import Kind
from clapedge.events.rules import TRIM, EventRule, Span, trim_ends

FOREVER = float("inf")


class WindowScore(NamedTuple):
    """What one window says of one label.

    Attributes:
        low: from where on it counts, in seconds; up to the next window's `low`.
        centre: middle of the window.
        probability: the label's.
        similarity: the label's.
    """

    low: float
    centre: float
    probability: float
    similarity: float


@dataclass(frozen=True)
class EventUpdate:
    """Something that an event does.

    Attributes:
        kind: `begin`, `update` or `end`.
        number: of the event, from 1 on.
        sequence: of this event_update among those of the event, from 0 on.
        label: index of its label among those that are shown.
        start: where the event begins, in seconds; final in `end`, and may grow by a quarter of a window before.
        end: where it ends; before `end`, how far it is sure to last.
        peak: the window in which it is clearest, so far.
    """

    kind: Kind
    number: int
    sequence: int
    label: int
    start: float
    end: float
    peak: WindowScore


@dataclass
class OpenEvent:
    """An event in progress.

    Attributes:
        start: where it begins, as far as it is known.
        end: how far it is sure to last.
        settled: whether `start` is final.
        going_on: whether the run of scores that is under way belongs to it.
        best: the clearest window among those no longer kept.
        number: given to it when it was first told, else 0.
        sequence: how often it was told.
        told: up to where it lasted when it was last told.
    """

    start: float
    end: float
    settled: bool = False
    going_on: bool = True
    best: WindowScore | None = None
    number: int = 0
    sequence: int = 0
    told: float = 0.0


class LabelTracker:
    """Follows one label through a segment of sound without gaps."""

    def __init__(
        self,
        label: int,
        rule: EventRule,
        own_threshold: float | None,
        *,
        window: float,
        start: float,
        update: float,
        number: Callable[[], int],
    ) -> None:
        """Begin at the beginning of a segment.

        Args:
            label: its index among those that are shown.
            rule: when it counts as heard.
            own_threshold: the label's own, or None.
            window: seconds that each window hears.
            start: where the segment begins, in seconds.
            update: seconds after which an event that goes on is told again; 0 never does.
            number: gives the next event its number.
        """
        self._label, self._rule, self._update, self._number = label, rule, update, number
        self._on, self._off = rule.thresholds(own_threshold)
        self._window, self._start = window, start
        self._run: float | None = None
        self._open: OpenEvent | None = None
        self._recent: deque[WindowScore] = deque()

    def hear(self, window_score: WindowScore) -> Iterator[EventUpdate]:
        """Take what the next window says, and yield what happens."""
        score = window_score.similarity if self._rule.multi else window_score.probability
        if self._run is None:
            if score >= self._on:
                self._run = window_score.low
        elif score < self._off:
            yield from self._end_run(Span(self._run, window_score.low), FOREVER)
        if self._run is not None:
            yield from self._go_on(
                window_score.centre
            )  # the run counts beyond it, but how far only the next window tells
        elif self._open and window_score.low - self._open.end > self._rule.merge_gap:
            yield from self._finish()
        if self._open or self._run is not None:
            self._recent.append(window_score)
            self._forget()
            yield from self._tell(window_score.centre)
        else:
            self._recent.clear()

    @property
    def open_since(self) -> float:
        """Where what is in progress begins, at the earliest; infinity if there is nothing."""
        if self._open:
            return self._open.start
        return FOREVER if self._run is None else self._run

    def close(self, end: float) -> Iterator[EventUpdate]:
        """End what is under way, where the segment ends."""
        if self._run is not None:
            yield from self._end_run(Span(self._run, end), end)
        if self._open:
            yield from self._finish()

    def _go_on(self, reached: float) -> Iterator[EventUpdate]:
        """Let the run that is under way last until `reached`; it joins the event before it, or is one of its own."""
        assured = Span(self._run if self._run is not None else reached, reached)
        span = self._trim_ends(assured, FOREVER)
        settled = span.start <= self._start or assured.end - assured.start >= self._window
        if self._open and not self._open.going_on:
            if span.start - self._open.end > self._rule.merge_gap:
                yield from self._finish()
            elif settled:
                self._open.going_on = True
            else:
                return  # its start, which grows with its length, decides
        if self._open is None:
            self._open = OpenEvent(span.start, span.end)
        if not self._open.settled:
            self._open.start, self._open.settled = span.start, settled
        self._open.end = span.end

    def _end_run(self, run: Span, whole_end: float) -> Iterator[EventUpdate]:
        """Take a run that is complete."""
        span = self._trim_ends(run, whole_end)
        if self._open and not self._open.going_on and span.start - self._open.end > self._rule.merge_gap:
            yield from self._finish()
        if self._open is None:
            self._open = OpenEvent(span.start, span.end)
        if not self._open.settled:
            self._open.start, self._open.settled = span.start, True
        self._open.end, self._open.going_on = span.end, False
        self._run = None

    def _trim_ends(self, run: Span, whole_end: float) -> Span:
        """Place a run as a timeline does."""
        return trim_ends(run, TRIM * self._window, Span(self._start, whole_end))

    def _forget(self) -> None:
        """Let windows go that the event is sure to hear, but for the clearest."""
        event = self._open
        while event and event.settled and len(self._recent) > 1 and self._recent[0].low < event.end:
            window_score = self._recent.popleft()
            if self._recent[0].low > event.start:
                event.best = _clearer(event.best, window_score)

    def _peak(self, event: OpenEvent) -> WindowScore:
        """Return the clearest window that an event hears."""
        best = event.best
        highs = [*(window_score.low for window_score in islice(self._recent, 1, None)), FOREVER]
        for window_score, high in zip(self._recent, highs, strict=True):
            if window_score.low < event.end and high > event.start:
                best = _clearer(best, window_score)
        return best or self._recent[0]

    def _tell(self, reached: float) -> Iterator[EventUpdate]:
        """Yield the beginning of an event once it is sure, and that it goes on when it is time."""
        event = self._open
        if event is None or not event.going_on:
            return
        if not event.number:
            if event.end - event.start >= self._rule.min_duration:
                event.told = reached
                yield self._event_update("begin", event)
        elif self._update and reached - event.told >= self._update:
            event.told = reached
            yield self._event_update("update", event)

    def _finish(self) -> Iterator[EventUpdate]:
        """Yield the end of the event, unless it was too short to be one."""
        event = self._open
        if event is not None and (event.number or event.end - event.start >= self._rule.min_duration):
            if not event.number:
                yield self._event_update("begin", event)
            yield self._event_update("end", event)
        self._open = None
        while self._recent and (self._run is None or self._recent[0].low < self._run):
            self._recent.popleft()

    def _event_update(self, kind: Kind, event: OpenEvent) -> EventUpdate:
        """Describe what an event does."""
        event.number = event.number or self._number()
        event_update = EventUpdate(
            kind, event.number, event.sequence, self._label, event.start, event.end, self._peak(event)
        )
        event.sequence += 1
        return event_update


def _clearer(best: WindowScore | None, window_score: WindowScore) -> WindowScore:
    """Return the clearer of two windows, the earlier one of equals."""
    return window_score if best is None or window_score.similarity > best.similarity else best


class Tracker:
    """Follows all labels through a segment of sound without gaps."""

    def __init__(
        self,
        thresholds: Sequence[float | None],
        rule: EventRule,
        *,
        window: float,
        start: float,
        update: float,
        number: Callable[[], int],
    ) -> None:
        """Begin at the beginning of a segment; the arguments are those of `LabelTracker`, `thresholds` one a label."""
        self._start = start
        self._centre: float | None = None
        self._labels = [
            LabelTracker(label, rule, own, window=window, start=start, update=update, number=number)
            for label, own in enumerate(thresholds)
        ]

    def hear(self, span: Span, probabilities: Sequence[float], similarities: Sequence[float]) -> Iterator[EventUpdate]:
        """Take the scores of the next window, one a label, and yield what happens."""
        centre = (span.start + span.end) / 2
        low = self._start if self._centre is None else (self._centre + centre) / 2
        self._centre = centre
        for label, probability, similarity in zip(self._labels, probabilities, similarities, strict=True):
            yield from label.hear(WindowScore(low, centre, probability, similarity))

    def close(self, end: float) -> Iterator[EventUpdate]:
        """End what is under way, where the segment ends."""
        for label in self._labels:
            yield from label.close(end)

    @property
    def open_since(self) -> float:
        """Where the oldest event in progress begins, at the earliest; infinity if there is none."""
        return min((label.open_since for label in self._labels), default=FOREVER)
