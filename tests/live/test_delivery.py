"""Delivery: records reach commands and transports in order, once, and through outages and restarts."""

import errno
import json
import os
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from tests.live.staging import PATIENCE, Impatient, give, spool_of

from clapedge.cli.hints import with_flags
from clapedge.errors import StorageError, UsageError
from clapedge.live.clip_recorder import ClipStore
from clapedge.live.sinks.command import CommandSink
from clapedge.live.sinks.delivery import RefusedError, SpooledSink, UndeliveredError
from clapedge.live.sinks.spool import BLOCK_BYTES


class ScriptedTransport:
    """A transport that does what a script says, and then accepts everything."""

    name = "friend"

    def __init__(self, *script: Exception | None) -> None:
        self._script = list(script)
        self.sent: list[str] = []

    def send(self, key: str, data: bytes) -> None:
        answer = self._script.pop(0) if self._script else None
        if answer:
            raise answer
        assert json.loads(data).get("label", "siren") == "siren"
        self.sent.append(key)

    def close(self) -> None:
        """Do nothing."""


def test_messages_survive_a_restart_in_their_order(tmp_path: Path) -> None:
    spool = spool_of(tmp_path)
    for number in range(12):
        spool.put(f"ab-{number}-0", b"%d" % number)
    spool.close()
    again = spool_of(tmp_path)
    again.put("ab-12-0", b"12")
    sent = []
    while len(again):
        first = again.peek()
        assert first
        again.remove(first[0])
        sent.append((first[0].key, first[1]))
    assert sent == [(f"ab-{number}-0", b"%d" % number) for number in range(13)]
    assert [path.name for path in tmp_path.iterdir() if path.name != "lock"] == []


def test_beyond_its_bound_a_spool_gives_the_oldest_up_and_logs_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = spool_of(tmp_path, max_bytes=3 * BLOCK_BYTES)
    for number in range(8):
        spool.put(f"ab-{number}-0", b"x" * 500)
    first = spool.peek()
    assert first
    assert (first[0].key, len(spool), spool.dropped) == ("ab-5-0", 3, 5)
    assert len(caplog.messages) == 3  # at the first, second and fourth
    assert "--spool-bytes 12288" in with_flags(caplog.messages[0])


def test_half_a_message_is_none(tmp_path: Path) -> None:
    (tmp_path / "000000000004.ab-4-0.json.tmp").write_bytes(b"{")
    spool = spool_of(tmp_path)
    assert len(spool) == 0
    assert not list(tmp_path.glob("*.tmp"))


def test_a_spool_belongs_to_one_process(tmp_path: Path) -> None:
    spool = spool_of(tmp_path)
    with pytest.raises(StorageError, match="another process uses it"):
        spool_of(tmp_path)
    spool.close()
    spool_of(tmp_path).close()


def test_a_message_that_cannot_be_written_is_counted_and_listening_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = spool_of(tmp_path / "spool")
    shutil.rmtree(tmp_path / "spool")
    spool.put("ab-1-0", b"1")
    assert (len(spool), spool.dropped) == (0, 1)
    assert "make room" in caplog.messages[0]


def read_only(path: Path, **_: object) -> None:
    """Stand for `Path.unlink` on a disk that turned read-only."""
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)


def test_a_clip_that_cannot_be_deleted_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clip_store = ClipStore(tmp_path, max_bytes=1, voices="keep")
    monkeypatch.setattr(Path, "unlink", read_only)
    names = [
        clip_store.keep("20260101T000000000Z", "siren", f"ab-{number}", np.zeros(480, np.int16)).name
        for number in (1, 2)
    ]
    assert all(names)
    assert {path.name for path in tmp_path.iterdir()} == {*names}
    assert caplog.messages == [f"the clip {names[0]} cannot be deleted (Read-only file system); delete it"]


def test_a_disk_that_turned_read_only_stops_no_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spool = spool_of(tmp_path)
    for number in (1, 2):
        spool.put(f"0a1b-{number}-0", b'{"label": "siren"}')
    monkeypatch.setattr(Path, "unlink", read_only)
    friend = ScriptedTransport()
    spooled = SpooledSink(spool, friend)
    spooled.close()
    assert friend.sent == ["0a1b-1-0", "0a1b-2-0"]
    assert [message for message in caplog.messages if "cannot be deleted" in message] == [
        f"messages in {tmp_path} cannot be deleted (Read-only file system); check the disk"
    ]


def test_a_message_is_sent_again_until_it_is_accepted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stop = Impatient()
    friend = ScriptedTransport(
        UndeliveredError("asleep"), UndeliveredError("asleep"), UndeliveredError("busy", 7.0), None
    )
    spooled = SpooledSink(spool_of(tmp_path), friend, stop=stop)
    give(spooled, 1)
    give(spooled, 2)
    spooled.close()
    assert friend.sent == ["0a1b-1-0", "0a1b-2-0"]
    assert stop.waited == [1.0, 2.0, 7.0]
    assert caplog.messages[0].startswith("friend: asleep; ")
    assert "accepts messages again" in caplog.messages[-1]
    assert spooled.notes() == []


def test_a_message_that_is_refused_is_given_up_and_the_next_one_goes(tmp_path: Path) -> None:
    friend = ScriptedTransport(RefusedError("malformed"), None)
    spooled = SpooledSink(spool_of(tmp_path), friend)
    give(spooled, 1)
    give(spooled, 2)
    spooled.close()
    assert friend.sent == ["0a1b-2-0"]
    assert spooled.notes() == ["friend: 1 messages were refused and given up"]


class Patient(threading.Event):
    """An event that waits until it is set, and shows that it does."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - as an event waits
        self.waiting.set()
        return super().wait()


def test_what_was_not_accepted_waits_for_the_next_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stop = Patient()
    first = SpooledSink(spool_of(tmp_path), ScriptedTransport(UndeliveredError("down")), stop=stop)
    for number in range(3):
        give(first, number)
    assert stop.waiting.wait(PATIENCE)
    first.close()
    assert first.notes() == ["friend: 3 messages wait in the spool for the next run"]
    caplog.clear()
    friend = ScriptedTransport()
    second = SpooledSink(spool_of(tmp_path), friend)
    second.close()
    assert friend.sent == ["0a1b-0-0", "0a1b-1-0", "0a1b-2-0"]
    assert caplog.messages == ["friend: 3 messages of an earlier run wait and go first"]


SCRIPT = (
    "import json, os, sys; "
    "assert json.load(sys.stdin) == json.loads(os.environ['CLAPEDGE_EVENT']); "
    "open(sys.argv[1], 'a').write(os.environ['CLAPEDGE_EVENT'] + chr(10))"
)


def test_a_command_gets_the_record_on_its_input_and_in_its_environment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "it's here"
    sink = CommandSink(f'{sys.executable} -c "{SCRIPT}" "{out}"', jobs=1)
    give(sink, 1)
    give(sink, 2)
    sink.close()
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == ["0a1b-1", "0a1b-2"]
    assert caplog.messages == []
    assert sink.notes() == []


def test_a_command_is_run_without_a_shell(tmp_path: Path) -> None:
    sink = CommandSink(f"{sys.executable} -c pass ; touch {tmp_path}/made")
    give(sink, 1)
    sink.close()
    assert not (tmp_path / "made").exists()


def test_a_command_that_fails_hangs_or_is_missing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    for command, timeout in ((f"{sys.executable} -c 'raise SystemExit(3)'", 30.0), ("sleep 60", 0.01)):
        sink = CommandSink(command, timeout=timeout)
        give(sink, 1)
        sink.close()
        assert sink.notes() == ["the command failed 1 of 1 times"]
    assert "exit code 3" in caplog.messages[0]
    assert "killed" in caplog.messages[1]
    with pytest.raises(UsageError, match="names no program"):
        CommandSink("no-such-program --x")
    with pytest.raises(UsageError, match="cannot be split"):
        CommandSink("'unclosed")
