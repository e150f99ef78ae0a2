"""The command: samples in, lines out; signals, broken pipes and wrong options."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from click.testing import CliRunner, Result
from tests.live.staging import FEED_RATE, PLANTED, RATE, eventually

from clapedge.arrays import Float32Array
from clapedge.cli import cli
from clapedge.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore::clapedge.errors.ClapEdgeWarning")

RAW = ("-", "--rate", str(FEED_RATE), "--channels", "2", "--window", "2", "--merge-gap", "1.5", "--min-duration", "1")
COMMAND = (sys.executable, "-m", "clapedge.cli", "listen", *RAW)


@pytest.fixture
def started(label_file: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a listener that waits for samples."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([*COMMAND, "--labels", label_file], stdin=pipe, stdout=pipe, stderr=pipe)
    yield process
    process.kill()
    process.communicate()


def listen(*words: object, data: bytes = b"") -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(cli, ["listen", *map(str, words)], input=data, catch_exceptions=False)


def records_of(text: str) -> list[dict[str, Any]]:
    """Return the records of lines."""
    return [json.loads(line) for line in text.splitlines()]


def test_planted_sounds_are_reported_as_lines(raw: bytes, label_file: str, tmp_path: Path) -> None:
    status, began = tmp_path / "status.json", "2026-01-31T22:00:00Z"
    done = listen(*RAW, "--labels", label_file, "--status", status, "--began", began, "--buffer", "60", data=raw)
    ended = [record for record in records_of(done.stdout) if record["kind"] == "end"]
    assert [record["label"] for record in ended] == list(PLANTED)
    assert ended[0]["at"].startswith("2026-01-31T22:00:0")
    written = json.loads(status.read_text())
    assert written["state"] == "ended"
    assert written["samples_read"] == written["samples_heard"] == len(raw) // 4
    assert written["samples_dropped"] == written["samples_waiting"] == 0
    assert written["events"] == dict.fromkeys(PLANTED, 1)
    assert f"samples: {len(raw) // 4} read, {len(raw) // 4} heard, 0 dropped" in done.stderr


def test_a_recording_is_played_as_fast_as_possible_without_losing_any_of_it(
    planted: Float32Array, label_file: str, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "night.wav", planted, RATE)
    done = listen(tmp_path / "night.wav", "--speed", "0", "--labels", label_file, "--window", "2", "--buffer", "1")
    labels = {record["label"] for record in records_of(done.stdout)}
    assert labels == set(PLANTED)
    assert "clock" not in done.stderr
    assert f"samples: {len(planted)} read, {len(planted)} heard, 0 dropped" in done.stderr


def test_events_are_kept_and_the_oldest_go_beyond_the_bound(raw: bytes, label_file: str, tmp_path: Path) -> None:
    keep = tmp_path / "keep"
    done = listen(*RAW, "--labels", label_file, "--keep", keep, "--keep-bytes", 300_000, "--buffer", "60", data=raw)
    named = [record["clip"] for record in records_of(done.stdout) if record["kind"] == "end"]
    kept = sorted(path.name for path in keep.iterdir())
    assert all(named)
    assert kept == named[-len(kept) :]
    assert 0 < len(kept) < len(named)


def test_what_happens_is_a_note_on_stderr_with_flags(raw: bytes, label_file: str) -> None:
    done = listen(*RAW, "--labels", label_file, "--on-event", "sleep 60", "--on-event-timeout", "0.1", data=raw)
    assert "\nnote: the command sleep was killed after 0.1 s; give it more than --on-event-timeout 0.1\n" in done.stderr
    assert "the command failed" in done.stderr


def test_a_signal_ends_events_and_the_run(started: "subprocess.Popen[bytes]", raw: bytes) -> None:
    assert started.stdin
    assert started.stdout
    started.stdin.write(raw[: 4 * FEED_RATE * 10])
    started.stdin.flush()
    begin = json.loads(started.stdout.readline())
    assert (begin["kind"], begin["label"]) == ("begin", "siren")
    started.send_signal(signal.SIGTERM)
    (end,) = records_of(started.stdout.read().decode())
    assert started.wait() == 0
    assert (end["kind"], end["id"], end["reason"]) == ("end", begin["id"], "end")
    assert started.stderr
    assert "events: siren 1" in started.stderr.read().decode()


def test_a_reader_who_leaves_ends_the_run_without_a_traceback(started: "subprocess.Popen[bytes]", raw: bytes) -> None:
    assert started.stdin
    assert started.stdout
    started.stdout.close()
    started.stdin.write(raw[: 4 * FEED_RATE * 10])
    started.stdin.flush()
    eventually(lambda: started.poll() is not None)
    assert started.returncode == 2
    assert started.stderr
    errors = started.stderr.read().decode()
    assert "events cannot be written to standard output (Broken pipe)" in errors
    assert "Traceback" not in errors
    with pytest.raises(BrokenPipeError):
        os.write(started.stdin.fileno(), raw[:4])


def test_an_address_with_a_password_need_not_be_an_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAPEDGE_SOURCE", "nothing-there")
    with pytest.raises(UsageError, match="nothing-there does not exist"):
        listen("-l", "siren")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("-",), "give --rate"),
        (("-", "--rate", "16000", "--format", "s12"), "give one of u8"),
        (("nothing-there",), "name -, mic, mic:DEVICE"),
        (("-", "--rate", "16000", "--hop", "20"), "give 0.5 to 10"),
        (("-", "--rate", "16000", "--window", "20"), "10 s long at most"),
        (("-", "--rate", "16000", "--webhook", "http://host/"), "give --spool"),
        (("-", "--rate", "16000", "--began", "yesterday"), "give one such as"),
        (("-", "--rate", "16000", "--buffer", "0"), "give 1 to 3600 s"),
        (("-", "--rate", "16000", "--on-event", "no-such-program"), "names no program"),
    ],
)
def test_what_is_impossible_is_reported_before_anything_is_read(words: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        listen(*words, "-l", "siren")
