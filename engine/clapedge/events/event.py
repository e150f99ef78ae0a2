"""An event: a label that is present for a while."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["begin", "update", "end"]


@dataclass(frozen=True)
class Event:
    """A label that is present for a while.

    Attributes:
        label: its name.
        start: where it begins, in seconds of the recording.
        end: where it ends.
        peak: the middle of the window in which it is clearest.
        probability: its probability there.
        similarity: its similarity there.
    """

    label: str
    start: float
    end: float
    peak: float
    probability: float
    similarity: float


@dataclass(frozen=True)
class LiveEvent(Event):
    """What is known of an event while sound goes on; see `EventUpdate` for when `start` and `end` are final.

    Attributes:
        kind: `begin`, `update` or `end`.
        number: of the event, from 1 on; the same in all its updates.
    """

    kind: Kind
    number: int
