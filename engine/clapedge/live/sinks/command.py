"""A command that is run for every event: never through a shell, a few at once, each for a limited time."""

import logging
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence

from clapedge.errors import UsageError
from clapedge.live.records import Accepts, Record, is_event

logger = logging.getLogger("clapedge.live")

MOST_WAITING = 64
"""Records that wait for a free command; beyond it the oldest is given up."""

DRAIN_SECONDS = 5.0
"""How long commands may go on when listening ends."""

VARIABLE = "CLAPEDGE_EVENT"
"""Environment variable that holds the record, for commands that do not read their standard input."""


class CommandSink:
    """Runs a command for each record, with its JSON on standard input and in the environment."""

    def __init__(self, command: str, *, jobs: int = 2, timeout: float = 30.0, accepts: Accepts = is_event) -> None:
        """Start the threads that run it.

        Args:
            command: program and arguments, split as a shell would split them, and run without one.
            jobs: how many may run at once.
            timeout: seconds after which one is killed.
            accepts: which records it is run for.

        Raises:
            UsageError: there is no such program.
        """
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise UsageError(f"the command {command!r} cannot be split ({error}); quote it as for a shell") from error
        if not self._words or shutil.which(self._words[0]) is None:
            raise UsageError(f"the command {command!r} names no program that can be run; give its path")
        self._timeout, self._accepts = timeout, accepts
        self._waiting: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._runs = self._failures = self._given_up = 0
        self._threads = [threading.Thread(target=self._work, name="on-event", daemon=True) for _ in range(jobs)]
        for thread in self._threads:
            thread.start()

    def write(self, record: Record, data: bytes) -> None:
        """Queue a record for its command, if it is run for such ones."""
        if not self._accepts(record):
            return
        with self._changed:
            self._waiting.append(data)
            if len(self._waiting) > MOST_WAITING:
                self._waiting.popleft()
                self._given_up += 1
                if self._given_up == 1:
                    logger.warning(
                        "the command is too slow: more than %d records wait; the oldest are given up", MOST_WAITING
                    )
            self._changed.notify()

    def close(self) -> None:
        """Let commands that wait or run end, for a while."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(DRAIN_SECONDS / len(self._threads))

    def notes(self) -> Sequence[str]:
        """Return what did not work."""
        notes = [f"the command failed {self._failures} of {self._runs} times"] if self._failures else []
        if lost := self._given_up + len(self._waiting):
            notes.append(f"the command was not run for {lost} records: it is too slow")
        return notes

    def _work(self) -> None:
        """Run the command for one record after the other."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                data = self._waiting.popleft()
            failure = self._run(data)
            with self._changed:
                self._runs += 1
                self._failures += bool(failure)
            if failure:
                logger.warning("the command %s %s", self._words[0], failure)

    def _run(self, data: bytes) -> str | None:
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
            return f"was killed after {self._timeout:g} s; give it more than timeout={self._timeout:g}"
        except OSError as error:
            return f"cannot be run ({error.strerror or error})"
        return f"ended with exit code {done.returncode}" if done.returncode else None
