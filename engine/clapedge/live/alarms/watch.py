"""Alarms of a source while it is listened to, and the journal of it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clapedge.arrays import Float64Array
from clapedge.events.tracker import EventUpdate
from clapedge.live.alarms.journal import EventLine, GapLine, MinuteLine, SettingsLine
from clapedge.live.alarms.judge import Sighting, Verdict
from clapedge.live.clock import iso_time
from clapedge.live.context import ListenerContext
from clapedge.live.options import ListenOptions
from clapedge.live.records import AlarmRecord
from clapedge.live.sound_levels import Level

logger = logging.getLogger("clapedge.live")

MOST_SHOWN = 20
"""Labels of a minute in the journal, those that came closest to an event: a line stays below 1 kB."""

DECIMALS = 3
"""Of seconds and scores in the journal."""

SCORED, GATED, ASLEEP = "heard", "gated", "asleep"
"""What became of a window."""


@dataclass
class _Minute:
    """A minute of the clock so far; see `MinuteLine`."""

    began: float
    counts: dict[str, int]
    best: Float64Array
    where: Float64Array


class AlarmWatch:
    """Looks at each window and event of a source, for its alarms and its journal."""

    def __init__(
        self,
        context: ListenerContext,
        options: ListenOptions,
        names: Sequence[str],
        own_thresholds: Sequence[float | None],
    ) -> None:
        """Begin; labels of rules that are not listened for are named in the log.

        Args:
            context: what the listener is connected to.
            options: how it listens.
            names: of the labels.
            own_thresholds: the labels' own, or None.
        """
        self._context, self._options, self._names = context, options, tuple(names)
        self._judge, self._journal, self._stamps = context.alarms, context.journal, context.stamps
        self._thresholds = np.array([options.rule.thresholds(own)[0] for own in own_thresholds], np.float64)
        self._minute: _Minute | None = None
        for rule in self._judge.rules if self._judge else ():
            if missing := ", ".join(rule.missing(names)):
                about = (context.source, rule.name, missing)
                logger.warning("%s: the rule %s names labels that are not listened for: %s", *about)

    @property
    def for_alarms(self) -> bool:
        """Whether events in progress are to be looked at."""
        return self._judge is not None

    def begin(self) -> None:
        """Write how it is listened."""
        if self._journal is None:
            return
        options, judge = self._options, self._judge
        settings = SettingsLine(
            at=self._stamps.at(0.0),
            source=self._context.source,
            run=self._context.run_id,
            score="similarity" if options.rule.multi else "probability",
            on=dict(zip(self._names, self._thresholds.tolist(), strict=True)),
            hop=options.hop,
            min_duration=options.rule.min_duration,
            gate=options.gate,
            hours=str(options.hours) if options.hours else None,
            alarms={rule.name: list(rule.labels) for rule in judge.rules} if judge else {},
        )
        self._journal.begin(settings)

    def window(self, centre: float, outcome: str, scores: Sequence[float]) -> None:
        """Note a window for the journal.

        Args:
            centre: its middle, in seconds of sound.
            outcome: `heard`, `gated` or `asleep`.
            scores: what decides, one a label.
        """
        if self._journal is None:
            return
        now = self._stamps.seconds(centre)
        minute = self._minute
        if minute is None or now // 60 != minute.began // 60:
            self._write_minute()
            empty = np.full(len(self._names), -np.inf)
            minute = self._minute = _Minute(now, dict.fromkeys((SCORED, GATED, ASLEEP), 0), empty, np.zeros(len(empty)))
        minute.counts[outcome] += 1
        if outcome == SCORED:
            higher = np.asarray(scores) > minute.best
            minute.where[higher] = now - minute.began
            minute.best = np.maximum(minute.best, scores)

    def look(self, update: EventUpdate, reached: float, level: Level | None) -> list[Verdict]:
        """Return the alarms that an event is worth now; windows reached so many seconds of sound."""
        if self._judge is None:
            return []
        score = update.peak
        return self._judge.look(
            Sighting(
                number=update.number,
                label=self._names[update.label],
                seconds=update.end - update.start,
                windows=update.windows,
                probability=score.probability,
                similarity=score.similarity,
                level=level,
                now=self._stamps.seconds(reached),
            )
        )

    def note(self, record: AlarmRecord) -> None:
        """Write an alarm that was given."""
        if self._journal is not None:
            self._journal.write(record)

    def end(self, update: EventUpdate, *, held: str | None, level: Level | None) -> None:
        """Write an event that is over, and what each rule said of it; `held` is why it was not reported."""
        verdicts = self._judge.close(update.number) if self._judge else []
        if self._journal is None:
            return
        line = EventLine(
            at=self._stamps.at(update.start),
            until=self._stamps.at(update.end),
            label=self._names[update.label],
            event=f"{self._context.run_id}-{update.number}",
            seconds=round(update.end - update.start, DECIMALS),
            windows=update.windows,
            probability=round(update.peak.probability, DECIMALS),
            similarity=round(update.peak.similarity, DECIMALS),
            held=held,
            laeq=level.laeq if level else None,
            lafmax=level.lafmax if level else None,
            alarms={verdict.rule: verdict.why if verdict.stage is None else None for verdict in verdicts},
        )
        self._journal.write(line)

    def gap(self, position: float, reason: str) -> None:
        """Note that sound was interrupted, or ended."""
        if self._journal is not None:
            self._write_minute()
            self._journal.write(GapLine(at=self._stamps.at(position), reason=reason))

    def _write_minute(self) -> None:
        """Write the minute that is over."""
        minute, self._minute = self._minute, None
        if minute is None or self._journal is None:
            return
        closest = np.argsort(self._thresholds - minute.best, kind="stable")[:MOST_SHOWN]
        best = {
            self._names[label]: (round(float(minute.best[label]), DECIMALS), round(float(minute.where[label]), 1))
            for label in closest
            if np.isfinite(minute.best[label])
        }
        self._journal.write(MinuteLine(at=iso_time(minute.began), **minute.counts, best=best))
