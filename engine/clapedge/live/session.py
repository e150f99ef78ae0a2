"""One run of listening: a source, the thread that reads it, the listener, its sinks, and its status."""

import logging
import re
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from clapedge.engine import Engine
from clapedge.errors import AudioError, StorageError, UsageError
from clapedge.labels.encoder import Labels
from clapedge.live.alarms.journal import Journal
from clapedge.live.alarms.judge import AlarmJudge
from clapedge.live.background_keeper import BackgroundKeeper
from clapedge.live.clip_recorder import ClipStore
from clapedge.live.clock import Clock, Stamps, SystemClock
from clapedge.live.context import ListenerContext
from clapedge.live.listener import Listener
from clapedge.live.options import ListenOptions
from clapedge.live.reader import Reader, ReaderOptions
from clapedge.live.records import EventSink
from clapedge.live.sinks.delivery import SpooledSink
from clapedge.live.sources import Source
from clapedge.live.status import Status, percentiles
from clapedge.live.status_file import StatusFile
from clapedge.live.turns import Turns
from clapedge.live.watchdog import Watchdog

logger = logging.getLogger("clapedge.live")

STATUS_SECONDS = 10.0
"""How often the status is written: often enough for a watchdog, seldom enough for a flash card."""


def _new_run_id() -> str:
    """Return an id that no other run has."""
    return uuid.uuid4().hex[:12]


@dataclass(frozen=True)
class Outputs:
    """Where the events of a run go.

    Attributes:
        sinks: accept records.
        clip_store: keeps the sound of events, or None.
        status_file: file to which the status is written, or None.
        background: keeps the embeddings of windows, or None.
        alarms: decides which events are worth an alarm, or None.
        journal: a journal of what was heard, or None.
        run_id: what ids of events begin with, hexadecimal; unique among all runs.
    """

    sinks: Sequence[EventSink] = ()
    clip_store: ClipStore | None = None
    status_file: Path | None = None
    background: BackgroundKeeper | None = None
    alarms: AlarmJudge | None = None
    journal: Journal | None = None
    run_id: str = field(default_factory=_new_run_id)

    def __post_init__(self) -> None:
        """Raise `UsageError` if spooled messages and clips of this run could not be recognised by their names."""
        if not re.fullmatch("[0-9a-f]+", self.run_id):
            raise UsageError(f"run_id is {self.run_id!r}; give hexadecimal digits, such as those of uuid.uuid4().hex")


@dataclass(frozen=True)
class Member:
    """One of several sources of a process.

    Attributes:
        name: what records call it.
        turns: are taken at the tower that all of them share.
    """

    name: str
    turns: Turns


class Session:
    """One run of listening."""

    def __init__(
        self,
        engine: Engine,
        labels: Labels,
        source: Source,
        options: ListenOptions,
        *,
        outputs: Outputs,
        reader_options: ReaderOptions | None = None,
        clock: Clock | None = None,
        member: Member | None = None,
    ) -> None:
        """Prepare to listen.

        Args:
            engine: embeds and scores.
            labels: a label set, an embedded one, or a list of words.
            source: where sound comes from.
            options: how it is scored.
            outputs: where events go.
            reader_options: how the source is read.
            clock: measures time; None takes this machine's.
            member: what the source is called and shares as one of several; None is for the only one.

        Raises:
            LabelError: the labels cannot be used.
            UsageError: an option has an impossible value.
        """
        reader_options, clock = reader_options or ReaderOptions(), clock or SystemClock()
        self._source, self._outputs, self._clock = source, outputs, clock
        began = reader_options.began
        if began is None and not source.live:  # a recording does not follow the clock, at whatever speed it is played
            began = datetime.fromtimestamp(clock.wall(), tz=timezone.utc)
        kept = outputs.clip_store, outputs.background, member.turns if member else nullcontext()
        self._name = member.name if member else source.name
        context = ListenerContext(
            *(self._name, outputs.run_id, clock, Stamps(began), outputs.sinks, *kept),
            alarms=outputs.alarms,
            journal=outputs.journal,
        )
        self._listener = Listener(engine, labels, options, context)
        self._buffer = reader_options.buffer_for(source)
        self._stopped, self._ended = threading.Event(), threading.Event()
        self._reader = Reader(source, self._buffer, clock, retries=reader_options.retries, stop=self._stopped)
        self._alone = member is None  # of several, what runs them reports
        self._status_file = StatusFile(outputs.status_file)
        self._began, self._cpu_began = clock.monotonic(), time.process_time()

    @property
    def failure(self) -> AudioError | None:
        """Why the source was given up, if it was."""
        return self._buffer.failure

    def pause(self, *, paused: bool) -> None:
        """Hear nothing from now on, or hear again; the source stays open, and what it gives meanwhile is not kept."""
        self._buffer.pause(paused=paused)

    def stop(self) -> None:
        """Read no more; what was read is processed to its end."""
        self._stopped.set()
        self._buffer.close()

    def run(self) -> None:
        """Listen until the source ends or `stop` is called; then close the sinks.

        Raises:
            StorageError: the status, or what a sink writes, cannot be written; a full disk is logged instead.
        """
        writer = threading.Thread(target=self._report_regularly, name="status", daemon=True)
        if self._alone:
            writer.start()
        try:
            self._write_status()
            self._reader.start()
            self._listener.run(self._buffer)
        finally:
            self.stop()
            for sink in self._outputs.sinks:
                sink.close()
            self._ended.set()
            if self._alone:
                writer.join()
            self._write_status()
            if self._outputs.background is not None:
                self._outputs.background.save()

    def status(self) -> Status:
        """Return what the run has done so far."""
        counts, buffer = self._listener.counts, self._buffer
        notes = [*self._source.notes(), *(note for sink in self._outputs.sinks for note in sink.notes())]
        notes += self._outputs.journal.notes() if self._outputs.journal else []
        return Status(
            state="ended" if self._ended.is_set() else "paused" if buffer.paused else "listening",
            source=self._name,
            run=self._outputs.run_id,
            uptime_s=round(self._clock.monotonic() - self._began, 3),
            cpu_s=round(time.process_time() - self._cpu_began, 3),
            sound_s=round(self._reader.seconds, 3),
            samples_read=buffer.pushed,
            samples_heard=buffer.popped,
            samples_dropped=buffer.dropped,
            samples_waiting=buffer.pushed - buffer.popped - buffer.dropped,
            drops=buffer.drops,
            gaps=counts.gaps,
            stalls=counts.stalls,
            reconnects=self._reader.reconnects,
            windows=counts.windows,
            gated=counts.gated,
            asleep=counts.asleep,
            events=dict(counts.events),
            window_ms=percentiles(counts.window_ms),
            latency_ms=percentiles(counts.latency_ms),
            delay_ms=percentiles(counts.delay_ms),
            notes=tuple(notes),
            held=dict(counts.held),
            messages_waiting={
                sink.receiver: sink.waiting for sink in self._outputs.sinks if isinstance(sink, SpooledSink)
            },
            level=counts.level,
            labels=self._listener.labels,
            own_cpu_s=round(counts.own_cpu_s, 3),
            samples_unheard=buffer.unheard,
            dropped_s=round(buffer.dropped_seconds, 3),
            alarms=dict(counts.alarms),
        )

    def _report_regularly(self) -> None:
        """Write the status until the run ends, and tell the watchdog of progress."""
        watchdog = Watchdog()
        watchdog.ready()
        while not self._ended.wait(STATUS_SECONDS):
            watchdog.look({self._name: self.status()})
            try:
                self._write_status()
            except StorageError as error:
                logger.warning("%s", error)

    def _write_status(self) -> None:
        """Write the status file, if there is one."""
        if self._outputs.status_file is not None:
            self._status_file.write(self.status())
