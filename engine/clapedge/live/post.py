"""A listening post: several sources at one tower, each in a session of its own, as settings say that may change.

A source that stalls, floods, sends no numbers or vanishes disturbs no other one: each has its own reader, buffer and
listener, and they take turns at the tower. Changed settings restart the sources that they concern alone.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from clapedge.errors import AudioError, ClapEdgeError, StorageError
from clapedge.live.backoff import LONGEST_PAUSE, backoff
from clapedge.live.session import STATUS_SECONDS, Member, Session
from clapedge.live.sinks.json_lines import JsonLinesSink
from clapedge.live.status import Status
from clapedge.live.status_file import StatusFile
from clapedge.live.turns import Turns
from clapedge.live.watchdog import Watchdog

logger = logging.getLogger("clapedge.live")

CHECK_SECONDS = 1.0
"""How often it is looked whether a source ended, failed, or has other settings."""


class PostSource(Protocol):
    """A source as its settings say; equal ones need no restart."""

    @property
    def reopens(self) -> bool:
        """Whether it can be opened again, as standard input cannot."""
        ...

    def open(self, member: Member) -> Session:
        """Open it; the session is not running yet."""
        ...


@dataclass
class _Running:
    """A source that was started.

    Attributes:
        source: what it was started from.
        session: the run.
        thread: runs it.
        failures: how often in a row it failed before.
        error: what ended it, if something did.
    """

    source: PostSource
    session: Session
    thread: threading.Thread = field(default_factory=threading.Thread)
    failures: int = 0
    error: ClapEdgeError | None = None


@dataclass(frozen=True)
class _Retry:
    """A source that is to be started again.

    Attributes:
        source: what it is started from.
        failures: how often in a row it failed.
        due: when, by the monotonic clock.
    """

    source: PostSource
    failures: int
    due: float


class Post:
    """Listens to several sources until all have ended or it is stopped."""

    def __init__(
        self,
        read: Callable[[], Mapping[str, PostSource]],
        settings: Path | None,
        output: JsonLinesSink,
        status: StatusFile,
        *,
        paused: Iterable[str] = (),
    ) -> None:
        """Read the settings.

        Args:
            read: returns the sources by name, as the settings say now.
            settings: the file that they stand in; when it changes they are read again. None is for none.
            output: takes the records of all sources; if it fails, the post ends.
            status: takes the status.
            paused: names of sources that are not to be heard until `pause` says so.

        Raises:
            ClapEdgeError: the settings cannot be used.
        """
        self._read, self._settings, self._output, self._status = read, settings, output, status
        self._stamp = self._modified()  # first: what is written while it is read is read again
        self._wanted = dict(read())
        self._paused = set(paused)
        self._running: dict[str, _Running] = {}
        self._retries: dict[str, _Retry] = {}
        self._turns, self._lock = Turns(), threading.Lock()
        self._stopped, self._reload = threading.Event(), threading.Event()
        self._state = "listening"
        self._began, self._cpu_began = time.monotonic(), time.process_time()

    @property
    def failure(self) -> ClapEdgeError | None:
        """Why a source was given up, or records were lost, if that happened."""
        given_up = (each.error or each.session.failure for each in self._running.values())
        return self._output.failure or next((error for error in given_up if error), None)

    def stop(self) -> None:
        """Read no more; what was read is processed to its end."""
        self._stopped.set()

    def reload(self) -> None:
        """Read the settings again, soon."""
        self._reload.set()

    def pause(self, name: str, *, paused: bool) -> None:
        """Hear nothing of a source from now on, or hear it again; that lasts when it is started again."""
        with self._lock:
            (self._paused.add if paused else self._paused.discard)(name)
            running = self._running.get(name)
        if running:
            running.session.pause(paused=paused)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sources that the settings name, whether they are open now or not."""
        return tuple(self._wanted)

    def run(self) -> None:
        """Listen until all sources have ended or `stop` is called.

        Raises:
            ClapEdgeError: a source cannot be opened at the start, or the records cannot be written.
        """
        watchdog = Watchdog()
        try:
            for name, source in self._wanted.items():
                self._start(name, source)
            self._status.write(self.status())
            watchdog.ready()
            written = time.monotonic()
            while self._goes_on() and not self._stopped.wait(CHECK_SECONDS):
                if self._reload.is_set() or self._modified() != self._stamp:
                    self._read_again()
                if time.monotonic() - written >= STATUS_SECONDS:
                    watchdog.look(self.statuses())
                    self._write_status()
                    written = time.monotonic()
        finally:
            self._end()
        if self._output.failure:
            raise self._output.failure

    def statuses(self) -> dict[str, Status]:
        """Return what each source has done so far, by its name."""
        with self._lock:
            return {name: each.session.status() for name, each in self._running.items()}

    def status(self) -> dict[str, Any]:
        """Return what each source has done so far, by its name, and what the process took."""
        sources = self.statuses()
        return {
            "state": self._state,
            "uptime_s": round(time.monotonic() - self._began, 3),
            "cpu_s": round(time.process_time() - self._cpu_began, 3),
            "sources": {
                name: {field: value for field, value in msgspec.to_builtins(one).items() if field != "cpu_s"}
                for name, one in sources.items()
            },
        }

    def summary(self) -> list[str]:
        """Return what each source has done as lines for a reader."""
        lines = []
        for name, each in self._running.items():
            heard, samples, windows, events = each.session.status().summary()[:4]
            lines += [f"{name}: {heard.rpartition(',')[0]}", *(f"  {line}" for line in (samples, windows, events))]
        uptime = time.monotonic() - self._began
        return [*lines, f"all of it: {(time.process_time() - self._cpu_began) / uptime:.1%} of a core"]

    def _start(self, name: str, source: PostSource, failures: int = 0) -> None:
        """Open a source and listen to it in a thread."""
        running = _Running(source, source.open(Member(name, self._turns)), failures=failures)
        running.thread = threading.Thread(
            target=self._listen, args=(name, running), name=f"listener {name}", daemon=True
        )
        with self._lock:
            self._running[name] = running
            running.session.pause(paused=name in self._paused)
        running.thread.start()

    def _listen(self, name: str, running: _Running) -> None:
        """Run a session to its end, and note why it ended."""
        session, began = running.session, time.monotonic()
        error: ClapEdgeError | None = AudioError(f"{name} ended by a fault; report what is printed above")
        try:
            session.run()
            error = None
        except ClapEdgeError as failed:
            error = failed
        finally:
            if error is not None:
                self._note_failure(name, running, error, lasted=time.monotonic() - began > LONGEST_PAUSE)
            elif session.failure:
                logger.warning("%s is given up: %s", name, session.failure)

    def _note_failure(self, name: str, running: _Running, error: ClapEdgeError, *, lasted: bool) -> None:
        """Note that a source failed, which lasted for a while before, and when it is started again."""
        if error is not self._output.failure and running.source.reopens:
            self._retry(name, running.source, 1 if lasted else running.failures + 1, error)
        running.error = error

    def _retry(self, name: str, source: PostSource, failures: int, error: ClapEdgeError) -> None:
        """Have a source started again, the later the more often it failed."""
        with self._lock:
            self._retries[name] = _Retry(source, failures, time.monotonic() + backoff(failures))
        logger.warning("%s: %s; it is started again in %g s", name, error, backoff(failures))

    def _goes_on(self) -> bool:
        """Start what is due again, and return whether there is, or will be, something to listen to."""
        failure = self._output.failure
        if failure and any(each.error is failure for each in self._running.values()):
            return False
        with self._lock:
            due = {name: retry for name, retry in self._retries.items() if time.monotonic() >= retry.due}
            for name in due:
                del self._retries[name]
        for name, retry in due.items():
            try:
                self._start(name, retry.source, failures=retry.failures)
            except ClapEdgeError as error:
                self._retry(name, retry.source, retry.failures + 1, error)
        alive = any(each.thread.is_alive() for each in self._running.values())  # first: a failure is noted, then ends
        return alive or bool(self._retries)

    def _read_again(self) -> None:
        """Follow the settings as they are now; those that cannot be used are reported, and nothing changes."""
        self._reload.clear()
        self._stamp = self._modified()
        try:
            wanted = dict(self._read())
        except ClapEdgeError as error:
            logger.warning("%s; the post goes on as it was", error)
            return
        before, self._wanted = self._wanted, wanted
        for name in before.keys() - wanted.keys():
            self._stop_one(name)
            logger.info("%s is not listened to any more", name)
        for name, source in wanted.items():
            if name not in before or source != before[name]:
                self._change(name, source, before.get(name))

    def _change(self, name: str, source: PostSource, before: PostSource | None) -> None:
        """Listen to a source as its new settings say; if it cannot be, as the old ones said."""
        if before is not None and not (source.reopens and before.reopens):
            logger.warning("%s is standard input, which cannot be opened again; it goes on as it was", name)
            self._wanted[name] = before
            return
        self._stop_one(name)
        try:
            self._start(name, source)
            logger.info("%s is listened to as its new settings say", name)
        except ClapEdgeError as error:
            logger.warning("%s: %s; %s", name, error, "it goes on as it was" if before else "it is left out")
            if before is None:
                del self._wanted[name]
                return
            self._wanted[name] = before
            try:
                self._start(name, before)
            except ClapEdgeError as failed:
                self._retry(name, before, 1, failed)

    def _stop_one(self, name: str) -> None:
        """Stop a source, and wait until what was read is processed."""
        with self._lock:
            running = self._running.pop(name, None)
        if running:
            running.session.stop()
            running.thread.join()
        with self._lock:  # now, as it may have failed while it was stopped
            self._retries.pop(name, None)

    def _end(self) -> None:
        """Stop all sources at once, and wait for each."""
        for each in self._running.values():
            each.session.stop()
        for each in self._running.values():
            each.thread.join()
        self._state = "ended"
        self._status.write(self.status())

    def _write_status(self) -> None:
        """Write the status; listening goes on if that fails."""
        try:
            self._status.write(self.status())
        except StorageError as error:
            logger.warning("%s", error)

    def _modified(self) -> int | None:
        """Return when the settings were last written; None while there are none, as amid a replacement."""
        if self._settings is None:
            return None
        try:
            return self._settings.stat().st_mtime_ns
        except OSError:
            return None
