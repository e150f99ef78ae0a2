"""Scores of windows, one after the other, to events that begin, go on and end: a timeline, as it happens.

An event is told as soon as it is sure to be one, and ends where `Timeline.events` would end it: what that knows of the
whole recording is here waited for. Of the windows that an event hears, only the clearest is kept.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

from clapedge.events.rules import TRIM, EventRule, Span, trimmed

Kind = Literal["begin", "update", "end"]

FOREVER = float("inf")


class Moment(NamedTuple):
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
class Happening:
    """Something that an event does.

    Attributes:
        kind: `begin`, `update` or `end`.
        number: of the event, from 1 on.
        sequence: of this happening among those of the event, from 0 on.
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
    peak: Moment


@dataclass
class _Making:
    """An event in the making.

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
    best: Moment | None = None
    number: int = 0
    sequence: int = 0
    told: float = 0.0


class LabelTracker:
    """Follows one label through a stretch of sound without gaps."""

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
        """Begin at the beginning of a stretch.

        Args:
            label: its index among those that are shown.
            rule: when it counts as heard.
            own_threshold: the label's own, or None.
            window: seconds that each window hears.
            start: where the stretch begins, in seconds.
            update: seconds after which an event that goes on is told again; 0 never does.
            number: gives the next event its number.
        """
        self._label, self._rule, self._update, self._number = label, rule, update, number
        self._on, self._off = rule.thresholds(own_threshold)
        self._window, self._start = window, start
        self._run: float | None = None
        self._making: _Making | None = None
        self._recent: deque[Moment] = deque()

    def hear(self, moment: Moment) -> Iterator[Happening]:
        """Take what the next window says, and yield what happens."""
        score = moment.similarity if self._rule.multi else moment.probability
        if self._run is None:
            if score >= self._on:
                self._run = moment.low
        elif score < self._off:
            yield from self._end_run(Span(self._run, moment.low), FOREVER)
        if self._run is not None:
            yield from self._go_on(moment.centre)  # the run counts beyond it, but how far only the next window tells
        elif self._making and moment.low - self._making.end > self._rule.merge_gap:
            yield from self._finish()
        if self._making or self._run is not None:
            self._recent.append(moment)
            self._forget()
            yield from self._tell(moment.centre)
        else:
            self._recent.clear()

    def close(self, end: float) -> Iterator[Happening]:
        """End what is under way, where the stretch ends."""
        if self._run is not None:
            yield from self._end_run(Span(self._run, end), end)
        if self._making:
            yield from self._finish()

    def _go_on(self, reached: float) -> Iterator[Happening]:
        """Let the run that is under way last until `reached`; it joins the event before it, or is one of its own."""
        assured = Span(self._run if self._run is not None else reached, reached)
        span = self._trimmed(assured, FOREVER)
        settled = span.start <= self._start or assured.end - assured.start >= self._window
        if self._making and not self._making.going_on:
            if span.start - self._making.end > self._rule.merge_gap:
                yield from self._finish()
            elif settled:
                self._making.going_on = True
            else:
                return  # its start, which grows with its length, decides
        if self._making is None:
            self._making = _Making(span.start, span.end)
        if not self._making.settled:
            self._making.start, self._making.settled = span.start, settled
        self._making.end = span.end

    def _end_run(self, run: Span, whole_end: float) -> Iterator[Happening]:
        """Take a run that is complete."""
        span = self._trimmed(run, whole_end)
        if self._making and not self._making.going_on and span.start - self._making.end > self._rule.merge_gap:
            yield from self._finish()
        if self._making is None:
            self._making = _Making(span.start, span.end)
        if not self._making.settled:
            self._making.start, self._making.settled = span.start, True
        self._making.end, self._making.going_on = span.end, False
        self._run = None

    def _trimmed(self, run: Span, whole_end: float) -> Span:
        """Place a run as a timeline does."""
        return trimmed(run, TRIM * self._window, Span(self._start, whole_end))

    def _forget(self) -> None:
        """Let windows go that the event is sure to hear, but for the clearest."""
        making = self._making
        while making and making.settled and len(self._recent) > 1 and self._recent[0].low < making.end:
            moment = self._recent.popleft()
            if self._recent[0].low > making.start:
                making.best = _clearer(making.best, moment)

    def _peak(self, making: _Making) -> Moment:
        """Return the clearest window that an event hears."""
        best = making.best
        highs = [*(moment.low for moment in islice(self._recent, 1, None)), FOREVER]
        for moment, high in zip(self._recent, highs, strict=True):
            if moment.low < making.end and high > making.start:
                best = _clearer(best, moment)
        return best or self._recent[0]

    def _tell(self, reached: float) -> Iterator[Happening]:
        """Yield the beginning of an event once it is sure, and that it goes on when it is time."""
        making = self._making
        if making is None or not making.going_on:
            return
        if not making.number:
            if making.end - making.start >= self._rule.min_duration:
                making.told = reached
                yield self._happening("begin", making)
        elif self._update and reached - making.told >= self._update:
            making.told = reached
            yield self._happening("update", making)

    def _finish(self) -> Iterator[Happening]:
        """Yield the end of the event, unless it was too short to be one."""
        making = self._making
        if making is not None and (making.number or making.end - making.start >= self._rule.min_duration):
            if not making.number:
                yield self._happening("begin", making)
            yield self._happening("end", making)
        self._making = None
        while self._recent and (self._run is None or self._recent[0].low < self._run):
            self._recent.popleft()

    def _happening(self, kind: Kind, making: _Making) -> Happening:
        """Describe what an event does."""
        making.number = making.number or self._number()
        happening = Happening(
            kind, making.number, making.sequence, self._label, making.start, making.end, self._peak(making)
        )
        making.sequence += 1
        return happening


def _clearer(best: Moment | None, moment: Moment) -> Moment:
    """Return the clearer of two windows, the earlier one of equals."""
    return moment if best is None or moment.similarity > best.similarity else best


class Tracker:
    """Follows all labels through a stretch of sound without gaps."""

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
        """Begin at the beginning of a stretch; the arguments are those of `LabelTracker`, `thresholds` one a label."""
        self._start = start
        self._centre: float | None = None
        self._labels = [
            LabelTracker(label, rule, own, window=window, start=start, update=update, number=number)
            for label, own in enumerate(thresholds)
        ]

    def hear(self, span: Span, probabilities: Sequence[float], similarities: Sequence[float]) -> Iterator[Happening]:
        """Take the scores of the next window, one a label, and yield what happens."""
        centre = (span.start + span.end) / 2
        low = self._start if self._centre is None else (self._centre + centre) / 2
        self._centre = centre
        for label, probability, similarity in zip(self._labels, probabilities, similarities, strict=True):
            yield from label.hear(Moment(low, centre, probability, similarity))

    def close(self, end: float) -> Iterator[Happening]:
        """End what is under way, where the stretch ends."""
        for label in self._labels:
            yield from label.close(end)
