"""Interruptions: a process that is killed, a broker that is down for hours, a disk that is full."""

import errno
import http.server
import itertools
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.live.staging import FEED_RATE, Hold, StillClock, eventually, record_of, spool_of
from tests.live.test_command_line import COMMAND, RAW, listen
from tests.live.test_delivery import ScriptedTransport
from tests.live.web import web_server

from clapedge.atomic_file import atomic_write
from clapedge.errors import StorageError
from clapedge.events.event import Kind
from clapedge.live.disk import lacks_room
from clapedge.live.sinks.delivery import SpooledSink, UndeliveredError
from clapedge.live.sinks.messages import with_age
from clapedge.live.sinks.spool import Spool


class KilledError(BaseException):
    """The process ends here."""


class Executioner:
    """Kills the process before or behind one of its changes to the disk."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        """Stand before every change."""
        self.changes, self.at = 0, -1
        for name in ("rename", "replace", "unlink"):
            patch.setattr(Path, name, self._guarded(getattr(Path, name)))

    def _guarded(self, change: Callable[..., object]) -> Callable[..., object]:
        """Return a change that may be the last one."""

        def guarded(path: Path, *words: object, **options: object) -> object:
            if path.name.endswith(".tmp") and change.__name__ == "unlink":
                return change(path, *words, **options)  # of what a killed process would leave, and the next removes
            self._count()
            done = change(path, *words, **options)
            self._count()
            return done

        return guarded

    def _count(self) -> None:
        """Count a moment, and kill at the chosen one."""
        self.changes += 1
        if self.changes == self.at:
            raise KilledError


def put(spool: Spool, number: int, kind: Kind, sequence: int) -> None:
    """Put a record."""
    record = record_of(number, kind, sequence)
    spool.put(record.key, msgspec.json.encode(record), kind=kind)


def deliver(spool: Spool, received: list[dict[str, Any]], most: int = 1000) -> None:
    """Receive messages."""
    for _ in range(min(most, len(spool))):
        first = spool.peek()
        assert first
        received.append(json.loads(first[1]))
        spool.remove(first[0])


def run(directory: Path, received: list[dict[str, Any]], runs: "itertools.count[int]") -> None:
    """Listen to two events, one within the other, while messages are delivered; then be killed at the latest."""
    spool = spool_of(directory)
    lock = spool._lock
    assert lock
    try:
        one, other = next(runs), next(runs)
        put(spool, one, "begin", 0)
        deliver(spool, received, 1)
        put(spool, one, "update", 1)
        put(spool, other, "begin", 0)
        put(spool, other, "end", 1)
        deliver(spool, received, 1)
        put(spool, one, "update", 2)
        put(spool, one, "end", 3)
        deliver(spool, received, 2)
        put(spool, one + 1000, "begin", 0)
        deliver(spool, received, 2)
    finally:
        lock.close()  # as the system does, however a process ends


@pytest.mark.parametrize("second", [None, 1, 2, 3, 4, 5, 6, 7, 8])
def test_killed_wherever_it_can_be_every_event_that_began_ends_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: int | None
) -> None:
    executioner = Executioner(monkeypatch)
    run(tmp_path / "whole", [], itertools.count())
    moments = executioner.changes
    assert moments > 30
    for moment in range(1, moments + 1):
        received: list[dict[str, Any]] = []
        runs = itertools.count()
        directory = tmp_path / str(moment)
        for at in (moment, *([second] if second else [])):
            executioner.changes, executioner.at = 0, at
            with suppress(KilledError):
                run(directory, received, runs)
        executioner.at = -1
        deliver(spool_of(directory), received)
        once = {(record["id"], record["sequence"]): record for record in received}  # as a receiver takes them
        kinds = Counter((record["id"], record["kind"]) for record in once.values())
        began = {event for event, kind in kinds if kind == "begin"}
        assert {event for event, kind in kinds if kind == "end"} == began
        assert all(kinds[event, "end"] == kinds[event, "begin"] == 1 for event in began)
        for record in received:
            assert (record["reason"] in {"quiet", "interrupted"}) == (record["kind"] == "end")


def test_an_interrupted_event_ends_with_its_latest_record_and_the_reason(tmp_path: Path) -> None:
    first = spool_of(tmp_path)
    put(first, 1, "begin", 0)
    put(first, 1, "update", 1)
    received: list[dict[str, Any]] = []
    deliver(first, received)
    assert first._lock
    first._lock.close()
    for expected in (1, 0):
        again = spool_of(tmp_path)
        late: list[dict[str, Any]] = []
        deliver(again, late)
        assert len(late) == expected
        for record in late:
            assert (record["kind"], record["sequence"], record["reason"]) == ("end", 2, "interrupted")
            assert record["until"] == received[-1]["until"]
        again.close()


def test_an_event_whose_beginning_was_given_up_does_not_end_by_itself(tmp_path: Path) -> None:
    spool = spool_of(tmp_path, max_bytes=2 * 4096)
    for number in range(4):
        put(spool, number, "begin", 0)
    spool.close()
    received: list[dict[str, Any]] = []
    deliver(spool_of(tmp_path), received)
    assert [(record["id"], record["kind"]) for record in received] == [
        ("0a1b-2", "begin"),
        ("0a1b-3", "begin"),
        ("0a1b-2", "end"),
        ("0a1b-3", "end"),
    ]


def test_a_damaged_file_of_an_event_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "open.0a1b-1.json").write_bytes(b"")
    (tmp_path / "000000000001.0a1b-2-0.json").write_bytes(b"")
    spool = spool_of(tmp_path)
    friend = ScriptedTransport()
    sink = SpooledSink(spool, friend)
    sink.close()
    assert friend.sent == []
    assert any("the end of event 0a1b-1 is lost: it is damaged" in line for line in caplog.messages)
    assert sink.notes() == ["friend: 1 messages in the spool were damaged, and given up"]
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_record_says_for_how_long_it_waited(tmp_path: Path) -> None:
    clock = StillClock()
    spool = spool_of(tmp_path, clock=clock)
    put(spool, 1, "end", 0)
    clock.pass_(7200.0)
    clock.utc -= 1e6  # a clock that is set makes nothing older or younger
    first = spool.peek()
    assert first
    assert json.loads(with_age(first[1], spool.age(first[0])))["age_s"] == 7200.0
    spool.close()
    os.utime(tmp_path / first[0].name, (clock.utc - 600.0, clock.utc - 600.0))
    again = spool_of(tmp_path, clock=clock)
    first = again.peek()
    assert first
    assert again.age(first[0]) == 600.0


def test_what_is_sent_carries_its_age(tmp_path: Path) -> None:
    sent: list[dict[str, Any]] = []

    class Friend(ScriptedTransport):
        def send(self, key: str, data: bytes) -> None:
            super().send(key, data)
            sent.append(json.loads(data))

    clock = StillClock()
    stop = Hold(lambda: clock.pass_(90.0))
    spooled = SpooledSink(spool_of(tmp_path, clock=clock), Friend(UndeliveredError("down")), stop=stop)
    spooled.write(record_of(1), msgspec.json.encode(record_of(1)))
    spooled.close()
    assert [record["age_s"] for record in sent] == [90.0]
    assert list(sent[0]) == list(msgspec.to_builtins(record_of(1)))


def test_an_event_that_is_over_is_given_up_when_it_is_too_old(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = StillClock()
    spool = spool_of(tmp_path, clock=clock, max_age=600.0)
    put(spool, 1, "begin", 0)
    put(spool, 1, "end", 1)
    put(spool, 2, "begin", 0)  # which was sent in time
    put(spool, 3, "begin", 0)  # which goes on
    put(spool, 3, "update", 1)
    spool._waiting.remove(next(each for each in spool._waiting if each.key == "0a1b-2-0"))
    put(spool, 2, "end", 1)
    clock.pass_(601.0)
    put(spool, 4, "begin", 0)
    put(spool, 4, "end", 1)
    received: list[dict[str, Any]] = []
    while len(spool):
        deliver(spool, received, 1)
    assert [(record["id"], record["kind"]) for record in received] == [
        ("0a1b-3", "begin"),
        ("0a1b-2", "end"),
        ("0a1b-4", "begin"),
        ("0a1b-4", "end"),
    ]
    assert spool.expired == 3
    assert "max_age=600" in caplog.messages[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "000000000002.0a1b-2-0.json",
        "lock",
        "open.0a1b-3.json",
    ]


def full(_: Path, *__: object, **___: object) -> None:
    """Stand for writing to a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_stops_no_message_while_the_receiver_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spool = spool_of(tmp_path)
    put(spool, 1, "begin", 0)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        put(spool, 1, "end", 1)
        put(spool, 2, "end", 0)
    assert (len(spool), spool.dropped) == (3, 0)
    assert any("No space left on device" in line for line in caplog.messages)
    received: list[dict[str, Any]] = []
    deliver(spool, received)
    assert [record["kind"] for record in received] == ["begin", "end", "end"]
    spool.close()
    deliver(spool_of(tmp_path), received)
    assert len(received) == 3, "the event had ended"


def test_what_a_full_disk_left_in_memory_is_noted_when_it_cannot_be_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = spool_of(tmp_path)
    monkeypatch.setattr(Path, "open", full)
    put(spool, 1, "end", 0)
    stop = Hold(lambda: time.sleep(0.01))
    spooled = SpooledSink(spool, ScriptedTransport(*[UndeliveredError("down")] * 1000), stop=stop)
    eventually(lambda: spooled._failures)
    spooled.close()
    assert spooled.notes() == ["friend: 1 messages are lost with this process: the disk had no room for them"]


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Return the address of a web server, and what it receives."""
    received: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with web_server(Handler) as address:
        yield address, received


def test_after_a_kill_the_next_run_ends_the_event_once(
    raw: bytes,
    label_file: str,
    tmp_path: Path,
    receiver: tuple[str, list[dict[str, Any]]],
) -> None:
    address, received = receiver
    words = [*COMMAND, "--labels", label_file, "--webhook", address, "--spool", str(tmp_path / "spool")]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(words, stdin=subprocess.PIPE, **quiet) as process:  # type: ignore[call-overload]
        process.stdin.write(raw[: 4 * FEED_RATE * 10])
        process.stdin.flush()
        eventually(lambda: received and not list((tmp_path / "spool" / "webhook").glob("*-0.json")))
        process.send_signal(signal.SIGKILL)
    for _ in range(2):
        subprocess.run(words, input=raw[: 4 * FEED_RATE], check=True, **quiet)  # type: ignore[call-overload]
    assert [(record["kind"], record["reason"]) for record in received] == [("begin", None), ("end", "interrupted")]
    assert received[0]["id"] == received[1]["id"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_standard_output_ends_no_listening_and_is_the_exit_code(
    raw: bytes, label_file: str, tmp_path: Path, receiver: tuple[str, list[dict[str, Any]]]
) -> None:
    address, received = receiver
    words = [*COMMAND, "--labels", label_file, "--webhook", address, "--spool", str(tmp_path / "spool")]
    with Path("/dev/full").open("w") as disk:
        done = subprocess.run(words, input=raw, stdout=disk, stderr=subprocess.PIPE, check=False)
    shown = done.stderr.decode()
    assert done.returncode == StorageError.exit_code, shown
    begun, ended = ({one["id"] for one in received if one["kind"] == kind} for kind in ("begin", "end"))
    assert len(ended) > 1
    assert begun == ended
    assert f"standard output had no room for {2 * len(ended)} events" in shown
    assert shown.rstrip().endswith(
        "error: events cannot be written to standard output (No space left on device); make room"
    )


def test_a_full_disk_behind_the_status_is_logged_and_ends_no_listening(
    raw: bytes, label_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, write = tmp_path / "status.json", Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda path, data: (full if "status" in path.name else write)(path, data))
    done = listen(*RAW, "--labels", label_file, "--status", status, data=raw)
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count(f"note: {status} cannot be written (No space left on device)") > 0
    assert list(tmp_path.glob("status*")) == []


def test_a_name_that_cannot_be_written_is_not_a_full_disk() -> None:
    assert lacks_room(OSError(errno.ENOSPC, "full"))
    assert not lacks_room(OSError(errno.EACCES, "denied"))
    with pytest.raises(StorageError) as caught, atomic_write(Path("/nonexistent/a")) as path:
        path.write_bytes(b"")
    assert not lacks_room(caught.value)
