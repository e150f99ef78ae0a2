"""Why there was an alarm, or none: what a journal says of some minutes, for a reader."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from clapedge.live.alarms.journal import AlarmLine, EventLine, GapLine, Line, MinuteLine, SettingsLine, read_journal
from clapedge.terminal import counted, display_width, printable

LONGEST_SILENCE = 90.0
"""Seconds between lines of minutes after which nothing was heard in between."""

GAPS = {
    "gap": "the sound was interrupted or dropped",
    "stalled": "no sound came from the source",
    "paused": "listening was paused",
    "end": "listening ended",
}


@dataclass
class Explanation:
    """What a journal says of a span of time.

    Attributes:
        since: its beginning, in seconds since 1970.
        until: its end.
        settings: how it was listened; None if the journal does not go back so far.
        minutes: what was heard, a minute each.
        events: those that touch the span.
        alarms: those in it.
        gaps: interruptions in it.
        begins: when listening began in it.
    """

    since: float
    until: float
    settings: SettingsLine | None = None
    minutes: list[MinuteLine] = field(default_factory=list)
    events: list[EventLine] = field(default_factory=list)
    alarms: list[AlarmLine] = field(default_factory=list)
    gaps: list[GapLine] = field(default_factory=list)
    begins: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, lines: Iterable[Line], since: float, until: float) -> "Explanation":
        """Gather what lines say of a span of time, in seconds since 1970."""
        found = cls(since, until)
        for line in lines:
            if isinstance(line, SettingsLine):
                if found.settings is None or seconds_of(line.at) < until:
                    found.settings = line
                if since <= seconds_of(line.at) <= until:
                    found.begins.append(line.at)
            elif isinstance(line, EventLine):
                if seconds_of(line.until) >= since and seconds_of(line.at) <= until:
                    found.events.append(line)
            elif isinstance(line, MinuteLine):
                if since - 60 < seconds_of(line.at) <= until:
                    found.minutes.append(line)
            elif since <= seconds_of(line.at) <= until:
                (found.alarms if isinstance(line, AlarmLine) else found.gaps).append(line)  # type: ignore[arg-type]
        return found

    def lines(self, label: str | None = None) -> Iterator[str]:
        """Yield it as lines for a reader; of one label alone, if one is named."""
        source = self.settings.source if self.settings else "an unknown source"
        yield f"{printable(source)}, {shown_time(self.since)} to {shown_time(self.until)}"
        yield ""
        yield from self._heard()
        yield ""
        yield from self._labels(label)
        others = [event.label for event in self.events if not event.alarms and not event.held and label is None]
        for event in self.events:
            if event.label == label or (label is None and (event.alarms or event.held)):
                yield ""
                yield from self._event(event)
        ended = {event.event for event in self.events}
        for alarm in self.alarms:
            if alarm.event not in ended and label in {None, alarm.label}:
                yield ""
                yield f"{printable(alarm.label)}, of which the end is not known"
                yield self._alarm(alarm)
        if others:
            names = ", ".join(map(printable, dict.fromkeys(others)))
            yield ""
            yield f"{counted(len(others), 'event')} that no rule concerns: {names}"
        yield ""
        yield from self._rules(label)

    def _heard(self) -> Iterator[str]:
        """Yield what was listened to, and what was not."""
        if not self.minutes:
            yield "nothing was listened to in that time"
        else:
            heard, gated, asleep = (
                sum(getattr(one, name) for one in self.minutes) for name in ("heard", "gated", "asleep")
            )
            parts = [f"{counted(heard, 'window')} heard"]
            if gated and self.settings:
                parts.append(f"{gated} below the gate of {self.settings.gate:g} dBFS")
            if asleep and self.settings:
                parts.append(f"{asleep} outside of the hours {self.settings.hours}")
            yield ", ".join(parts)
        found = [(gap.at, GAPS.get(gap.reason, gap.reason)) for gap in self.gaps]
        for at, what in sorted(found + [(at, "listening began") for at in self.begins]):
            yield f"{self._clock(at)}: {what}"
        times = [seconds_of(minute.at) for minute in self.minutes]
        for before, after in pairwise(times):
            if after - before > LONGEST_SILENCE:
                yield f"nothing was heard between {self._clock(before + 60)} and {self._clock(after)}"

    def _labels(self, label: str | None) -> Iterator[str]:
        """Yield a table of the labels: how close each came to an event."""
        if self.settings is None:
            return
        best = self._best()
        names = [name for name in self.settings.on if label in {None, name}]
        names.sort(key=lambda name: self.settings.on[name] - best.get(name, (-9.0, 0.0))[0])  # type: ignore[union-attr]
        rows = [("label", f"highest {self.settings.score}", "at", "an event from", "events")]
        for name in names:
            score, when = best.get(name, (None, 0.0))
            count = sum(event.label == name for event in self.events)
            shown = "-" if score is None else f"{score:.3f}"
            on = f"{self.settings.on[name]:.3f}"
            rows.append((printable(name), shown, "-" if score is None else self._clock(when), on, str(count or "-")))
        widths = [max(display_width(row[at]) for row in rows) for at in range(5)]
        for row in rows:
            cells = (cell + " " * (width - display_width(cell)) for cell, width in zip(row, widths, strict=True))
            yield "  ".join(cells).rstrip()

    def _clock(self, at: str | float) -> str:
        """Return the time of a stamp, or of seconds since 1970: of the day alone where all is of one."""
        shown = shown_time(seconds_of(at) if isinstance(at, str) else at)
        day = shown_time(self.since)[:10]
        return shown[11:] if shown.startswith(day) and shown_time(self.until).startswith(day) else shown

    def _best(self) -> dict[str, tuple[float, float]]:
        """Return the highest score of each label, and when it was."""
        found: dict[str, tuple[float, float]] = {}
        for minute in self.minutes:
            for name, (score, after) in minute.best.items():
                if name not in found or score > found[name][0]:
                    found[name] = score, seconds_of(minute.at) + after
        return found

    def _event(self, event: EventLine) -> Iterator[str]:
        """Yield an event, and what each rule said of it."""
        level = "" if event.lafmax is None else f", LAFmax {event.lafmax:.1f} dB, LAeq {event.laeq:.1f} dB"
        scores = f"probability {event.probability:.2f}, similarity {event.similarity:.2f}"
        lasted = f"{event.seconds:.1f} s, {counted(event.windows, 'window')}"
        yield f"{self._clock(event.at)} {printable(event.label)}: {lasted}, {scores}{level}"
        if event.held:
            yield f"  not reported, and no alarm: {event.held}"
            return
        for rule, why_not in event.alarms.items():
            if why_not is not None:
                yield f"  {printable(rule)}: no alarm: {why_not}"
        for alarm in self.alarms:
            if alarm.event == event.event:
                yield self._alarm(alarm)
        if not event.alarms:
            yield "  no rule concerns it"

    def _alarm(self, alarm: AlarmLine) -> str:
        """Return an alarm as a line."""
        repeated = f" (repetition {alarm.stage})" if alarm.stage else ""
        return f"  {printable(alarm.rule)}: ALARM at {self._clock(alarm.at)}{repeated}: {alarm.why}"

    def _rules(self, label: str | None) -> Iterator[str]:
        """Yield of each rule how many alarms it gave, and why there was nothing to judge if so."""
        if self.settings is None:
            yield "the journal does not go back so far"
            return
        if not self.settings.alarms:
            yield "there are no rules for alarms (--alarms)"
        for rule, labels in self.settings.alarms.items():
            concerned = [name for name in self.settings.on if not labels or name in labels]
            if label is not None and label not in concerned:
                yield f"{printable(rule)}: does not concern {printable(label)}"
                continue
            named = [name for name in concerned if label in {None, name}]
            count = sum(alarm.rule == rule and alarm.label in named for alarm in self.alarms)
            events = [event for event in self.events if event.label in named]
            reason = "" if count else f": {self._nothing(named, events)}"
            yield f"{printable(rule)}: {counted(count, 'alarm') if count else 'no alarm'}{reason}"

    def _nothing(self, concerned: list[str], events: list[EventLine]) -> str:
        """Return why a rule that concerns some labels gave no alarm."""
        if not concerned:
            return "none of its labels is listened for"
        if events:
            return f"{counted(len(events), 'event')}, see above"
        settings, best = self.settings, self._best()
        over = [name for name in concerned if settings and best.get(name, (-9.0, 0.0))[0] >= settings.on[name]]
        if over and settings:
            names, least = ", ".join(map(printable, over)), f"{settings.min_duration:g} s (--min-duration)"
            return f"{names} came over the threshold, but for less than {least}, or the event still goes on"
        return "no window reached the threshold of an event" if self.minutes else "nothing was listened to"


def explain(directory: Path, since: float, until: float) -> Explanation:
    """Return what the journal in a directory says of a span of time, in seconds since 1970."""
    return Explanation.of(read_journal(directory), since, until)


def seconds_of(stamp: str) -> float:
    """Return a stamp (ISO 8601, UTC) in seconds since 1970."""
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


def shown_time(seconds: float) -> str:
    """Return a time (seconds since 1970) in this machine's zone, to the second."""
    return f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M:%S}"
