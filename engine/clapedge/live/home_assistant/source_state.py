"""What Home Assistant is to know of a source: kept from look to look at its status, and from its records."""

from dataclasses import dataclass, field

from clapedge.live.records import EventRecord, LevelRecord
from clapedge.live.status import Status

FIGURES_SECONDS = 10.0
"""Over how long the share of the processor is measured."""

OVERLOAD_SECONDS = 60.0
"""For how long a source counts as overloaded after sound was dropped."""

SILENT_SECONDS = 30.0
"""After how long without samples a source counts as unavailable."""


@dataclass
class Rate:
    """How fast something grows, measured now and then."""

    since: float = 0.0
    value: float = 0.0
    share: float | None = None

    def push(self, now: float, value: float) -> float | None:
        """Return its growth by second over the latest span; None before there is one."""
        if value < self.value or not self.since:  # counted anew
            self.since, self.value = now, value
        elif now - self.since >= FIGURES_SECONDS:
            self.share = (value - self.value) / (now - self.since)
            self.since, self.value = now, value
        return self.share


@dataclass
class SourceState:
    """What is kept of a source, for the next look.

    Attributes:
        labels: its labels, when it was last open.
        former: labels that it was listened to for before.
        ongoing: ids of events that go on, by label.
        event: the latest record of an event.
        level: the record of the latest minute.
        cpu: its processor time.
        sound: seconds of sound that were read, and when that changed.
        dropped: samples that were dropped, and when that changed.
        status: the latest one.
        rules: names of the rules of its alarms, when it was last open; None if it never had some.
    """

    labels: tuple[str, ...] = ()
    former: set[str] = field(default_factory=set)
    ongoing: dict[str, set[str]] = field(default_factory=dict)
    event: bytes | None = None
    level: LevelRecord | None = None
    cpu: Rate = field(default_factory=Rate)
    sound: tuple[float, float] = (-1.0, 0.0)
    dropped: tuple[int, float] = (0, float("-inf"))
    status: Status | None = None
    rules: tuple[str, ...] | None = None

    def look(self, status: Status | None, now: float) -> None:
        """Take the latest status; None of a source that is not open."""
        self.status = status
        if status is None:
            return
        self.former = (self.former | {*self.labels}) - {*status.labels}
        self.labels = status.labels
        if status.alarms or self.rules is not None:
            self.rules = tuple(status.alarms)
        self.cpu.push(now, status.own_cpu_s)
        if status.sound_s != self.sound[0]:
            self.sound = status.sound_s, now
        if status.samples_dropped != self.dropped[0]:
            self.dropped = status.samples_dropped, now

    def hears(self, label: str) -> bool:
        """Return whether an event of a label goes on, in the run that is now."""
        run = self.status.run if self.status and self.status.state == "listening" else None
        return run is not None and any(each.startswith(run) for each in self.ongoing.get(label, ()))

    def available(self, now: float) -> bool:
        """Return whether sound arrives, or is not wanted."""
        status = self.status
        if status is None or status.state == "ended":
            return False
        return status.state == "paused" or now - self.sound[1] <= SILENT_SECONDS

    def overloaded(self, now: float) -> bool:
        """Return whether sound was dropped lately."""
        return now - self.dropped[1] < OVERLOAD_SECONDS

    def count(self, record: EventRecord) -> None:
        """Note that an event goes on, or ended."""
        ids = self.ongoing.setdefault(record.label, set())
        (ids.discard if record.kind == "end" else ids.add)(record.id)
