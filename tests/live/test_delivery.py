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
from tests.live.staging import PATIENCE, give, spool_of

from clapedge.errors import StorageError, UsageError
from clapedge.live.clip_recorder import ClipStore
from clapedge.live.sinks.command import CommandSink
from clapedge.live.sinks.delivery import RefusedError, SpooledSink, UndeliveredError
from clapedge.live.sinks.spool import BLOCK_BYTES


class Friend:
    """A transport that does what a script says, and then takes everything."""

    name = "friend"

    def __init__(self, *script: Exception | None) -> None:
        self._script = list(script)
        self.taken: list[str] = []

    def carry(self, key: str, data: bytes) -> None:
        answer = self._script.pop(0) if self._script else None
        if answer:
            raise answer
        assert json.loads(data)["label"] == "siren"
        self.taken.append(key)

    def close(self) -> None:
        """Do nothing."""


def test_messages_survive_a_restart_in_their_order(tmp_path: Path) -> None:
    spool = spool_of(tmp_path)
    for number in range(12):
        spool.put(f"ab-{number}-0", b"%d" % number)
    spool.close()
    again = spool_of(tmp_path)
    again.put("ab-12-0", b"12")
    taken = []
    while len(again):
        first = again.first()
        assert first
        again.done(first[0])
        taken.append((first[0].key, first[1]))
    assert taken == [(f"ab-{number}-0", b"%d" % number) for number in range(13)]
    assert [path.name for path in tmp_path.iterdir() if path.name != "lock"] == []


def test_beyond_its_bound_a_spool_gives_the_oldest_up_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    spool = spool_of(tmp_path, most_bytes=3 * BLOCK_BYTES, say=said.append)
    for number in range(8):
        spool.put(f"ab-{number}-0", b"x" * 500)
    first = spool.first()
    assert first
    assert (first[0].key, len(spool), spool.dropped) == ("ab-5-0", 3, 5)
    assert len(said) == 3  # at the first, second and fourth
    assert "--spool-bytes" in said[0]


def test_half_a_message_is_none(tmp_path: Path) -> None:
    (tmp_path / "000000000004.ab-4-0.json.part").write_bytes(b"{")
    spool = spool_of(tmp_path)
    assert len(spool) == 0
    assert not list(tmp_path.glob("*.part"))


def test_a_spool_belongs_to_one_process(tmp_path: Path) -> None:
    spool = spool_of(tmp_path)
    with pytest.raises(StorageError, match="another process uses it"):
        spool_of(tmp_path)
    spool.close()
    spool_of(tmp_path).close()


def test_a_message_that_cannot_be_written_is_counted_and_listening_goes_on(tmp_path: Path) -> None:
    said: list[str] = []
    spool = spool_of(tmp_path / "spool", say=said.append)
    shutil.rmtree(tmp_path / "spool")
    spool.put("ab-1-0", b"1")
    assert (len(spool), spool.dropped) == (0, 1)
    assert "make room" in said[0]


def read_only(path: Path, **_: object) -> None:
    """Stand for `Path.unlink` on a disk that turned read-only."""
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)


def test_a_clip_that_cannot_be_deleted_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    clip_store = ClipStore(tmp_path, 1, say=said.append)
    monkeypatch.setattr(Path, "unlink", read_only)
    names = [
        clip_store.keep("20260101T000000000Z", "siren", f"ab-{number}", np.zeros(480, np.int16)) for number in (1, 2)
    ]
    assert all(names)
    assert (clip_store.written, clip_store.deleted) == (2, 0)
    assert said == [f"the clip {names[0]} cannot be deleted (Read-only file system); delete it"]


def test_a_disk_that_turned_read_only_stops_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    spool = spool_of(tmp_path, say=said.append)
    for number in (1, 2):
        spool.put(f"0a1b-{number}-0", b'{"label": "siren"}')
    monkeypatch.setattr(Path, "unlink", read_only)
    friend = Friend()
    spooled = SpooledSink(spool, friend, say=said.append)
    spooled.close()
    assert friend.taken == ["0a1b-1-0", "0a1b-2-0"]
    assert [words for words in said if "cannot be deleted" in words] == [
        f"messages in {tmp_path} cannot be deleted (Read-only file system); check the disk"
    ]


def test_a_message_is_brought_again_until_it_is_taken(tmp_path: Path) -> None:
    waited: list[float] = []
    friend = Friend(UndeliveredError("asleep"), UndeliveredError("asleep"), UndeliveredError("busy", 7.0), None)
    said: list[str] = []
    spooled = SpooledSink(spool_of(tmp_path), friend, say=said.append, wait=lambda _, seconds: waited.append(seconds))
    give(spooled, 1)
    give(spooled, 2)
    spooled.close()
    assert friend.taken == ["0a1b-1-0", "0a1b-2-0"]
    assert waited == [1.0, 2.0, 7.0]
    assert said[0].startswith("friend: asleep; ")
    assert "takes messages again" in said[-1]
    assert spooled.notes() == []


def test_a_message_that_is_refused_is_given_up_and_the_next_one_goes(tmp_path: Path) -> None:
    friend = Friend(RefusedError("malformed"), None)
    spooled = SpooledSink(spool_of(tmp_path), friend, say=lambda _: None)
    give(spooled, 1)
    give(spooled, 2)
    spooled.close()
    assert friend.taken == ["0a1b-2-0"]
    assert spooled.notes() == ["friend: 1 messages were refused and given up"]


def test_what_nobody_took_waits_for_the_next_run(tmp_path: Path) -> None:
    held = threading.Event()

    def wait(stop: threading.Event, seconds: float) -> object:  # noqa: ARG001 - as an event waits
        held.set()
        return stop.wait()

    first = SpooledSink(spool_of(tmp_path), Friend(UndeliveredError("down")), say=lambda _: None, wait=wait)
    for number in range(3):
        give(first, number)
    assert held.wait(PATIENCE)
    first.close()
    assert first.notes() == ["friend: 3 messages wait in the spool for the next run"]
    friend, said = Friend(), list[str]()
    second = SpooledSink(spool_of(tmp_path), friend, say=said.append)
    second.close()
    assert friend.taken == ["0a1b-0-0", "0a1b-1-0", "0a1b-2-0"]
    assert said == ["friend: 3 messages of an earlier run wait and go first"]


SCRIPT = (
    "import json, os, sys; "
    "assert json.load(sys.stdin) == json.loads(os.environ['CLAPEDGE_EVENT']); "
    "open(sys.argv[1], 'a').write(os.environ['CLAPEDGE_EVENT'] + chr(10))"
)


def test_a_command_gets_the_record_on_its_input_and_in_its_environment(tmp_path: Path) -> None:
    out = tmp_path / "it's here"
    said: list[str] = []
    sink = CommandSink(f'{sys.executable} -c "{SCRIPT}" "{out}"', jobs=1, say=said.append)
    give(sink, 1)
    give(sink, 2)
    sink.close()
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == ["0a1b-1", "0a1b-2"]
    assert said == []
    assert sink.notes() == []


def test_a_command_is_run_without_a_shell(tmp_path: Path) -> None:
    sink = CommandSink(f"{sys.executable} -c pass ; touch {tmp_path}/made", say=lambda _: None)
    give(sink, 1)
    sink.close()
    assert not (tmp_path / "made").exists()


def test_a_command_that_fails_hangs_or_is_missing_is_told() -> None:
    said: list[str] = []
    for command, timeout in ((f"{sys.executable} -c 'raise SystemExit(3)'", 30.0), ("sleep 60", 0.01)):
        sink = CommandSink(command, timeout=timeout, say=said.append)
        give(sink, 1)
        sink.close()
        assert sink.notes() == ["--on-event failed 1 of 1 times"]
    assert "exit code 3" in said[0]
    assert "killed" in said[1]
    with pytest.raises(UsageError, match="names no program"):
        CommandSink("no-such-program --x", say=said.append)
    with pytest.raises(UsageError, match="cannot be split"):
        CommandSink("'unclosed", say=said.append)
