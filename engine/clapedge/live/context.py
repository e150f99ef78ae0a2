"""What a listener is connected to."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from clapedge.live.alarms.journal import Journal
from clapedge.live.alarms.judge import AlarmJudge
from clapedge.live.background_keeper import BackgroundKeeper
from clapedge.live.clip_recorder import ClipStore
from clapedge.live.clock import Clock, Stamps
from clapedge.live.records import EventSink


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
        alarms: decides which events are worth an alarm, or None.
        journal: is written to, or None.
    """

    source: str
    run_id: str
    clock: Clock
    stamps: Stamps
    sinks: Sequence[EventSink]
    clip_store: ClipStore | None = None
    background: BackgroundKeeper | None = None
    turns: AbstractContextManager[object] = field(default_factory=nullcontext)
    alarms: AlarmJudge | None = None
    journal: Journal | None = None
