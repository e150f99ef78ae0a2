"""The journal of listening, and what it says of why there was an alarm, or none."""

import errno
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from tests.live.staging import RATE, alarm_of

from clapedge.arrays import Float32Array
from clapedge.cli import cli
from clapedge.errors import StorageError
from clapedge.live.alarms.explanation import seconds_of
from clapedge.live.alarms.journal import (
    NEWER,
    OLDER,
    AlarmLine,
    EventLine,
    GapLine,
    Journal,
    Line,
    MinuteLine,
    SettingsLine,
    read_journal,
)

RULES = """
[any]
labels = ["siren", "smoke alarm"]

[long]
labels = ["smoke alarm"]
min_duration = 3
min_lafmax = 0

[phone]
labels = ["telephone ringing", "dog"]
hours = "01:00-05:00"
"""

SETTINGS = SettingsLine(
    at="2026-01-01T00:00:00.000Z",
    source="yard",
    run="0a1b",
    score="probability",
    on={"siren": 0.5, "dog": 0.5},
    hop=1.0,
    min_duration=2.0,
    gate=-50.0,
    hours="06:00-22:00",
    alarms={"night": ["siren"], "all": []},
)


def minute(number: int) -> MinuteLine:
    """Return the line of a minute of 2026."""
    at = f"2026-01-01T{number // 60:02}:{number % 60:02}:00.000Z"
    return MinuteLine(at=at, heard=60, gated=0, asleep=0, best={"siren": (0.25, 7.5)})


def test_lines_are_read_as_they_were_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", max_bytes=2**20)
    event = EventLine(
        at="2026-01-01T00:00:01.000Z", until="2026-01-01T00:00:03.000Z", label="siren", event="0a1b-1", seconds=2.0,
        windows=2, probability=0.9, similarity=0.4, held=None, laeq=None, lafmax=None, alarms={"night": "it is short"},
    )  # fmt: skip
    written: list[Line] = [minute(0), event, GapLine(at="2026-01-01T00:01:00.000Z", reason="gap")]
    journal.begin(SETTINGS)
    for line in written:
        journal.write(line)
    journal.write(alarm_of(0))
    *read, alarm = read_journal(tmp_path / "journal")
    assert read == [SETTINGS, *written]
    assert isinstance(alarm, AlarmLine)
    assert (alarm.rule, alarm.event, alarm.why) == ("night", "0a1b-1", "it lasts 5.0 s")
    assert Journal(tmp_path / "journal", max_bytes=2**20).last_alarms() == {"night": seconds_of(alarm.at)}
    if os.name == "posix":
        assert (tmp_path / "journal").stat().st_mode & 0o77 == 0
        assert (tmp_path / "journal" / NEWER).stat().st_mode & 0o77 == 0


def test_it_keeps_the_latest_within_its_bound_and_each_file_says_how_it_was_listened(tmp_path: Path) -> None:
    journal = Journal(tmp_path, max_bytes=20_000)
    journal.begin(SETTINGS)
    for number in range(1000):
        journal.write(minute(number % 1440))
    files = [tmp_path / OLDER, tmp_path / NEWER]
    assert sum(path.stat().st_size for path in files) <= 20_000
    lines = list(read_journal(tmp_path))
    minutes = [line for line in lines if isinstance(line, MinuteLine)]
    assert minutes == [minute(number) for number in range(1000 - len(minutes), 1000)]
    assert len(minutes) > 50
    assert all(next(iter(path.open())).startswith('{"kind":"settings"') for path in files)


@pytest.mark.parametrize("cut", [2, 10, 100])
def test_a_line_that_a_power_cut_left_is_completed_by_none(tmp_path: Path, cut: int) -> None:
    journal = Journal(tmp_path, max_bytes=2**20)
    for number in range(3):
        journal.write(minute(number))
    path = tmp_path / NEWER
    path.write_bytes(path.read_bytes()[:-cut])
    assert list(read_journal(tmp_path)) == [minute(0), minute(1)]
    again = Journal(tmp_path, max_bytes=2**20)
    again.write(minute(5))
    assert list(read_journal(tmp_path)) == [minute(0), minute(1), minute(5)]


def test_what_is_damaged_or_of_a_later_version_is_left_out(tmp_path: Path) -> None:
    (tmp_path / NEWER).write_bytes(b'{"kind":"weather"}\n\xff\n\n[1]\n' + msgspec.json.encode(minute(1)) + b"\n")
    assert list(read_journal(tmp_path)) == [minute(1)]
    Journal(tmp_path, max_bytes=2**20).write(minute(2))
    assert list(read_journal(tmp_path)) == [minute(1), minute(2)]


def test_a_full_disk_loses_lines_which_are_counted_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path, max_bytes=2**20)
    journal.write(minute(0))

    def full(*_words: object, **_options: object) -> object:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        for number in (1, 2, 3):
            journal.write(minute(number))
    journal.write(minute(4))
    assert list(read_journal(tmp_path)) == [minute(0), minute(4)]
    assert journal.notes() == [f"3 lines of the journal in {tmp_path} were lost"]
    assert len(caplog.messages) == 2  # after the first and the second


def test_a_place_that_cannot_hold_one_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot hold the journal"):
        Journal(tmp_path / "file", max_bytes=2**20)


@dataclass(frozen=True)
class Listened:
    """What a run of the command left.

    Attributes:
        directory: holds the journal as `journal`.
        records: those on standard output.
        notes: standard error.
    """

    directory: Path
    records: list[dict[str, object]]
    notes: str

    def explain(self, *words: str) -> Result:
        """Ask for an explanation."""
        return CliRunner().invoke(cli, ["listen", "explain", str(self.directory / "journal"), *words])


@pytest.fixture(scope="module")
def listened(planted: Float32Array, label_file: str, tmp_path_factory: pytest.TempPathFactory) -> Listened:
    """Listen to planted sounds with rules."""
    directory = tmp_path_factory.mktemp("listened")
    soundfile.write(directory / "yard.wav", np.concatenate([planted, np.zeros(70 * RATE, np.float32)]), RATE)
    (directory / "alarms.toml").write_text(RULES)
    words = f"listen yard.wav --speed 0 --began 2026-01-31T12:00:00 --labels {label_file} --levels --gate -60"
    words += " --alarms alarms.toml --journal journal --cooldown 1000"
    command = (sys.executable, "-m", "clapedge.cli", *words.split())
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True)
    return Listened(directory, [json.loads(line) for line in done.stdout.splitlines()], done.stderr)


def test_it_is_said_what_was_heard_how_close_labels_came_and_what_rules_said(listened: Listened) -> None:
    text = listened.explain("--at", "2026-01-31T12:00", "--within", "3").output
    assert text.startswith("yard.wav, 2026-01-31 11:57:00 to 2026-01-31 12:03:00\n")
    assert re.search(r"^36 windows heard, 69 below the gate of -60 dBFS$", text, re.MULTILINE)
    assert "12:01:46: listening ended" in text
    assert re.search(r"^siren +0\.99\d +12:00:0\d  0\.500 +1$", text, re.MULTILINE)
    assert re.search(r"^12:00:05 siren: 4\.\d s, \d windows, .*LAFmax -1\d\.\d dB", text, re.MULTILINE)
    assert re.search(r"^  any: ALARM at 12:00:06: it lasts 0\.\d s$", text, re.MULTILINE)
    assert re.search(r"^  long: no alarm: LAFmax -\d\.\d dB \(at least 0\)$", text, re.MULTILINE)
    assert "  phone: no alarm: at 12:00 (only within 01:00-05:00)\n" in text
    assert text.endswith("\nany: 2 alarms\nlong: no alarm: 1 event, see above\nphone: no alarm: 1 event, see above\n")


def test_what_is_asked_of_one_label_is_answered_of_it_alone(listened: Listened) -> None:
    text = listened.explain("--at", "12:00", "--label", "siren").output
    assert "smoke" not in text
    assert text.endswith("\nany: 1 alarm\nlong: does not concern siren\nphone: does not concern siren\n")
    done = listened.explain("--label", "owl")
    assert "labels were siren, smoke alarm, telephone ringing" in str(done.exception)


def test_an_hour_in_which_nothing_was_listened_to_is_said_to_be_one(listened: Listened) -> None:
    text = listened.explain("--at", "2026-01-30T03:00").output
    assert "nothing was listened to in that time" in text
    assert "any: no alarm: nothing was listened to" in text


def test_the_lines_can_be_had_as_json(listened: Listened) -> None:
    found = json.loads(listened.explain("--json").output)
    assert [event["label"] for event in found["events"]] == ["siren", "smoke alarm", "telephone ringing"]
    alarms = [record for record in listened.records if record["kind"] == "alarm"]
    assert [(one["event"], one["why"]) for one in found["alarms"]] == [(one["event"], one["why"]) for one in alarms]
    assert found["events"][2]["alarms"] == {"phone": "at 12:00 (only within 01:00-05:00)"}
    assert found["gaps"] == [{"kind": "gap", "at": found["gaps"][0]["at"], "reason": "end"}]
    assert "alarms: any 2, long 0, phone 0" in listened.notes


def test_events_that_were_held_back_are_explained(planted: Float32Array, label_file: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "twice.wav", np.tile(planted[: 12 * RATE], 2), RATE)
    (tmp_path / "alarms.toml").write_text("[all]\n")
    options = ["--speed", "0", "--labels", label_file, "--cooldown", "60", "--journal", str(tmp_path / "journal")]
    words = ["listen", str(tmp_path / "twice.wav"), *options, "--alarms", str(tmp_path / "alarms.toml")]
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    kinds = [json.loads(line)["kind"] for line in done.output.splitlines() if line.startswith("{")]
    assert kinds == ["begin", "alarm", "end"]
    text = CliRunner().invoke(cli, ["listen", "explain", str(tmp_path / "journal")]).output
    assert re.search(r"not reported, and no alarm: \d s after the last one \(cooldown 60 s\)", text)


def test_a_second_run_knows_the_alarms_of_the_first(planted: Float32Array, label_file: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", planted[: 12 * RATE], RATE)
    (tmp_path / "alarms.toml").write_text("[once]\nfirst_of_day = true\n")
    options = ["--speed", "0", "--labels", label_file, "--journal", str(tmp_path / "journal")]
    for day, count in (("01", 1), ("01", 0), ("02", 1)):
        began = ["--began", f"2026-01-{day}T12:00:00"]
        words = ["listen", str(tmp_path / "a.wav"), *options, *began, "--alarms", str(tmp_path / "alarms.toml")]
        done = CliRunner().invoke(cli, words, catch_exceptions=False)
        assert done.output.count('"kind":"alarm"') == count
    text = CliRunner().invoke(cli, ["listen", "explain", str(tmp_path / "journal"), "--at", "2026-01-01T12:00"]).output
    assert "once: no alarm: not the first of 2026-01-01" in text
    assert text.count("listening began") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--on-alarm", "true"], "--on-alarm needs rules that say what an alarm is; give --alarms FILE"),
        (["--only-alarms", "--mqtt", "mqtt://host"], "--only-alarms needs rules"),
        (["--only-alarms", "--alarms", "quiet.toml"], "--only-alarms is for --mqtt and --webhook"),
        (["--alarms", "loud.toml"], "loud.toml: the rule loud asks for a level; give --levels too"),
        (["--alarms", "missing.toml"], "missing.toml cannot be read"),
    ],
)
def test_options_that_contradict_one_another_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("quiet.toml").write_text("[quiet]\n")
    Path("loud.toml").write_text("[loud]\nmin_lafmax = 60\n")
    done = CliRunner().invoke(cli, ["listen", "-", "--rate", "16000", "-l", "siren", *words])
    assert message in str(done.exception)


def test_a_place_without_a_journal_is_an_error_that_names_those_below_it(tmp_path: Path) -> None:
    for name in ("yard", "hall"):
        Journal(tmp_path / name, max_bytes=2**20).begin(SETTINGS)
    for path, message in (
        (tmp_path, r"holds the journals of several sources; name one: .*hall, .*yard"),
        (tmp_path / "none", "is not a directory"),
        (tmp_path / "yard", "^$"),
    ):
        done = CliRunner().invoke(cli, ["listen", "explain", str(path)])
        assert re.search(message, str(done.exception or ""))
    (tmp_path / "empty").mkdir()
    done = CliRunner().invoke(cli, ["listen", "explain", str(tmp_path / "empty")])
    assert "holds no journal" in str(done.exception)


@pytest.mark.parametrize("text", ["25:00", "noon", "2026-13-01T00:00", "12"])
def test_a_time_that_is_none_is_an_error(tmp_path: Path, text: str) -> None:
    Journal(tmp_path, max_bytes=2**20).begin(SETTINGS)
    done = CliRunner().invoke(cli, ["listen", "explain", str(tmp_path), "--at", text])
    assert f"--at {text} is not a time" in str(done.exception)
