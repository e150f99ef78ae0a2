"""Several sources at one tower: each as if it were alone, whatever the others do; settings that change meanwhile."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from tests.live.staging import PLANTED, RATE, eventually

from clapedge import EmbeddedLabels, Engine
from clapedge.arrays import Float32Array
from clapedge.cli import cli
from clapedge.cli.listen import listen
from clapedge.cli.post_file import read_post
from clapedge.cli.sessions import SourceSettings, sources_of
from clapedge.errors import ClapEdgeError, StorageError, UsageError
from clapedge.live.post import Post
from clapedge.live.publisher import EventPublisher
from clapedge.live.sinks.json_lines import JsonLinesSink
from clapedge.live.status_file import StatusFile

pytestmark = pytest.mark.filterwarnings("ignore::clapedge.errors.ClapEdgeWarning")

TIMES = ("id", "at", "until", "latency_ms", "delay_ms", "age_s", "source")
"""Fields of a record that differ from run to run."""


class Lines:
    """A text stream that keeps its lines."""

    def __init__(self) -> None:
        """Begin without lines."""
        self.lines: list[str] = []

    def write(self, text: str) -> int:
        """Keep a line."""
        self.lines.append(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing."""

    def records(self, source: str) -> list[dict[str, Any]]:
        """Return the records of a source."""
        return [record for record in map(json.loads, self.lines) if record["source"] == source]


@pytest.fixture
def recording(tmp_path: Path, planted: Float32Array) -> Path:
    """Write the recording with planted sounds."""
    soundfile.write(tmp_path / "planted.wav", planted, RATE)
    return tmp_path / "planted.wav"


@pytest.fixture
def post_of(engine: Engine, tmp_path: Path, label_file: str) -> Iterator[Callable[[str], tuple[Post, Lines]]]:
    """Return what makes a post of a file's text, with labels and a status; it is stopped at the end."""
    made: list[Post] = []

    def make(text: str) -> tuple[Post, Lines]:
        path, lines = tmp_path / "post.toml", Lines()
        head = f"labels = {json.dumps(label_file)}\nspeed = 0.0\nwindow = 2.0\nmerge_gap = 1.5\nmin_duration = 1.0\n"
        path.write_text(head + text, encoding="utf-8")
        output = JsonLinesSink(lines)  # type: ignore[arg-type] # as far as the sink needs it
        read = lambda: sources_of(path, read_post(path, listen).sources, lambda: engine, [output])  # noqa: E731 - as short
        made.append(Post(read, path, output, StatusFile(tmp_path / "status.json")))
        return made[-1], lines

    yield make
    for post in made:
        post.stop()


@pytest.fixture
def alone(recording: Path, label_file: str) -> list[dict[str, Any]]:
    """Return the records of the recording when it is listened to alone."""
    options = ["--speed", "0", "--labels", label_file, "--window", "2", "--merge-gap", "1.5", "--min-duration", "1"]
    done = CliRunner().invoke(cli, ["listen", str(recording), *options], catch_exceptions=False)
    return [json.loads(line) for line in done.stdout.splitlines()]


def plain(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return records without what differs from run to run."""
    return [{name: value for name, value in record.items() if name not in TIMES} for record in records]


def table(name: str, source: Path | str, *lines: str) -> str:
    """Return a source's table."""
    return "\n".join([f"[sources.{name}]", f"source = {json.dumps(os.fspath(source))}", *lines, ""])


def test_each_source_reports_what_it_reports_alone(
    post_of: Callable[[str], tuple[Post, Lines]], recording: Path, alone: list[dict[str, Any]], tmp_path: Path
) -> None:
    names = [f"source-{number}" for number in range(4)]
    post, lines = post_of("".join(table(name, recording) for name in names))
    post.run()
    assert {record["label"] for record in alone} == set(PLANTED)
    for name in names:
        assert plain(lines.records(name)) == plain(alone)
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["state"] == "ended"
    for name in names:
        one = status["sources"][name]
        assert one["samples_read"] == one["samples_heard"] > 0
        assert (one["samples_dropped"], one["gaps"], one["source"]) == (0, 0, name)
    assert "all of it" in post.summary()[-1]
    assert post.failure is None


def test_a_source_that_floods_sends_no_numbers_is_damaged_or_empty_changes_nothing_for_others(
    post_of: Callable[[str], tuple[Post, Lines]],
    recording: Path,
    alone: list[dict[str, Any]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    soundfile.write(tmp_path / "nan.wav", np.full(RATE * 20, np.nan, np.float32), RATE, subtype="FLOAT")
    (tmp_path / "damaged.wav").write_bytes(recording.read_bytes()[:30])
    soundfile.write(tmp_path / "flood.wav", np.random.default_rng(0).normal(0, 0.1, RATE * 120), RATE)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    others = ("nan", "damaged", "flood", "empty")
    post, lines = post_of(table("yard", recording) + "".join(table(name, tmp_path / f"{name}.wav") for name in others))
    post.run()
    assert plain(lines.records("yard")) == plain(alone)
    assert post.failure is not None
    assert "damaged is given up" in caplog.text
    assert post.status()["sources"]["flood"]["samples_dropped"] == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_source_that_never_sends_keeps_no_other_one_waiting(
    post_of: Callable[[str], tuple[Post, Lines]], recording: Path, alone: list[dict[str, Any]], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    post, lines = post_of(table("mute", tmp_path / "pipe.wav") + table("yard", recording))
    thread = threading.Thread(target=post.run)
    thread.start()
    eventually(lambda: len(lines.records("yard")) == len(alone))
    assert plain(lines.records("yard")) == plain(alone)
    assert thread.is_alive()
    post.stop()
    thread.join(30)
    assert not thread.is_alive()


def test_changed_settings_restart_what_they_concern_alone(
    post_of: Callable[[str], tuple[Post, Lines]], recording: Path, planted: Float32Array, tmp_path: Path
) -> None:
    steady = table("yard", recording, "speed = 4.0")
    post, lines = post_of(steady + table("hall", recording, "speed = 1.0"))
    path = tmp_path / "post.toml"
    thread = threading.Thread(target=post.run)
    thread.start()
    eventually(lambda: post.status()["sources"].keys() == {"yard", "hall"})
    before = {name: one["run"] for name, one in post.status()["sources"].items()}
    head = path.read_text().partition("[sources")[0]
    path.write_text(head + steady + table("hall", recording, "window = 3.0") + table("gate", recording))
    post.reload()
    eventually(lambda: "gate" in post.status()["sources"])
    after = {name: one["run"] for name, one in post.status()["sources"].items()}
    assert after["yard"] == before["yard"]
    assert after["hall"] != before["hall"]
    path.write_text(head + steady)
    post.reload()
    eventually(lambda: post.status()["sources"].keys() == {"yard"})
    thread.join(60)
    yard = post.status()["sources"]["yard"]
    assert yard["samples_heard"] == len(planted)
    assert [record["label"] for record in lines.records("yard") if record["kind"] == "end"] == list(PLANTED)


def test_settings_that_cannot_be_used_change_nothing(
    post_of: Callable[[str], tuple[Post, Lines]], recording: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    post, _ = post_of(table("yard", recording, "speed = 4.0"))
    path = tmp_path / "post.toml"
    thread = threading.Thread(target=post.run)
    thread.start()
    eventually(lambda: "yard" in post.status()["sources"])
    before, good = post.status()["sources"]["yard"]["run"], path.read_text()
    path.write_text(f"{good}hopp = 1\n")
    eventually(lambda: "did you mean hop?; the post goes on as it was" in caplog.text)
    path.write_text(good + table("hall", tmp_path / "none.wav"))
    eventually(lambda: "sources.hall" in caplog.text and "none.wav does not exist" in caplog.text)
    assert post.status()["sources"].keys() == {"yard"}
    (tmp_path / "taken").write_text("no directory")
    path.write_text(good.replace("speed = 4.0", f"speed = 4.0\nkeep = {json.dumps(str(tmp_path / 'taken'))}"))
    eventually(lambda: "it goes on as it was" in caplog.text and "cannot hold clips" in caplog.text)
    eventually(lambda: "yard" in post.status()["sources"])
    assert post.status()["sources"]["yard"]["run"] != before, "it was stopped for the new settings, and started again"
    post.stop()
    thread.join(30)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("error", "found"),
    [
        (
            StorageError("the disk is gone; plug it in"),
            "hall: the disk is gone; plug it in; it is started again in 1 s",
        ),
        (ZeroDivisionError(), "hall ended by a fault; report what is printed above; it is started again"),
    ],
)
def test_a_source_that_fails_is_started_again(
    post_of: Callable[[str], tuple[Post, Lines]],
    recording: Path,
    alone: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    found: str,
) -> None:
    publish = EventPublisher.publish
    failed: list[bool] = []

    def fail_once(self: EventPublisher, *words: Any, **options: Any) -> None:  # noqa: ANN401 - as they are
        if self._context.source == "hall" and not failed:
            failed.append(True)
            raise error
        publish(self, *words, **options)

    monkeypatch.setattr(EventPublisher, "publish", fail_once)
    post, lines = post_of(table("yard", recording) + table("hall", recording))
    post.run()
    assert found in caplog.text
    assert plain(lines.records("yard")) == plain(lines.records("hall")) == plain(alone)
    assert post.failure is None


def test_a_source_that_can_be_opened_in_no_way_is_tried_again_and_ends_nothing(
    post_of: Callable[[str], tuple[Post, Lines]], recording: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep = tmp_path / "keep"
    post, _ = post_of(
        table("yard", recording, "speed = 1.0")
        + table("hall", recording, f"keep = {json.dumps(str(keep))}", "speed = 1.0")
    )
    path = tmp_path / "post.toml"
    thread = threading.Thread(target=post.run)
    thread.start()
    eventually(lambda: post.status()["sources"].keys() == {"yard", "hall"})
    shutil.rmtree(keep)
    keep.write_text("no directory any more")
    path.write_text(path.read_text().replace("keep = ", "window = 3.0\nkeep = "))
    eventually(lambda: "it goes on as it was" in caplog.text and "it is started again" in caplog.text)
    assert post.status()["sources"].keys() == {"yard"}
    keep.unlink()
    eventually(lambda: post.status()["sources"].keys() == {"yard", "hall"})
    post.stop()
    thread.join(30)


def test_records_that_cannot_be_written_end_the_post(
    post_of: Callable[[str], tuple[Post, Lines]], recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    post, lines = post_of(table("yard", recording) + table("hall", recording, "speed = 0.1"))

    def broken(_: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(lines, "write", broken)
    with pytest.raises(StorageError, match="events cannot be written"):
        post.run()


def test_a_source_that_cannot_be_opened_at_the_start_is_said(
    post_of: Callable[[str], tuple[Post, Lines]], recording: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"post\.toml: sources\.hall: .*none\.wav does not exist"):
        post_of(table("yard", recording) + table("hall", tmp_path / "none.wav"))
    (tmp_path / "taken").write_text("no directory")
    post, _ = post_of(table("yard", recording, f"keep = {json.dumps(str(tmp_path / 'taken'))}"))
    with pytest.raises(ClapEdgeError, match="cannot hold clips"):
        post.run()


def test_outside_of_its_hours_a_source_is_not_embedded(
    post_of: Callable[[str], tuple[Post, Lines]], recording: Path
) -> None:
    times = ('began = "2026-01-15T03:00:00Z"', 'hours = "00:00-24:00"')
    post, lines = post_of(
        table("day", recording, *times) + table("night", recording, times[0], f'hours = "{_other_hours()}"')
    )
    post.run()
    found = post.status()["sources"]
    assert (found["day"]["asleep"], found["night"]["windows"]) == (0, 0)
    assert found["night"]["asleep"] == found["day"]["windows"] > 0
    assert lines.records("day")
    assert not lines.records("night")


def _other_hours() -> str:
    """Return hours that the sound of 03:00 UTC lies outside of, wherever this machine is."""
    from datetime import datetime, timezone

    hour = datetime(2026, 1, 15, 3, tzinfo=timezone.utc).astimezone().hour
    return f"{(hour + 3) % 24:02}:00-{(hour + 6) % 24:02}:00"


def test_standard_input_cannot_change(
    post_of: Callable[[str], tuple[Post, Lines]], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    source = '[sources.pipe]\nsource = "-"\nrate = 16000\n'
    post, _ = post_of(source)
    before, path = post._wanted["pipe"], tmp_path / "post.toml"
    post._running["pipe"] = None  # type: ignore[assignment] # must not be touched
    path.write_text(path.read_text().replace("rate = 16000", "rate = 8000"))
    post._read_again()
    assert "pipe is standard input, which cannot be opened again; it goes on as it was" in caplog.text
    assert post._wanted["pipe"] == before
    post._running.clear()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_the_command_listens_to_a_file_of_sources_and_follows_it(
    recording: Path, label_file: str, tmp_path: Path
) -> None:
    path, status = tmp_path / "post.toml", tmp_path / "status.json"
    head = f"labels = {json.dumps(label_file)}\nstatus = {json.dumps(str(status))}\nspeed = 1.0\n"
    path.write_text(head + table("yard", recording))
    command = [sys.executable, "-m", "clapedge.cli", "listen", "--config", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        eventually(status.exists)
        path.write_text(head + table("yard", recording) + table("hall", recording))
        process.send_signal(signal.SIGHUP)
        assert process.stderr
        for line in process.stderr:
            if "hall is listened to as its new settings say" in line:
                break
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "yard: heard" in rest
    assert "hall: heard" in rest
    assert json.loads(status.read_text())["sources"].keys() == {"yard", "hall"}


def test_labels_of_a_changed_file_are_read_again(
    engine: Engine, labels: EmbeddedLabels, recording: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.npz"
    labels.save(own)
    path = tmp_path / "post.toml"
    path.write_text(table("yard", recording, f"labels = {json.dumps(str(own))}"))
    output = JsonLinesSink(sys.stdout)

    def read() -> SourceSettings:
        return sources_of(path, read_post(path, listen).sources, lambda: engine, [output])["yard"]

    first = read()
    assert read() == first
    os.utime(own, (1, 1))
    assert read() != first
