"""One run of listening: a source, the thread that reads it, the listener, its sinks, and what became of it all."""

import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import numpy as np

from clapedge.engine import Engine
from clapedge.errors import AudioError, StorageError, UsageError
from clapedge.labels.encoder import Labels
from clapedge.live.buffer import AudioBuffer
from clapedge.live.clip_recorder import ClipStore
from clapedge.live.clock import Clock, Stamps, SystemClock
from clapedge.live.listener import Listener, ListenerContext, ListenOptions
from clapedge.live.reader import Reader
from clapedge.live.records import EventSink
from clapedge.live.sources.local import Source

STATUS_SECONDS = 10.0
"""How often the status is written: often enough for a watchdog, seldom enough for a flash card."""

PERCENTILES = (50, 95, 100)


@dataclass(frozen=True)
class Reading:
    """How a source is read.

    Attributes:
        buffer: seconds of sound that may wait to be heard.
        retries: how often in a row a lost source is opened again; None never gives up.
        began: when the first sample was heard; None takes the clock, of a recording when listening began.
    """

    buffer: float = 30.0
    retries: int | None = None
    began: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse a buffer that holds nothing."""
        if not 1.0 <= self.buffer <= 3600.0:  # noqa: PLR2004 - the message says it
            raise UsageError(f"buffer is {self.buffer} s; give 1 to 3600 s")


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a run so far.

    Attributes:
        state: `listening` or `ended`.
        source: what is heard.
        run: what ids of events begin with.
        uptime_s: seconds since it began.
        cpu_s: seconds of processor time of the whole process.
        sound_s: seconds of sound that were read.
        samples_read: samples of a channel that were read.
        samples_heard: those that were heard.
        samples_dropped: those that were dropped because hearing was too slow.
        samples_waiting: those in the buffer.
        drops: how often some were dropped.
        gaps: how often the sound was interrupted.
        stalls: how often it stopped coming.
        reconnects: how often the source was opened again.
        windows: windows that the tower heard.
        gated: windows that were too quiet for it.
        events: events that ended, by label.
        window_ms: how long a window takes: median, 95th percentile and longest of the last 1000.
        latency_ms: from the arrival of a window's last sample until it was done with; likewise.
        delay_ms: from the beginning of an event to its first record; likewise.
        notes: what was lost or waits.
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
    events: dict[str, int]
    window_ms: tuple[float, float, float] | None
    latency_ms: tuple[float, float, float] | None
    delay_ms: tuple[float, float, float] | None
    notes: tuple[str, ...]

    def sentences(self) -> list[str]:
        """Put it into words."""
        share = self.cpu_s / self.uptime_s if self.uptime_s else 0.0
        events = ", ".join(f"{label} {count}" for label, count in sorted(self.events.items())) or "none"
        lines = [
            f"heard {self.sound_s:.1f} s of {self.source} in {self.uptime_s:.1f} s, {share:.1%} of a core",
            f"samples: {self.samples_read} read, {self.samples_heard} heard, {self.samples_dropped} dropped",
            f"windows: {self.windows} heard, {self.gated} below the gate; gaps {self.gaps}, stalls {self.stalls}",
            f"events: {events}",
        ]
        for name, times in (
            ("window", self.window_ms),
            ("latency", self.latency_ms),
            ("delay of events", self.delay_ms),
        ):
            if times:
                lines.append(f"{name}: {times[0]:.0f} ms (median), {times[1]:.0f} (95 %), {times[2]:.0f} (longest)")
        return [*lines, *self.notes]


@dataclass(frozen=True)
class Delivery:
    """Where what is heard goes.

    Attributes:
        run: what ids of events begin with, hexadecimal; unlike that of any other run.
        sinks: take records.
        clip_store: keeps the sound of events, or None.
        status: file that says what became of the run so far, or None.
    """

    run: str
    sinks: Sequence[EventSink] = ()
    clip_store: ClipStore | None = None
    status: Path | None = None

    def __post_init__(self) -> None:
        """Refuse a name by which spooled messages and kept clips would not be found again."""
        if not re.fullmatch("[0-9a-f]+", self.run):
            raise UsageError(f"run is {self.run!r}; give hexadecimal digits, such as those of uuid.uuid4().hex")


class Session:
    """One run of listening."""

    def __init__(
        self,
        engine: Engine,
        labels: Labels,
        source: Source,
        options: ListenOptions,
        *,
        delivery: Delivery,
        say: Callable[[str], None],
        reading: Reading | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Prepare to listen.

        Args:
            engine: what hears.
            labels: a label set, an embedded one, or a list of words.
            source: what is heard.
            options: how.
            delivery: where what is heard goes.
            say: tells people.
            reading: how the source is read.
            clock: tells the time; None takes this machine's.

        Raises:
            LabelError: the labels cannot be used.
            UsageError: an option cannot be.
        """
        reading, clock = reading or Reading(), clock or SystemClock()
        self._source, self._delivery, self._say, self._clock = source, delivery, say, clock
        began = reading.began
        if began is None and not source.live:  # a recording is not bound to the clock, at whatever speed it is played
            began = datetime.fromtimestamp(clock.wall(), tz=timezone.utc)
        around = ListenerContext(
            source.name, delivery.run, clock, Stamps(began), delivery.sinks, say, delivery.clip_store
        )
        self._listener = Listener(engine, labels, options, around)
        self._ring = AudioBuffer(reading.buffer, lossless=not source.live)
        self._stopped, self._ended = threading.Event(), threading.Event()
        self._reader = Reader(source, self._ring, clock, retries=reading.retries, say=say, stop=self._stopped)
        self._began, self._spent = clock.monotonic(), time.process_time()

    @property
    def failure(self) -> AudioError | None:
        """Why the source was given up, if it was."""
        return self._ring.failure

    def stop(self) -> None:
        """Read no more; what was read is heard to its end."""
        self._stopped.set()
        self._ring.end()

    def run(self) -> None:
        """Listen until the source ends or `stop` is called; then close the sinks.

        Raises:
            StorageError: the status cannot be written.
        """
        watch = threading.Thread(target=self._watch, name="status", daemon=True)
        watch.start()
        try:
            self._write_status()
            self._reader.start()
            self._listener.hear(self._ring)
        finally:
            self.stop()
            for sink in self._delivery.sinks:
                sink.close()
            self._ended.set()
            watch.join()
            self._write_status()

    def status(self) -> Status:
        """Return what became of the run so far."""
        counts, ring = self._listener.counts, self._ring
        notes = [*self._source.notes(), *(note for sink in self._delivery.sinks for note in sink.notes())]
        return Status(
            state="ended" if self._ended.is_set() else "listening",
            source=self._source.name,
            run=self._delivery.run,
            uptime_s=round(self._clock.monotonic() - self._began, 3),
            cpu_s=round(time.process_time() - self._spent, 3),
            sound_s=round(self._reader.sounded, 3),
            samples_read=ring.read,
            samples_heard=ring.heard,
            samples_dropped=ring.dropped,
            samples_waiting=ring.read - ring.heard - ring.dropped,
            drops=ring.drops,
            gaps=counts.gaps,
            stalls=counts.stalls,
            reconnects=self._reader.reconnects,
            windows=counts.windows,
            gated=counts.gated,
            events=dict(counts.events),
            window_ms=_percentiles(counts.window_ms),
            latency_ms=_percentiles(counts.latency_ms),
            delay_ms=_percentiles(counts.delay_ms),
            notes=tuple(notes),
        )

    def _watch(self) -> None:
        """Write the status now and then."""
        while not self._ended.wait(STATUS_SECONDS):
            try:
                self._write_status()
            except StorageError as error:
                self._say(str(error))

    def _write_status(self) -> None:
        """Write the status, whole or not at all."""
        path = self._delivery.status
        if path is None:
            return
        part = path.with_name(f"{path.name}.part")
        try:
            part.write_bytes(msgspec.json.format(msgspec.json.encode(self.status())) + b"\n")
            part.replace(path)
        except OSError as error:
            raise StorageError(f"{path} cannot be written ({error.strerror}); name another --status") from error


def _percentiles(times: Iterable[float]) -> tuple[float, float, float] | None:
    """Return median, 95th percentile and maximum, or None of nothing."""
    kept = list(times)  # at once: another thread appends
    if not kept:
        return None
    median, high, longest = (round(float(time), 1) for time in np.percentile(kept, PERCENTILES))
    return median, high, longest
