"""A journal of listening: minute by minute what was heard and how clear each label was, with every event and alarm.

It answers why there was no alarm, weeks later. Lines of JSON are appended to a file; a full one becomes the older of
two, in the place of the one before it. A line that a power cut left unfinished is not read.
"""

import logging
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec

from clapedge.errors import StorageError
from clapedge.live.backoff import is_power_of_two
from clapedge.live.records import AlarmRecord

logger = logging.getLogger("clapedge.live")

NEWER, OLDER = "journal.jsonl", "journal.older.jsonl"

LONGEST_LINE = 1_000_000
"""Bytes: far more than a line of a thousand labels has."""


class SettingsLine(msgspec.Struct, frozen=True, kw_only=True, tag="settings", tag_field="kind"):
    """How a run listens; the first line of a run and of a file.

    Attributes:
        at: when it began to, ISO 8601, UTC.
        source: name of the source.
        run: id of the run.
        score: what decides: `probability` or `similarity`.
        on: score from which an event begins, by label.
        hop: seconds from one window to the next.
        min_duration: seconds; shorter events are left out.
        gate: dBFS; quieter windows are not embedded. None embeds all.
        hours: of the day at which it is listened; None means all.
        alarms: the rules of alarms: by name, the labels that count.
    """

    at: str
    source: str
    run: str
    score: str
    on: dict[str, float]
    hop: float
    min_duration: float
    gate: float | None
    hours: str | None
    alarms: dict[str, list[str]]


class MinuteLine(msgspec.Struct, frozen=True, kw_only=True, tag="minute", tag_field="kind"):
    """What was heard in a minute of the clock.

    Attributes:
        at: when the minute, or what was heard of it, begins.
        heard: windows that were scored.
        gated: windows below the gate.
        asleep: windows outside of the hours.
        best: by label, the highest score and how many seconds after `at` it was; of many labels the closest to an
            event.
    """

    at: str
    heard: int
    gated: int
    asleep: int
    best: dict[str, tuple[float, float]]


class EventLine(msgspec.Struct, frozen=True, kw_only=True, tag="event", tag_field="kind"):
    """An event that ended, and what each rule said of it.

    Attributes:
        at: when it began.
        until: when it ended.
        label: its label.
        event: its id.
        seconds: how long it lasted.
        windows: in how many windows its score reached the threshold of an event.
        probability: the label's, in the clearest window.
        similarity: the label's there.
        held: why it was not reported; None if it was.
        laeq: its level in dB, where levels are measured.
        lafmax: likewise.
        alarms: by rule, None where there was an alarm, else why not.
    """

    at: str
    until: str
    label: str
    event: str
    seconds: float
    windows: int
    probability: float
    similarity: float
    held: str | None
    laeq: float | None
    lafmax: float | None
    alarms: dict[str, str | None]


class GapLine(msgspec.Struct, frozen=True, kw_only=True, tag="gap", tag_field="kind"):
    """Sound that ended, or was interrupted.

    Attributes:
        at: when.
        reason: `gap`, `stalled`, `paused` or `ended`.
    """

    at: str
    reason: str


class AlarmLine(msgspec.Struct, frozen=True, kw_only=True, tag="alarm", tag_field="kind"):
    """What is kept of the record of an alarm; see `AlarmRecord`."""

    at: str
    rule: str
    stage: int
    label: str
    event: str
    why: str


Line = SettingsLine | MinuteLine | EventLine | GapLine | AlarmLine


class Journal:
    """Appends lines to the newer of two files; a disk that is full is logged, and listening goes on."""

    def __init__(self, directory: Path, *, max_bytes: int) -> None:
        """Open or make the directory, and complete what a power cut left.

        Args:
            directory: where the files lie.
            max_bytes: of both together.

        Raises:
            StorageError: it cannot be written to.
        """
        self._path, self._older = directory / NEWER, directory / OLDER
        self._most = max_bytes // 2
        self._settings: SettingsLine | None = None
        self._lost = 0
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._size = self._complete()
        except OSError as error:
            raise StorageError(
                f"{directory} cannot hold the journal ({error.strerror}); name another directory"
            ) from error

    def begin(self, settings: SettingsLine) -> None:
        """Write how a run listens."""
        self._settings = settings
        self.write(settings)

    def write(self, line: "Line | AlarmRecord") -> None:
        """Append a line; alarms are flushed to the disk, since the next run asks when the last one was."""
        kept = _alarm_line(line) if isinstance(line, AlarmRecord) else line
        data = msgspec.json.encode(kept) + b"\n"
        try:
            if self._size + len(data) > self._most:
                self._turn()
            self._append(data, sync=isinstance(kept, AlarmLine))
        except OSError as error:
            self._lost += 1
            if is_power_of_two(self._lost):
                reason = error.strerror or error
                logger.warning("%d lines of the journal in %s are lost: %s", self._lost, self._path.parent, reason)

    def notes(self) -> list[str]:
        """Return what was lost."""
        return [f"{self._lost} lines of the journal in {self._path.parent} were lost"] if self._lost else []

    def last_alarms(self) -> dict[str, float]:
        """Return the time of the last alarm of each rule, in seconds since 1970."""
        found: dict[str, float] = {}
        for line in read_journal(self._path.parent):
            if isinstance(line, AlarmLine) and not line.stage:
                found[line.rule] = datetime.fromisoformat(line.at.replace("Z", "+00:00")).timestamp()
        return found

    def _append(self, data: bytes, *, sync: bool) -> None:
        """Append to the newer file; what was written of a line that did not fit is taken back."""
        with self._path.open("ab", buffering=0) as file:
            if file.write(data) != len(data):
                file.truncate(self._size)
                raise OSError(28, "no room for a whole line")
            if sync:
                os.fsync(file.fileno())
        self._size += len(data)

    def _turn(self) -> None:
        """Make the newer file the older one, and begin another."""
        self._path.replace(self._older)
        self._size = 0
        if self._settings is not None:
            self._append(msgspec.json.encode(self._settings) + b"\n", sync=False)

    def _complete(self) -> int:
        """Cut an unfinished line off the newer file, make it unreadable for other users, and return its size."""
        with self._path.open("ab+") as file:
            self._path.chmod(0o600)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LONGEST_LINE))
            tail = file.read()
            whole = size - len(tail) + tail.rfind(b"\n") + 1
            if whole != size:
                file.truncate(whole)
            return whole


_decoder = msgspec.json.Decoder(Annotated[Line, msgspec.Meta(description="a line of the journal")])


def read_journal(directory: Path) -> Iterator[Line]:
    """Yield the lines of a journal, oldest first; those that are damaged, or of a later version, are left out."""
    for name in (OLDER, NEWER):
        try:
            with (directory / name).open("rb") as file:
                for data in file:
                    try:
                        yield _decoder.decode(data)
                    except (msgspec.MsgspecError, UnicodeDecodeError):
                        continue
        except FileNotFoundError:
            continue


def _alarm_line(record: AlarmRecord) -> AlarmLine:
    """Return what is kept of an alarm's record."""
    names: dict[str, Any] = {name: getattr(record, name) for name in AlarmLine.__struct_fields__}
    return AlarmLine(**names)
