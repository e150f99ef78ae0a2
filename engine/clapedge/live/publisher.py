"""What the tracker finds, as records to every sink."""

from collections.abc import Sequence

import msgspec

from clapedge.events.tracker import EventUpdate
from clapedge.live.alarms.judge import Verdict
from clapedge.live.clip_recorder import ClipRecorder
from clapedge.live.clock import iso_time
from clapedge.live.context import ListenerContext
from clapedge.live.records import AlarmRecord, EventRecord, LevelRecord, Reason, Record
from clapedge.live.sound_levels import Level
from clapedge.live.status import Counts
from clapedge.scoring.result import Provenance

MILLISECONDS = 3
"""Decimals of seconds in a record."""


class EventPublisher:
    """Makes a record of each update of an event, counts it, and writes it to every sink."""

    def __init__(
        self,
        context: ListenerContext,
        names: Sequence[str],
        provenance: Provenance,
        counts: Counts,
        *,
        calibrated: bool = False,
        cooldown: float = 0.0,
    ) -> None:
        """Publish events of labels with these names, scored by an engine of this provenance.

        Args:
            context: where to.
            names: of the labels.
            provenance: of the engine.
            counts: what was done so far.
            calibrated: whether levels are sound pressure levels.
            cooldown: seconds after an event's end in which no other one of its label is published.
        """
        self._cooldown, self._held = cooldown, dict[int, str]()
        self._ended: dict[int, float] = {}
        self._calibrated, self._minutes, self._alarms = calibrated, 0, 0
        self._context, self._names, self._provenance, self._counts = context, names, provenance, counts

    def publish(
        self,
        update: EventUpdate,
        *,
        reached: float,
        arrival: float,
        reason: Reason,
        recorder: ClipRecorder | None,
        level: Level | None = None,
    ) -> str | None:
        """Publish an update, and return why its event is held back, if it is.

        Args:
            update: the update.
            reached: position in the sound that decided, in seconds.
            arrival: when it arrived, by the monotonic clock.
            reason: why the event ends, if it does.
            recorder: cuts its clip, or None.
            level: of the event so far, or None.
        """
        if held := self._holds(update):
            return held
        latency = self._context.clock.monotonic() - arrival
        record = self._record(update, latency, reached=reached, reason=reason)
        if level is not None:
            calibrated = self._calibrated
            record = msgspec.structs.replace(record, laeq=level.laeq, lafmax=level.lafmax, calibrated=calibrated)
        if recorder:
            kept = recorder.clip_of(record)
            voice = msgspec.UNSET if kept.voice is None else kept.voice
            record = msgspec.structs.replace(record, clip=kept.name, voice=voice)
        if record.kind == "begin":
            self._counts.delay_ms.append(record.delay_ms)
        elif record.kind == "end":
            self._counts.events[record.label] = self._counts.events.get(record.label, 0) + 1
        self._write(record)
        return None

    def holds(self, update: EventUpdate) -> bool:
        """Return whether an event that goes on is held back."""
        return update.number in self._held

    def _holds(self, update: EventUpdate) -> str | None:
        """Return why an event comes too soon after the last one of its label that was published, and count it."""
        label, ended = self._names[update.label], self._ended.get(update.label)
        if update.kind == "begin" and ended is not None and update.start - ended < self._cooldown:
            text = f"{update.start - ended:.0f} s after the last one (cooldown {self._cooldown:g} s)"
            self._held[update.number] = text
            self._counts.held[label] = self._counts.held.get(label, 0) + 1
        if update.number in self._held:
            return self._held.pop(update.number) if update.kind == "end" else self._held[update.number]
        if update.kind == "end":
            self._ended[update.label] = update.end
        return None

    def _record(self, update: EventUpdate, latency: float, *, reached: float, reason: Reason) -> EventRecord:
        """Return the record of an update, without a clip and levels; see `publish`."""
        context, made_with = self._context, self._provenance.to_dict()
        return EventRecord(
            kind=update.kind,
            id=f"{context.run_id}-{update.number}",
            sequence=update.sequence,
            label=self._names[update.label],
            start=round(update.start, MILLISECONDS),
            end=round(update.end, MILLISECONDS),
            peak=round(update.peak.centre, MILLISECONDS),
            probability=update.peak.probability,
            similarity=update.peak.similarity,
            at=context.stamps.at(update.start),
            until=context.stamps.at(update.end),
            latency_ms=round(1e3 * latency, MILLISECONDS),
            delay_ms=round(1e3 * (latency + reached - update.start), MILLISECONDS),
            reason=reason if update.kind == "end" else None,
            clip=None,
            source=context.source,
            **made_with,  # type: ignore[arg-type] # all of it is text
        )

    def publish_alarm(
        self, verdict: Verdict, update: EventUpdate, *, reached: float, arrival: float, level: Level | None
    ) -> AlarmRecord:
        """Publish an alarm, and return its record; see `publish`."""
        context, provenance = self._context, self._provenance
        record = AlarmRecord(
            id=f"{context.run_id}-alarms",
            sequence=self._alarms,
            rule=verdict.rule,
            stage=verdict.stage or 0,
            why=verdict.why,
            label=self._names[update.label],
            event=f"{context.run_id}-{update.number}",
            at=context.stamps.at(reached),
            since=context.stamps.at(update.start),
            seconds=round(update.end - update.start, MILLISECONDS),
            windows=update.windows,
            probability=update.peak.probability,
            similarity=update.peak.similarity,
            latency_ms=round(1e3 * (context.clock.monotonic() - arrival), MILLISECONDS),
            source=context.source,
            model=provenance.model,
            weights=provenance.weights,
        )
        if level is not None:
            calibrated = self._calibrated
            record = msgspec.structs.replace(record, laeq=level.laeq, lafmax=level.lafmax, calibrated=calibrated)
        self._alarms += 1
        self._counts.alarms[verdict.rule] = self._counts.alarms.get(verdict.rule, 0) + 1
        self._write(record)
        return record

    def publish_minute(self, began: float, level: Level) -> None:
        """Publish the levels of a minute that began at a time, in seconds since 1970."""
        context = self._context
        record = LevelRecord(
            id=f"{context.run_id}-levels",
            sequence=self._minutes,
            at=iso_time(began),
            seconds=level.seconds,
            laeq=level.laeq,
            lafmax=level.lafmax,
            calibrated=self._calibrated,
            source=context.source,
        )
        self._minutes += 1
        self._counts.level = record
        self._write(record)

    def _write(self, record: Record) -> None:
        """Write a record to every sink."""
        data = msgspec.json.encode(record)
        for sink in self._context.sinks:
            sink.write(record, data)
