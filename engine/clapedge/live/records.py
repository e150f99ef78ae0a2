"""What is told of an event: one record each time, the same to every sink. The fields are stable."""

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from clapedge.events.event import Kind

Reason = Literal["quiet", "gap", "end"]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """An event that begins, goes on or ends.

    Attributes:
        kind: `begin`, `update` or `end`.
        id: of the event; the same in all its records, and unlike that of any other event.
        sequence: 0 in the first record of an event, then one more each time.
        label: what is heard.
        start: where it begins, in seconds of sound since listening began.
        end: where it ends; how far it has come, before.
        peak: middle of the window in which it is clearest so far.
        probability: the label's, there.
        similarity: the label's, there.
        at: the time of `start`: ISO 8601, UTC.
        until: the time of `end`.
        latency_ms: from the arrival of the sound that decided to this record.
        delay_ms: from the beginning of the event to this record.
        reason: why it ended: `quiet` (it is heard no more), `gap` (the sound was interrupted) or `end` (of listening).
        clip: name of the file that keeps its sound.
        source: what was heard.
        model: model id of the bundle.
        weights: `pretrained`, `random` or `demo`.
        variant: precision of the audio tower.
        provider: where the tower ran.
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

    @property
    def key(self) -> str:
        """What tells this record from every other one: who receives it twice knows it by that."""
        return f"{self.id}-{self.sequence}"


class EventSink(Protocol):
    """Where records go. Taking one must not keep the listener waiting."""

    def take(self, record: Record, data: bytes) -> None:
        """Take a record, and the JSON of it."""
        ...

    def close(self) -> None:
        """Hand on what can be handed on soon, and end."""
        ...

    def notes(self) -> Sequence[str]:
        """Return what was lost or waits, as sentences."""
        ...


class Lines:
    """Records as JSON Lines, each written through at once."""

    def __init__(self, write: "WriteLine") -> None:
        """Write with a function that takes a line of bytes, its end included."""
        self._write = write

    def take(self, record: Record, data: bytes) -> None:  # noqa: ARG002 - as all sinks
        """Write a line."""
        self._write(data + b"\n")

    def close(self) -> None:
        """Do nothing: every line was written through."""

    def notes(self) -> Sequence[str]:
        """Tell of nothing."""
        return ()


class WriteLine(Protocol):
    """Writes a line through to who reads it."""

    def __call__(self, line: bytes, /) -> object:
        """Write it."""
        ...
