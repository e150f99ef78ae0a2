"""When a label counts as present: hysteresis thresholding, merging of close spans, trimming of their ends."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from clapedge.errors import UsageError
from clapedge.scoring.decision import THRESHOLD

ON_PROBABILITY, OFF_PROBABILITY = 0.5, 0.3
"""More probable than all other labels together; and low enough that a flicker does not end an event."""


SIMILARITY_HYSTERESIS = 0.05
"""How far a similarity must fall below its threshold to end an event: a sixth of the usual threshold."""


TRIM = 0.25
"""Share of a window that is taken off both ends of an event. A window whose middle lies outside an event still scores
it: a loud event with any part of the window, a faint one with half of it. So an event seems to begin earlier and to end
later by something between nothing and half a window; with the middle of that, it is placed to within a quarter."""


class Span(NamedTuple):
    """A part of a recording, in seconds."""

    start: float
    end: float


@dataclass(frozen=True)
class EventRule:
    """When a label counts as present.

    Attributes:
        on: score from which an event begins; None means 0.5 of probability or, with `multi`, the label's threshold.
        off: score below which it ends, at most `on`; None means 0.3 of probability (less if `on` is less) or, with
            `multi`, 0.05 of similarity below `on`.
        min_duration: seconds; shorter events are left out.
        merge_gap: seconds; events of a label that are no farther apart become one.
        multi: whether each label is compared with its own threshold, by similarity; else labels share the probability.
    """

    on: float | None = None
    off: float | None = None
    min_duration: float = 0.0
    merge_gap: float = 0.0
    multi: bool = False

    def __post_init__(self) -> None:
        """Raise `UsageError` if a value is impossible."""
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


def trim_ends(span: Span, seconds: float, whole: Span) -> Span:
    """Return a span without so many seconds at its ends, but at least half of it; an end of the whole stays."""
    most = (span.end - span.start) / 4
    start = span.start if span.start <= whole.start else span.start + min(seconds, most)
    end = span.end if span.end >= whole.end else span.end - min(seconds, most)
    return Span(start, end)


def merge_close(spans: Iterable[Span], gap: float) -> Iterator[Span]:
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
