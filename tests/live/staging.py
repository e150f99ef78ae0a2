"""What listening is tested with: a recording with planted sounds, scripted buffers, a clock that stands still."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

import clapedge
from clapedge.arrays import Float32Array
from clapedge.events.event import Kind
from clapedge.live.buffer import AudioBuffer, Chunk
from clapedge.live.listener import Listener
from clapedge.live.records import AlarmRecord, EventRecord, LevelRecord, Record
from clapedge.live.sinks.command import CommandSink
from clapedge.live.sinks.delivery import SpooledSink
from clapedge.live.sinks.spool import Spool
from clapedge.live.status import Status

RATE = 48_000
FEED_RATE = 16_000
"""Of raw samples, in Hz."""
CLIPS = Path(clapedge.__file__).parent / "demo_clips"
PLANTED = {"siren": (5.0, 4.0), "smoke alarm": (15.0, 5.0), "telephone ringing": (26.5, 4.0)}
"""What is planted: from which second on, and for how many."""
SECONDS = 36


@dataclass
class StillClock:
    """A clock that moves when a test moves it."""

    now: float = 1000.0
    utc: float = 1_800_000_000.0

    def monotonic(self) -> float:
        """Return the seconds of a clock that nobody can set."""
        return self.now

    def wall(self) -> float:
        """Return the seconds since 1970."""
        return self.utc

    def pass_(self, seconds: float) -> None:
        """Let time go by."""
        self.now += seconds
        self.utc += seconds


class Script(AudioBuffer):
    """A buffer that returns what it was given, one after the other, and then ends."""

    def __init__(self, clock: StillClock, *popped: Chunk | Literal["stalled"] | Callable[[], None]) -> None:
        """Prepare what `pop` returns, sound arriving in real time; functions are called on the way."""
        super().__init__(1.0)
        self._clock, self._popped = clock, list(reversed(popped))

    def pop(self, timeout: float) -> Chunk | Literal["stalled", "ended"]:  # noqa: ARG002 - as a buffer
        """Return the next one."""
        while self._popped:
            popped = self._popped.pop()
            if isinstance(popped, Chunk):
                self._clock.pass_(popped.seconds)
                return replace(popped, monotonic=self._clock.now, wall=self._clock.utc)
            if popped == "stalled":
                return popped
            popped()
        return "ended"


def chunks_of(
    samples: Float32Array, *, rate: int = RATE, start: float = 0.0, fresh: bool = False, seconds: float = 0.1
) -> list[Chunk]:
    """Cut samples (n,) or (n, channels) into chunks."""
    frames = samples[:, None] if samples.ndim == 1 else samples
    step = round(seconds * rate)
    chunks: list[Chunk] = []
    for first in range(0, len(frames), step):
        chunks.append(Chunk(frames[first : first + step], rate, start, fresh and not chunks, 0.0, 0.0))
        start = chunks[-1].end
    return chunks


class MemorySink:
    """A sink that keeps what it accepts."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.records: list[EventRecord] = []
        self.levels: list[LevelRecord] = []
        self.alarms: list[AlarmRecord] = []

    def write(self, record: Record, data: bytes) -> None:
        """Keep a record, as it travels."""
        assert msgspec.json.decode(data, type=type(record)) == record
        if isinstance(record, LevelRecord):
            self.levels.append(record)
        elif isinstance(record, AlarmRecord):
            self.alarms.append(record)
        else:
            self.records.append(record)

    def close(self) -> None:
        """Do nothing."""

    def notes(self) -> tuple[str, ...]:
        """Return nothing."""
        return ()

    def ended(self) -> list[EventRecord]:
        """Return the ends of events."""
        return [record for record in self.records if record.kind == "end"]


@dataclass
class ListenerSetup:
    """A listener and all that it is connected to."""

    listener: Listener
    clock: StillClock
    sink: MemorySink


class Impatient(threading.Event):
    """An event that does not wait, and remembers how long it was asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        """Return at once."""
        self.waited.append(timeout)
        return self.is_set()


class Hold(threading.Event):
    """An event that does something instead of waiting."""

    def __init__(self, instead: Callable[[], object]) -> None:
        super().__init__()
        self._instead = instead

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - as an event waits
        """Do it, and return at once."""
        self._instead()
        return self.is_set()


PATIENCE = 20.0
"""Seconds after which a test gives up; none takes a hundredth of it."""


def record_of(number: int, kind: Kind = "end", sequence: int = 0) -> EventRecord:
    """Return a record; one alone is an end, after which nothing is missing."""
    return EventRecord(
        kind=kind, id=f"0a1b-{number}", sequence=sequence, label="siren", start=1.0, end=2.0, peak=1.5, probability=0.9,
        similarity=0.5, at="2026-01-01T00:00:01.000Z", until="2026-01-01T00:00:02.000Z", latency_ms=1.0, delay_ms=2.0,
        reason="quiet" if kind == "end" else None, clip=None, source="test", model="m", weights="demo", variant="int8",
        provider="cpu",
    )  # fmt: skip


def alarm_of(number: int) -> AlarmRecord:
    """Return an alarm."""
    return AlarmRecord(
        id="0a1b-alarms", sequence=number, rule="night", stage=0, why="it lasts 5.0 s", label="siren", event="0a1b-1",
        at="2026-01-01T00:00:05.000Z", since="2026-01-01T00:00:00.000Z", seconds=5.0, windows=4, probability=0.9,
        similarity=0.5, latency_ms=1.0, source="test", model="m", weights="demo",
    )  # fmt: skip


LEVEL = LevelRecord(
    id="a-levels",
    sequence=0,
    at="2026-01-01T00:00:00.000Z",
    seconds=60.0,
    laeq=41.2,
    lafmax=63.9,
    calibrated=True,
    source="yard",
)
YARD = Status(
    state="listening",
    source="yard",
    run="a",
    uptime_s=90.0,
    cpu_s=1.0,
    sound_s=80.5,
    samples_read=1000,
    samples_heard=800,
    samples_dropped=100,
    samples_waiting=100,
    drops=1,
    gaps=2,
    stalls=1,
    reconnects=3,
    windows=70,
    gated=5,
    asleep=4,
    notes=(),
    events={'a "quoted" \\ siren\n': 2},
    messages_waiting={"mqtt://broker": 7},
    level=LEVEL,
    alarms={"night": 3},
    window_ms=(20.0, 30.0, 40.0),
    latency_ms=(100.0, 150.0, 200.0),
    delay_ms=None,
)
"""A status in which figures differ, so that none is taken for another."""


def give(sink: SpooledSink | CommandSink, number: int) -> None:
    """Write a record to a sink."""
    record = record_of(number)
    sink.write(record, msgspec.json.encode(record))


def eventually(done: Callable[[], object]) -> None:
    """Wait until another thread or process has done something."""
    until = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.002)


def spool_of(directory: Path, **options: object) -> Spool:
    """Open a spool."""
    chosen: dict[str, object] = {"max_bytes": 2**20, "sync": False}
    return Spool(directory, **{**chosen, **options})  # type: ignore[arg-type]
