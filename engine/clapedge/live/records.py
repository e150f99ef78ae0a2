"""The record of an event, the same for every sink, and the protocol of sinks. The fields of a record are stable."""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

from clapedge.events.event import Kind

Reason = Literal["quiet", "gap", "paused", "end", "interrupted"]


class EventRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An event that begins, goes on or ends.

    Attributes:
        kind: `begin`, `update` or `end`.
        id: of the event; the same in all its records, and unique among all runs.
        sequence: number of the record among those of its event, from 0 on.
        label: name of the label.
        start: where the event begins, in seconds of sound since listening began.
        end: where it ends; before, how far it has come.
        peak: middle of the window in which it is clearest so far.
        probability: the label's, there.
        similarity: the label's, there.
        at: the time of `start`: ISO 8601, UTC.
        until: the time of `end`.
        latency_ms: from the arrival of the sound that decided to this record.
        delay_ms: from the beginning of the event to this record.
        reason: why it ended: `quiet` (the label is not present any more), `gap` (the sound was interrupted), `paused`
            (listening was), `end` (it ended) or `interrupted` (the process or the machine did, which the next run
            reports).
        clip: name of the file that holds its sound.
        voice: whether a voice was found in it, so that it was not kept, or not with its voice; left out before it was
            looked for.
        source: name of the source.
        model: model id of the bundle.
        weights: `pretrained`, `random` or `demo`.
        variant: precision of the audio tower.
        provider: where the tower ran.
        space: name of the embedding space; empty in records of older versions.
        age_s: seconds for which the record waited in a spool before it was sent.
        frontend: `device` where a GPU made the log-mels; left out where NumPy did.
        laeq: equivalent continuous level of the event so far, A-weighted, in dB; where levels are measured.
        lafmax: highest level of it so far, A-weighted, time weighting F, in dB; likewise.
        calibrated: whether these are sound pressure levels; else they are dBFS.
        tower: `1 strip` or `2 strips` of a clip, where a short tower heard them; left out where the whole one did.
    """

    kind: Kind
    id: str
    sequence: int
    label: str
    start: float
    end: float
    peak: float
    probability: float
    similarity: float
    at: str
    until: str
    latency_ms: float
    delay_ms: float
    reason: Reason | None
    clip: str | None
    source: str
    model: str
    weights: str
    variant: str
    provider: str
    space: str = ""
    age_s: float = 0.0
    frontend: str | msgspec.UnsetType = msgspec.UNSET
    tower: str | msgspec.UnsetType = msgspec.UNSET
    laeq: float | msgspec.UnsetType = msgspec.UNSET
    lafmax: float | msgspec.UnsetType = msgspec.UNSET
    calibrated: bool | msgspec.UnsetType = msgspec.UNSET
    voice: bool | msgspec.UnsetType = msgspec.UNSET

    @property
    def key(self) -> str:
        """Unique key of this record: a receiver recognises by it what it gets twice."""
        return f"{self.id}-{self.sequence}"


class LevelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The sound levels of a minute.

    Attributes:
        kind: `levels`.
        id: the same in all of a run, and unique among all runs.
        sequence: number of the record in its run, from 0 on.
        at: when the minute begins: ISO 8601, UTC.
        seconds: how much sound there was in it; less than 60 where some was missing.
        laeq: equivalent continuous level, A-weighted, in dB.
        lafmax: highest level, A-weighted, time weighting F, in dB.
        calibrated: whether these are sound pressure levels; else they are dBFS.
        source: name of the source.
        age_s: seconds for which the record waited in a spool before it was sent.
    """

    id: str
    sequence: int
    at: str
    seconds: float
    laeq: float
    lafmax: float
    calibrated: bool
    source: str
    kind: Literal["levels"] = "levels"
    age_s: float = 0.0

    @property
    def key(self) -> str:
        """Unique key of this record."""
        return f"{self.id}-{self.sequence}"


class AlarmRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An event that is worth an alarm, as a rule says, or the repetition of such an alarm.

    Attributes:
        kind: `alarm`.
        id: the same in all of a run, and unique among all runs.
        sequence: number of the record in its run, from 0 on.
        rule: name of the rule.
        stage: 0, or which of the repetitions it is while the event goes on.
        why: the conditions that hold, in words.
        label: that of the event.
        event: id of the event.
        at: the time of what was heard last: ISO 8601, UTC.
        since: the time at which the event began.
        seconds: for how long it has certainly lasted.
        windows: in how many windows its score reached the threshold of an event.
        probability: the label's, in the clearest window.
        similarity: the label's there.
        latency_ms: from the arrival of the sound that decided to this record.
        source: name of the source.
        model: model id of the bundle.
        weights: `pretrained`, `random` or `demo`.
        age_s: seconds for which the record waited in a spool before it was sent.
        laeq: equivalent continuous level of the event so far, A-weighted, in dB; where levels are measured.
        lafmax: highest level of it so far, A-weighted, time weighting F, in dB; likewise.
        calibrated: whether these are sound pressure levels; else they are dBFS.
    """

    id: str
    sequence: int
    rule: str
    stage: int
    why: str
    label: str
    event: str
    at: str
    since: str
    seconds: float
    windows: int
    probability: float
    similarity: float
    latency_ms: float
    source: str
    model: str
    weights: str
    kind: Literal["alarm"] = "alarm"
    age_s: float = 0.0
    laeq: float | msgspec.UnsetType = msgspec.UNSET
    lafmax: float | msgspec.UnsetType = msgspec.UNSET
    calibrated: bool | msgspec.UnsetType = msgspec.UNSET

    @property
    def key(self) -> str:
        """Unique key of this record."""
        return f"{self.id}-{self.sequence}"


Record: TypeAlias = EventRecord | LevelRecord | AlarmRecord

Accepts: TypeAlias = Callable[[Record], bool]
"""Which records a sink takes."""


def every_record(record: Record) -> bool:  # noqa: ARG001 - as `Accepts`
    """Return true."""
    return True


def is_event(record: Record) -> bool:
    """Return whether a record is of an event."""
    return isinstance(record, EventRecord)


def is_alarm(record: Record) -> bool:
    """Return whether a record is of an alarm."""
    return isinstance(record, AlarmRecord)


class EventSink(Protocol):
    """Where records go."""

    def write(self, record: Record, data: bytes) -> None:
        """Accept a record, and the JSON of it, without keeping the listener waiting."""
        ...

    def close(self) -> None:
        """Deliver what can be delivered soon, and end."""
        ...

    def notes(self) -> Sequence[str]:
        """Return what was lost or waits, as sentences."""
        ...
