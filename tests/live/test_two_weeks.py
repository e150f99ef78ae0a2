"""Two weeks of listening in a minute: clocks that change and are set, power cuts, gaps; every event once.

Scores are made up, everything behind them is real: tracker, stamps, publisher, alarms, journal, spool and delivery.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from tests.live.staging import StillClock, spool_of

from clapedge.events.rules import EventRule, Span
from clapedge.events.tracker import Tracker
from clapedge.live.alarms.journal import AlarmLine, GapLine, Journal, MinuteLine, read_journal
from clapedge.live.alarms.judge import AlarmJudge
from clapedge.live.alarms.rules import AlarmRule
from clapedge.live.alarms.watch import SCORED, AlarmWatch
from clapedge.live.clock import Stamps
from clapedge.live.context import ListenerContext
from clapedge.live.hours import Hours
from clapedge.live.options import ListenOptions
from clapedge.live.publisher import EventPublisher
from clapedge.live.records import Record
from clapedge.live.segment_events import SegmentEvents
from clapedge.live.sinks.spool import Spool
from clapedge.live.status import Counts
from clapedge.scoring.result import Provenance

HOP, WINDOW, DAYS = 10.0, 10.0, 14
LABELS = ("siren", "dog", "glass")
RULES = (
    AlarmRule("any"),
    AlarmRule("daily", first_of_day=True),
    AlarmRule("night", hours=Hours.parse("22:00-06:00"), cooldown=3600.0),
    AlarmRule("long", labels=("siren",), min_duration=60.0, min_windows=6, escalate=(120.0,)),
)


class PowerCut(BaseException):
    """The machine goes off here."""


class SpoolAlone:
    """A sink that puts records into a spool, from which the test takes them."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool

    def write(self, record: Record, data: bytes) -> None:
        """Put a record as `SpooledSink` does."""
        kind = record.kind if record.kind in {"begin", "update", "end"} else None
        self.spool.put(record.key, data, kind=kind)

    def close(self) -> None:
        """Do nothing."""

    def notes(self) -> tuple[str, ...]:
        """Return nothing."""
        return ()


@dataclass
class World:
    """What outlasts a power cut, and what is known from outside.

    Attributes:
        directory: the disk.
        clock: of the machine.
        received: what the receiver got.
        planted: events that are to be heard, by their label; one that a gap falls into is two.
        runs: how often listening began.
    """

    directory: Path
    clock: StillClock
    received: list[dict[str, object]] = field(default_factory=list)
    planted: Counter[str] = field(default_factory=Counter)
    runs: int = 0

    def deliver(self, spool: Spool) -> None:
        """Let the receiver take all that waits."""
        while len(spool):
            first = spool.peek()
            assert first
            self.received.append(json.loads(first[1]))
            spool.remove(first[0])


class Ear:
    """A listener from its start to a power cut, whose scores are made up."""

    def __init__(self, world: World) -> None:
        """Start, as after a power cut."""
        world.runs += 1
        self._world, clock = world, world.clock
        self.spool, journal = spool_of(world.directory / "spool"), Journal(world.directory / "journal", max_bytes=2**25)
        judge, self._stamps = AlarmJudge(RULES, last=journal.last_alarms()), Stamps()
        options = ListenOptions(window=WINDOW, hop=HOP, rule=EventRule())
        context = ListenerContext(
            "yard", f"{world.runs:x}", clock, self._stamps, (SpoolAlone(self.spool),), alarms=judge, journal=journal
        )
        counts = Counts()
        made_with = Provenance(model="m", weights="demo", variant="int8", provider="cpu", space="s")
        self._publisher = EventPublisher(context, LABELS, made_with, counts)
        self._watch = AlarmWatch(context, options, LABELS, (None,) * len(LABELS))
        self._events = SegmentEvents(self._publisher, self._watch, None, None)
        self._numbers, self._position = iter(range(1, 10**9)), 0.0
        self._follow(fresh=True)
        self._watch.begin()
        self._begin()

    def _begin(self) -> None:
        """Begin a segment."""
        numbers, rule = self._numbers, EventRule()
        self._tracker = Tracker(
            (None,) * len(LABELS), rule, window=WINDOW, start=self._position, update=60.0, numbers=numbers
        )

    def _follow(self, *, fresh: bool) -> None:
        """Let stamps follow the clock."""
        clock = self._world.clock
        self._stamps.follow(self._position, monotonic=clock.monotonic(), wall=clock.wall(), fresh=fresh)

    def hear(self, present: str | None) -> None:
        """Take a window in which a label is present."""
        self._world.clock.pass_(HOP)
        self._position += HOP
        self._follow(fresh=False)
        scores = [0.9 if name == present else 0.02 for name in LABELS]
        span = Span(self._position - WINDOW, self._position)
        updates = self._tracker.push(span, scores, scores)
        reached, arrival = self._position, self._world.clock.monotonic()
        self._events.publish(updates, reached=reached, arrival=arrival, reason="quiet")
        self._events.look(self._tracker.ongoing(), reached=reached, arrival=arrival)
        self._watch.window(self._position - WINDOW / 2, SCORED, scores)

    def interrupt(self, seconds: float) -> None:
        """Hear nothing for a while."""
        arrival = self._world.clock.monotonic()
        updates = self._tracker.close(self._position)
        self._events.publish(updates, reached=self._position, arrival=arrival, reason="gap")
        self._watch.gap(self._position, "gap")
        self._world.clock.pass_(seconds)
        self._position += seconds
        self._follow(fresh=True)
        self._begin()

    def die(self) -> None:
        """Go off: nothing is closed, but what the system closes."""
        assert self.spool._lock
        self.spool._lock.close()


def sounds(chance: random.Random) -> Iterator[str | None]:
    """Yield what is present in each window: events of 1 to 20 windows with silence of some between."""
    while True:
        for _ in range(chance.randint(5, 400)):
            yield None
        label = chance.choice(LABELS)
        for _ in range(chance.randint(1, 20)):
            yield label


@pytest.fixture
def _berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Live where clocks change on 25 October 2026."""
    if not hasattr(time, "tzset"):
        pytest.skip("this system's time zone cannot be set for a process")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_berlin")
@pytest.mark.parametrize("seed", range(3))
def test_two_weeks_with_changed_clocks_power_cuts_and_gaps_end_with_every_event_once(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same in every run
    clock = StillClock(utc=datetime(2026, 10, 18, 12).timestamp())  # noqa: DTZ001 - Berlin's
    world = World(tmp_path, clock)
    ear, heard, began = Ear(world), sounds(chance), clock.now
    before: str | None = None
    interrupted, steps = 0, 0
    while clock.now - began < DAYS * 86_400:
        present = next(heard)
        world.planted[present or ""] += present is not None and present != before
        if (
            chance.random() < 1 / 4000
        ):  # an hour or so without power, or sound; half of them amid an event, if one is on
            away = chance.uniform(60.0, 7200.0)
            power = chance.random() < 0.5
            interrupted += 1
            if power:
                ear.die()
                clock.pass_(away)
                ear = Ear(world)
            else:
                ear.interrupt(away)
            if present is not None and present == before:
                world.planted[present] += 1  # it goes on behind the gap, as another event
        if chance.random() < 1 / 10_000:  # the clock is set, by a time server or a person
            clock.utc += chance.choice([-3600.0, -5.0, 3.0, 3600.0, 86_400.0, -86_400.0])
            steps += 1
        ear.hear(present)
        before = present
        if chance.random() < 1 / 50:  # else the receiver is away
            world.deliver(ear.spool)
    ear.interrupt(1.0)
    ear.die()
    spool = spool_of(tmp_path / "spool")
    world.deliver(spool)
    spool.close()
    assert interrupted > 10
    assert steps > 2
    _check_events(world)
    _check_alarms(world)


def _check_events(world: World) -> None:
    """Raise unless each event that was planted came once, and ended once."""
    events = [record for record in world.received if record["kind"] in {"begin", "update", "end"}]
    keys = Counter((record["id"], record["sequence"]) for record in events)
    assert max(keys.values()) == 1
    begins = Counter(record["id"] for record in events if record["kind"] == "begin")
    ends = Counter(record["id"] for record in events if record["kind"] == "end")
    assert set(begins) == set(ends)
    assert set(begins.values()) == set(ends.values()) == {1}
    labels = Counter(str(record["label"]) for record in events if record["kind"] == "begin")
    assert sum(labels.values()) > 300
    assert labels == +Counter({name: count for name, count in world.planted.items() if name})


def moment_of(record: dict[str, object]) -> datetime:
    """Return the time of an alarm, in the zone that is."""
    return datetime.fromisoformat(str(record["at"]).replace("Z", "+00:00")).astimezone()


def _check_alarms(world: World) -> None:
    """Raise unless alarms keep to their rules, and the journal has them all."""
    alarms = [record for record in world.received if record["kind"] == "alarm"]
    assert max(Counter((record["id"], record["sequence"]) for record in alarms).values()) == 1
    by_rule: dict[str, list[dict[str, object]]] = {rule.name: [] for rule in RULES}
    for record in alarms:
        by_rule[str(record["rule"])].append(record)
    events = {record["id"] for record in world.received if record["kind"] == "begin"}
    assert Counter(record["event"] for record in by_rule["any"]) == Counter(events)
    assert {record["stage"] for record in by_rule["long"]} == {0, 1}
    hours = Hours.parse("22:00-06:00")
    times = [moment_of(record).timestamp() for record in by_rule["night"]]
    assert all(hours.contain(moment) for moment in times)
    assert len(times) > 50
    dates = [moment_of(record).date() for record in by_rule["daily"]]
    assert all(one != other for one, other in pairwise(dates))
    assert len(set(dates)) >= DAYS
    lines = list(read_journal(world.directory / "journal"))
    kept = Counter((line.rule, line.event, line.stage) for line in lines if isinstance(line, AlarmLine))
    assert kept == Counter((record["rule"], record["event"], record["stage"]) for record in alarms)
    assert sum(line.heard for line in lines if isinstance(line, MinuteLine)) > 100_000
    assert any(isinstance(line, GapLine) for line in lines)
