"""What a run has done so far: counts of the listener, and the status that is written to a file."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
import numpy as np

from clapedge.live.records import LevelRecord

REMEMBERED = 1000
"""Windows whose times are kept for percentiles."""

PERCENTILES = (50, 95, 100)

Percentiles = tuple[float, float, float]


@dataclass
class Counts:
    """What the listener has done so far.

    Attributes:
        windows: windows that were embedded.
        gated: windows below the gate.
        asleep: windows outside of the hours.
        events: events that ended, by label.
        held: events that were not reported, being so soon after another one of their label; by label.
        alarms: alarms that were given, repetitions included, by rule.
        stalls: how often sound stopped coming.
        gaps: how often sound was interrupted, stalls included.
        window_ms: how long the latest windows took, from samples to scores.
        latency_ms: from the arrival of a window's last sample until it was processed, of the latest windows.
        level: of the latest minute, where levels are measured.
        delay_ms: from the beginning of an event to its first record, of the latest events.
        own_cpu_s: seconds of processor time of the thread that scores the windows.
    """

    windows: int = 0
    gated: int = 0
    asleep: int = 0
    events: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    alarms: dict[str, int] = field(default_factory=dict)
    stalls: int = 0
    gaps: int = 0
    window_ms: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    level: LevelRecord | None = None
    latency_ms: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    delay_ms: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    own_cpu_s: float = 0.0


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has done so far; the fields are those of the status file.

    Attributes:
        state: `listening`, `paused` or `ended`.
        source: name of the source.
        run: id of the run, with which ids of events begin.
        uptime_s: seconds since it began.
        cpu_s: seconds of processor time of the whole process.
        sound_s: seconds of sound that were read.
        samples_read: samples of a channel that were read.
        samples_heard: those that were processed.
        samples_dropped: those that were dropped because processing was too slow.
        samples_waiting: those in the buffer.
        drops: how often some were dropped.
        gaps: how often the sound was interrupted.
        stalls: how often it stopped coming.
        reconnects: how often the source was opened again.
        windows: windows that were embedded.
        gated: windows below the gate.
        asleep: windows outside of the hours.
        events: events that ended, by label.
        window_ms: how long a window takes: median, 95th percentile and longest of the last 1000.
        latency_ms: from the arrival of a window's last sample until it was processed; likewise.
        delay_ms: from the beginning of an event to its first record; likewise.
        notes: what was lost or waits.
        held: events that were not reported, being so soon after another one of their label; by label.
        messages_waiting: messages that wait in spools, by receiver.
        level: record of the latest minute's sound levels; null where they are not measured.
        labels: names of the labels that are reported.
        own_cpu_s: seconds of processor time that scoring this source took, of one thread.
        samples_unheard: samples of a channel that came while it was paused, which are not kept.
        dropped_s: seconds of sound that were dropped.
        alarms: alarms that were given, repetitions included, by rule.
    """

    state: str
    source: str
    run: str
    uptime_s: float
    cpu_s: float
    sound_s: float
    samples_read: int
    samples_heard: int
    samples_dropped: int
    samples_waiting: int
    drops: int
    gaps: int
    stalls: int
    reconnects: int
    windows: int
    gated: int
    asleep: int
    events: dict[str, int]
    window_ms: Percentiles | None
    latency_ms: Percentiles | None
    delay_ms: Percentiles | None
    notes: tuple[str, ...]
    held: dict[str, int] = {}
    messages_waiting: dict[str, int] = {}
    level: LevelRecord | None = None
    labels: tuple[str, ...] = ()
    own_cpu_s: float = 0.0
    samples_unheard: int = 0
    dropped_s: float = 0.0
    alarms: dict[str, int] = {}

    def summary(self) -> list[str]:
        """Return the status as lines for a reader."""
        share = self.cpu_s / self.uptime_s if self.uptime_s else 0.0
        events = ", ".join(f"{label} {count}" for label, count in sorted(self.events.items())) or "none"
        held = f"; {sum(self.held.values())} more within the cooldown" if self.held else ""
        unheard = f", {self.samples_unheard} more while it was paused" if self.samples_unheard else ""
        skipped = f"{self.gated} below the gate" + (f", {self.asleep} outside of the hours" if self.asleep else "")
        lines = [
            f"heard {self.sound_s:.1f} s of {self.source} in {self.uptime_s:.1f} s, {share:.1%} of a core",
            f"samples: {self.samples_read} read, {self.samples_heard} heard, {self.samples_dropped} dropped{unheard}",
            f"windows: {self.windows} heard, {skipped}; gaps {self.gaps}, stalls {self.stalls}",
            f"events: {events}{held}",
        ]
        if self.alarms:
            lines.append(f"alarms: {', '.join(f'{rule} {count}' for rule, count in sorted(self.alarms.items()))}")
        measured = {"window": self.window_ms, "latency": self.latency_ms, "delay of events": self.delay_ms}
        for name, times in measured.items():
            if times:
                lines.append(f"{name}: {times[0]:.0f} ms (median), {times[1]:.0f} (95 %), {times[2]:.0f} (longest)")
        return [*lines, *self.notes]


def percentiles(times: Iterable[float]) -> Percentiles | None:
    """Return median, 95th percentile and maximum; None if there are no times."""
    kept = list(times)  # at once: another thread appends
    if not kept:
        return None
    median, high, longest = (round(float(time), 1) for time in np.percentile(kept, PERCENTILES))
    return median, high, longest
