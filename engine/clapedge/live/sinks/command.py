"""A command that is run for every event: never through a shell, never more than a few at once, never for ever."""

import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence

from clapedge.errors import UsageError
from clapedge.live.records import Record

MOST_WAITING = 64
"""Records that wait for a command to be free; beyond it the oldest is given up."""

DRAIN_SECONDS = 5.0
"""Patience with commands when listening ends."""

VARIABLE = "CLAPEDGE_EVENT"
"""Environment variable that holds the record, for commands that do not read their standard input."""


class CommandSink:
    """Runs a command for each record: JSON on its standard input, and in its environment."""

    def __init__(self, command: str, *, jobs: int = 2, timeout: float = 30.0, say: Callable[[str], None]) -> None:
        """Start the threads that wait for records.

        Args:
            command: program and arguments, split as a shell would split them, and run without one.
            jobs: how many may run at once.
            timeout: seconds after which one is killed.
            say: tells people.

        Raises:
            UsageError: there is no such program.
        """
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise UsageError(f"--on-event {command!r} cannot be split ({error}); quote it as for a shell") from error
        if not self._words or shutil.which(self._words[0]) is None:
            raise UsageError(f"--on-event {command!r} names no program that can be run; give its path")
        self._timeout, self._say = timeout, say
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self.run = self.failed = self.given_up = 0
        self._threads = [threading.Thread(target=self._work, name="on-event", daemon=True) for _ in range(jobs)]
        for thread in self._threads:
            thread.start()

    def take(self, record: Record, data: bytes) -> None:  # noqa: ARG002 - as all sinks
        """Let a record wait for its command."""
        with self._changed:
            self._waiting.append(data)
            if len(self._waiting) > MOST_WAITING:
                self._waiting.popleft()
                self.given_up += 1
                if self.given_up == 1:
                    self._say(f"--on-event is too slow: more than {MOST_WAITING} records wait; the oldest are given up")
            self._changed.notify()

    def close(self) -> None:
        """Let commands end that wait or run, for a while."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(DRAIN_SECONDS / len(self._threads))

    def notes(self) -> Sequence[str]:
        """Tell what did not work."""
        notes = [f"--on-event failed {self.failed} of {self.run} times"] if self.failed else []
        if self.given_up or self._waiting:
            notes.append(f"--on-event was not run for {self.given_up + len(self._waiting)} records: it is too slow")
        return notes

    def _work(self) -> None:
        """Run the command for one record after the other."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended)
                if not self._waiting:
                    return
                data = self._waiting.popleft()
            fault = self._fault(data)
            with self._changed:
                self.run += 1
                self.failed += bool(fault)
            if fault:
                self._say(f"--on-event {self._words[0]}: {fault}")

    def _fault(self, data: bytes) -> str | None:
        """Run the command; return what went wrong."""
        try:
            done = subprocess.run(  # noqa: S603 - the user's own command, without a shell
                self._words,
                input=data + b"\n",
                stdout=sys.__stderr__ or subprocess.DEVNULL,  # standard output is for records
                env={**os.environ, VARIABLE: data.decode()},
                timeout=self._timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"it ran for {self._timeout:g} s and was killed; see --on-event-timeout"
        except OSError as error:
            return f"it cannot be run ({error.strerror or error})"
        return f"it ended with exit code {done.returncode}" if done.returncode else None
