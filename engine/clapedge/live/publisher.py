"""What the tracker finds, as records to every sink."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import msgspec

from clapedge.events.tracker import EventUpdate
from clapedge.live.background_keeper import BackgroundKeeper
from clapedge.live.clip_recorder import ClipRecorder, ClipStore
from clapedge.live.clock import Clock, Stamps
from clapedge.live.records import EventRecord, EventSink, Reason
from clapedge.live.status import Counts
from clapedge.scoring.result import Provenance

MILLISECONDS = 3
"""Decimals of seconds in a record."""


@dataclass(frozen=True)
class ListenerContext:
    """What a listener is connected to.

    Attributes:
        source: name of the source.
        run_id: what ids of events begin with; unique among all runs.
        clock: measures time.
        stamps: turn positions in the sound into times.
        sinks: where records go.
        clip_store: keeps clips of events, or None.
        background: keeps the embeddings of windows, or None.
        turns: are taken at the tower, which several sources may share.
    """

    source: str
    run_id: str
    clock: Clock
    stamps: Stamps
    sinks: Sequence[EventSink]
    clip_store: ClipStore | None = None
    background: BackgroundKeeper | None = None
    turns: AbstractContextManager[object] = field(default_factory=nullcontext)


class EventPublisher:
    """Makes a record of each update of an event, counts it, and writes it to every sink."""

    def __init__(self, context: ListenerContext, names: Sequence[str], provenance: Provenance, counts: Counts) -> None:
        """Publish events of labels with these names, scored by an engine of this provenance."""
        self._context, self._names, self._provenance, self._counts = context, names, provenance, counts

    def publish(
        self,
        update: EventUpdate,
        *,
        reached: float,
        arrival: float,
        reason: Reason,
        recorder: ClipRecorder | None,
    ) -> None:
        """Publish an update.

        Args:
            update: the update.
            reached: position in the sound that decided, in seconds.
            arrival: when it arrived, by the monotonic clock.
            reason: why the event ends, if it does.
            recorder: cuts its clip, or None.
        """
        context = self._context
        latency = context.clock.monotonic() - arrival
        record = EventRecord(
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
            age_s=0.0,
            **self._provenance.to_dict(),
        )
        if recorder:
            record = msgspec.structs.replace(record, clip=recorder.clip_of(record))
        if record.kind == "begin":
            self._counts.delay_ms.append(record.delay_ms)
        elif record.kind == "end":
            self._counts.events[record.label] = self._counts.events.get(record.label, 0) + 1
        data = msgspec.json.encode(record)
        for sink in context.sinks:
            sink.write(record, data)
