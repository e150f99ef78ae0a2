"""Scores of windows, one after the other, to events that begin, go on and end: a timeline, as it happens.

An event is reported as soon as it is certain, and ends where `Timeline.events` would end it: what that knows of the
whole recording is waited for here. Of the windows of an event, only the clearest is kept.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from clapedge.events.event import Kind
from clapedge.events.rules import TRIM, EventRule, Span, trim_ends

FOREVER = float("inf")


class WindowScore(NamedTuple):
    """The scores of one label in one window.

    Attributes:
        low: where it begins to count, in seconds; it counts up to the next window's `low`.
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
    """An event that begins, goes on or ends.

    Attributes:
        kind: `begin`, `update` or `end`.
        number: of the event, from 1 on.
        sequence: number of the update among those of its event, from 0 on.
        label: index of its label among the visible ones.
        start: where the event begins, in seconds; final in `end`, and may grow by a quarter of a window before.
        end: where it ends; before `end`, how far it is certain to last.
        peak: the window in which it is clearest, so far.
        windows: those so far whose score reached the threshold from which an event begins.
    """

    kind: Kind
    number: int
    sequence: int
    label: int
    start: float
    end: float
    peak: WindowScore
    windows: int


@dataclass
class OpenEvent:
    """An event in progress.

    Attributes:
        start: where it begins, as far as it is known.
        end: how far it is certain to last.
        settled: whether `start` is final.
        ongoing: whether the current run of scores belongs to it.
        best: the clearest window among those no longer kept.
        number: its number once it was reported, else 0.
        sequence: how often it was reported.
        reported: where the windows ended when it was last reported.
        windows: those of its runs before the current one whose score reached the threshold.
    """

    start: float
    end: float
    settled: bool = False
    ongoing: bool = True
    best: WindowScore | None = None
    number: int = 0
    sequence: int = 0
    reported: float = 0.0
    windows: int = 0


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
        numbers: Iterator[int],
    ) -> None:
        """Begin at the beginning of a segment.

        Args:
            label: its index among the visible ones.
            rule: when it counts as present.
            own_threshold: the label's own, or None.
            window: seconds of each window.
            start: where the segment begins, in seconds.
            update: seconds after which an ongoing event is reported again; 0 never does.
            numbers: the numbers of the next events, shared by all labels.
        """
        self._label, self._rule, self._update, self._numbers = label, rule, update, numbers
        self._on, self._off = rule.thresholds(own_threshold)
        self._window, self._start = window, start
        self._run: float | None = None
        self._run_windows = 0
        self._open: OpenEvent | None = None
        self._recent: deque[WindowScore] = deque()

    def push(self, window: WindowScore) -> Iterator[EventUpdate]:
        """Take the next window, and yield what happens."""
        score = window.similarity if self._rule.multi else window.probability
        if self._run is None:
            if score >= self._on:
                self._run, self._run_windows = window.low, 0
        elif score < self._off:
            yield from self._end_run(Span(self._run, window.low), FOREVER)
        if self._run is not None:
            self._run_windows += score >= self._on
            # the run goes on beyond it, but only the next window decides how far
            yield from self._extend(window.centre)
        elif self._open and window.low - self._open.end > self._rule.merge_gap:
            yield from self._finish()
        if self._open or self._run is not None:
            self._recent.append(window)
            self._forget()
            yield from self._report(window.centre)
        else:
            self._recent.clear()

    @property
    def open_since(self) -> float:
        """Where the event in progress begins, at the earliest; infinity if there is none."""
        if self._open:
            return self._open.start
        return FOREVER if self._run is None else self._run

    def ongoing(self) -> EventUpdate | None:
        """Return the event in progress as it is known now, once its beginning was reported."""
        event = self._open
        return self._shown("update", event) if event and event.number else None

    def close(self, end: float) -> Iterator[EventUpdate]:
        """End the event in progress, where the segment ends."""
        if self._run is not None:
            yield from self._end_run(Span(self._run, end), end)
        if self._open:
            yield from self._finish()

    def _extend(self, reached: float) -> Iterator[EventUpdate]:
        """Extend the current run to `reached`; it joins the event before it, or becomes one of its own."""
        assured = Span(self._run if self._run is not None else reached, reached)
        span = self._trim_ends(assured, FOREVER)
        settled = span.start <= self._start or assured.end - assured.start >= self._window
        if self._open and not self._open.ongoing:
            if span.start - self._open.end > self._rule.merge_gap:
                yield from self._finish()
            elif settled:
                self._open.ongoing = True
            else:
                return  # its start, which grows with its length, decides
        if self._open is None:
            self._open = OpenEvent(span.start, span.end)
        if not self._open.settled:
            self._open.start, self._open.settled = span.start, settled
        self._open.end = span.end

    def _end_run(self, run: Span, whole_end: float) -> Iterator[EventUpdate]:
        """Complete a run."""
        span = self._trim_ends(run, whole_end)
        if self._open and not self._open.ongoing and span.start - self._open.end > self._rule.merge_gap:
            yield from self._finish()
        if self._open is None:
            self._open = OpenEvent(span.start, span.end)
        if not self._open.settled:
            self._open.start, self._open.settled = span.start, True
        self._open.end, self._open.ongoing = span.end, False
        self._open.windows += self._run_windows
        self._run, self._run_windows = None, 0

    def _trim_ends(self, run: Span, whole_end: float) -> Span:
        """Return the span of a run as a timeline places it."""
        return trim_ends(run, TRIM * self._window, Span(self._start, whole_end))

    def _forget(self) -> None:
        """Drop windows that certainly belong to the event, but for the clearest."""
        event = self._open
        while event and event.settled and len(self._recent) > 1 and self._recent[0].low < event.end:
            window = self._recent.popleft()
            if self._recent[0].low > event.start:
                event.best = _clearer(event.best, window)

    def _peak(self, event: OpenEvent) -> WindowScore:
        """Return the clearest window of an event."""
        best = event.best
        highs = [*(window.low for window in islice(self._recent, 1, None)), FOREVER]
        for window, high in zip(self._recent, highs, strict=True):
            if window.low < event.end and high > event.start:
                best = _clearer(best, window)
        return best or self._recent[0]

    def _report(self, reached: float) -> Iterator[EventUpdate]:
        """Yield the beginning of an event once it is certain, and updates of it at intervals."""
        event = self._open
        if event is None or not event.ongoing:
            return
        if not event.number:
            if event.end - event.start >= self._rule.min_duration:
                event.reported = reached
                yield self._updated("begin", event)
        elif self._update and reached - event.reported >= self._update:
            event.reported = reached
            yield self._updated("update", event)

    def _finish(self) -> Iterator[EventUpdate]:
        """Yield the end of the event, unless it is too short."""
        event = self._open
        if event is not None and (event.number or event.end - event.start >= self._rule.min_duration):
            if not event.number:
                yield self._updated("begin", event)
            yield self._updated("end", event)
        self._open = None
        while self._recent and (self._run is None or self._recent[0].low < self._run):
            self._recent.popleft()

    def _updated(self, kind: Kind, event: OpenEvent) -> EventUpdate:
        """Return an update of an event."""
        event.number = event.number or next(self._numbers)
        event.sequence += 1
        return self._shown(kind, event)

    def _shown(self, kind: Kind, event: OpenEvent) -> EventUpdate:
        """Return what is known of an event."""
        windows = event.windows + (self._run_windows if event.ongoing else 0)
        about = (event.number, event.sequence - 1, self._label, event.start, event.end, self._peak(event), windows)
        return EventUpdate(kind, *about)


def _clearer(best: WindowScore | None, window: WindowScore) -> WindowScore:
    """Return the clearer of two windows, the earlier one of equals."""
    return window if best is None or window.similarity > best.similarity else best


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
        numbers: Iterator[int],
    ) -> None:
        """Begin at the beginning of a segment; the arguments are those of `LabelTracker`, `thresholds` one a label."""
        self._start = start
        self._centre: float | None = None
        self._labels = [
            LabelTracker(label, rule, own, window=window, start=start, update=update, numbers=numbers)
            for label, own in enumerate(thresholds)
        ]

    def push(self, span: Span, probabilities: Sequence[float], similarities: Sequence[float]) -> Iterator[EventUpdate]:
        """Take the scores of the next window, one a label, and yield what happens."""
        centre = (span.start + span.end) / 2
        low = self._start if self._centre is None else (self._centre + centre) / 2
        self._centre = centre
        for label, probability, similarity in zip(self._labels, probabilities, similarities, strict=True):
            yield from label.push(WindowScore(low, centre, probability, similarity))

    def close(self, end: float) -> Iterator[EventUpdate]:
        """End the events in progress, where the segment ends."""
        for label in self._labels:
            yield from label.close(end)

    def ongoing(self) -> Iterator[EventUpdate]:
        """Yield the events in progress as they are known now, those whose beginning was reported."""
        for label in self._labels:
            if update := label.ongoing():
                yield update

    @property
    def open_since(self) -> float:
        """Where the oldest event in progress begins, at the earliest; infinity if there is none."""
        return min((label.open_since for label in self._labels), default=FOREVER)
