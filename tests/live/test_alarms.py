"""Alarms: which events are worth one, when, and in what words; the file of rules; where alarms go."""

import json
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.live.staging import MemorySink, Script, StillClock, alarm_of, chunks_of, eventually, record_of, spool_of
from tests.live.test_delivery import ScriptedTransport

from clapedge import EmbeddedLabels, Engine
from clapedge.arrays import Float32Array
from clapedge.errors import UsageError
from clapedge.events.rules import EventRule, Span
from clapedge.events.tracker import Tracker
from clapedge.live.alarms.judge import AlarmJudge, Sighting, Verdict
from clapedge.live.alarms.rules import KEYS, AlarmRule, read_alarms
from clapedge.live.clock import Stamps
from clapedge.live.context import ListenerContext
from clapedge.live.hours import Hours
from clapedge.live.listener import Listener
from clapedge.live.options import ListenOptions
from clapedge.live.records import LevelRecord, is_alarm, is_event
from clapedge.live.sinks.command import CommandSink
from clapedge.live.sinks.delivery import SpooledSink
from clapedge.live.sound_levels import Level

NOON = datetime(2026, 6, 1, 12).timestamp()  # noqa: DTZ001 - of this machine's zone, as rules are

SIREN = Sighting(number=1, label="siren", seconds=5.0, windows=4, probability=0.8, similarity=0.4, level=None, now=NOON)


def stages(judge: AlarmJudge, sighting: Sighting) -> list[int | None]:
    """Return the stages of the alarms that a sighting is worth."""
    return [verdict.stage for verdict in judge.look(sighting)]


@pytest.mark.parametrize(
    ("asked", "below", "words"),
    [
        ({"min_duration": 5.0}, {"seconds": 4.9}, "it lasts 4.9 s (at least 5)"),
        ({"min_windows": 4}, {"windows": 3}, "in 3 windows (at least 4)"),
        ({"min_probability": 0.8}, {"probability": 0.79}, "probability 0.79 (at least 0.8)"),
        ({"min_similarity": 0.4}, {"similarity": 0.39}, "similarity 0.39 (at least 0.4)"),
        ({"min_laeq": 60.0}, {"level": Level(59.9, 80.0, 5.0)}, "LAeq 59.9 dB (at least 60)"),
        ({"min_lafmax": 60.0}, {"level": Level(50.0, 59.9, 5.0)}, "LAFmax 59.9 dB (at least 60)"),
        ({"hours": Hours.parse("10:00-13:00")}, {"now": NOON + 3600}, "at 13:00 (only within 10:00-13:00)"),
    ],
)
def test_each_condition_holds_from_its_bound_on_and_says_what_was_found(
    asked: dict[str, object], below: dict[str, object], words: str
) -> None:
    rule = AlarmRule("r", labels=("siren",), **asked)  # type: ignore[arg-type]
    enough = replace(SIREN, level=Level(60.0, 60.0, 5.0))
    assert stages(AlarmJudge([rule]), enough) == [0]
    judge = AlarmJudge([rule])
    assert not judge.look(replace(enough, **below))  # type: ignore[arg-type]
    assert judge.close(1) == [Verdict("r", None, words)]


def test_a_level_that_was_not_measured_is_not_enough() -> None:
    judge = AlarmJudge([AlarmRule("r", min_lafmax=-90.0)])
    assert not judge.look(SIREN)
    assert judge.close(1)[0].why == "LAFmax unknown (at least -90)"


def test_an_alarm_names_all_that_holds() -> None:
    rule = AlarmRule(
        "r", min_duration=3, min_windows=2, hours=Hours.parse("22:00-13:00"), cooldown=60, first_of_day=True
    )
    (verdict,) = AlarmJudge([rule]).look(SIREN)
    assert verdict.why == (
        "it lasts 5.0 s (at least 3), in 4 windows (at least 2), at 12:00 (within 22:00-13:00), "
        "no alarm shortly before (cooldown 60 s), the first of 2026-06-01"
    )


def test_an_event_gives_one_alarm_and_is_repeated_as_it_goes_on() -> None:
    judge = AlarmJudge([AlarmRule("r", min_duration=2, escalate=(10.0, 30.0))])
    found = [stages(judge, replace(SIREN, seconds=float(second))) for second in range(50)]
    assert [(second, stage) for second, each in enumerate(found) for stage in each] == [(2, 0), (10, 1), (30, 2)]
    assert judge.close(1) == [Verdict("r", 2, "")]


def test_repetitions_that_are_due_at_once_are_one_and_none_comes_outside_of_the_hours() -> None:
    judge = AlarmJudge([AlarmRule("r", escalate=(1.0, 2.0, 60.0), hours=Hours.parse("12:00-12:01"))])
    assert stages(judge, replace(SIREN, seconds=20.0)) == [0]
    assert stages(judge, replace(SIREN, seconds=21.0)) == [2]
    assert stages(judge, replace(SIREN, seconds=80.0, now=NOON + 60)) == []


def test_a_cooldown_holds_other_events_and_an_event_that_outlasts_it_is_an_alarm() -> None:
    judge = AlarmJudge([AlarmRule("r", cooldown=60.0)], last={"r": NOON - 30})
    assert stages(judge, SIREN) == []
    assert stages(judge, replace(SIREN, now=NOON + 29)) == []
    assert stages(judge, replace(SIREN, number=2, now=NOON + 29.5)) == []
    assert judge.close(2)[0].why == "60 s after the last alarm (cooldown 60 s)"
    assert stages(judge, replace(SIREN, now=NOON + 30)) == [0]
    assert stages(judge, replace(SIREN, number=3, now=NOON - 86_400)) == [0]  # the clock was set back by a day


def test_the_first_of_the_day_is_by_the_calendar_through_a_change_of_the_clocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not hasattr(time, "tzset"):
        pytest.skip("this system's time zone cannot be set for a process")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        judge = AlarmJudge([AlarmRule("r", first_of_day=True)])
        night = datetime(2026, 10, 25, 0, 30).timestamp()  # noqa: DTZ001 - Berlin's; that day has 25 hours
        found = [bool(stages(judge, replace(SIREN, number=k, now=night + 1800 * k))) for k in range(60)]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert [k for k, alarm in enumerate(found) if alarm] == [0, 49]


def test_rules_decide_each_for_itself() -> None:
    rules = [AlarmRule("a", labels=("dog",)), AlarmRule("b", min_duration=60), AlarmRule("c")]
    judge = AlarmJudge(rules)
    assert [verdict.rule for verdict in judge.look(SIREN)] == ["c"]
    assert [(verdict.rule, verdict.stage) for verdict in judge.close(1)] == [("b", None), ("c", 0)]
    assert judge.close(1) == []


def test_what_is_said_of_an_event_is_when_it_came_closest() -> None:
    judge = AlarmJudge([AlarmRule("r", min_lafmax=60.0, min_duration=4.0, hours=Hours.parse("11:00-12:00"))])
    judge.look(replace(SIREN, level=Level(0.0, 70.0, 1.0), seconds=3.0, now=NOON - 60))
    judge.look(replace(SIREN, level=Level(0.0, 70.0, 1.0), seconds=3.0))
    assert judge.close(1)[0].why == "it lasts 3.0 s (at least 4)"


def write(tmp_path: Path, text: str) -> Path:
    """Write a file of rules."""
    path = tmp_path / "alarms.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_has_a_key_for_each_field(tmp_path: Path) -> None:
    text = """
    ["glass at night"]
    labels = ["glass breaking", "siren"]
    min_windows = 2
    min_duration = 1
    min_probability = 0.7
    min_similarity = 0.2
    min_laeq = 40
    min_lafmax = 60.5
    hours = "22:00-06:30, 12:00-13:00"
    cooldown = 600
    first_of_day = true
    escalate = [60, 300]
    [all]
    """
    found, plain = read_alarms(write(tmp_path, text))
    hours = Hours.parse("22:00-06:30,12:00-13:00")
    names = ("glass breaking", "siren")
    scores = {"min_windows": 2, "min_probability": 0.7, "min_similarity": 0.2, "min_laeq": 40.0, "min_lafmax": 60.5}
    times = {"min_duration": 1.0, "hours": hours, "cooldown": 600.0, "first_of_day": True, "escalate": (60.0, 300.0)}
    assert found == AlarmRule("glass at night", names, **scores, **times)  # type: ignore[arg-type]
    assert str(found.hours) == "22:00-06:30,12:00-13:00"
    assert plain == AlarmRule("all")
    assert all(f"{key} =" in text for key in KEYS)


def test_the_page_of_alarms_has_a_file_that_is_one_and_names_every_key(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "alarms.md").read_text(encoding="utf-8")
    text = page.partition("```toml\n")[2].partition("```")[0]
    assert [rule.name for rule in read_alarms(write(tmp_path, text))] == ["glass", "smoke alarm", "first owl"]
    assert all(f"`{key}`" in page for key in KEYS)
    record = json.loads(page.partition("```json\n")[2].partition("```")[0])
    assert record.keys() == msgspec.to_builtins(alarm_of(0)).keys() | {"laeq", "lafmax", "calibrated"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rule"),
        ("[a", "is not TOML"),
        ("a = 1", "a is 1; make it a table"),
        ("[a]\nlabel = ['x']", "there is no key label; did you mean labels?"),
        ("[a]\ncooldown = 'long'", "cooldown: expected a number, found text"),
        ("[a]\ncooldown = -1", "a: cooldown is -1.0 s"),
        ("[a]\nmin_duration = inf", "min_duration is inf s"),
        ("[a]\nmin_windows = 0", "min_windows is 0; give 1 or more"),
        ("[a]\nmin_probability = 50", "min_probability is 50.0; give a number from 0 to 1"),
        ("[a]\nmin_lafmax = nan", "min_lafmax is nan dB"),
        ("[a]\nhours = 'night'", "a: hours is 'night'"),
        ("[a]\nescalate = [60, 60]", "ascending"),
        ("[a]\nescalate = [0]", "ascending"),
        ('["a\\nb"]\n', "is not a name"),
    ],
)
def test_mistakes_name_the_file_the_rule_and_what_is_allowed(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as raised:
        read_alarms(path)
    assert str(path) in str(raised.value)
    assert message in str(raised.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "alarms.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read"):
        read_alarms(path)


@given(scores=st.lists(st.floats(0, 1), min_size=1, max_size=40), gap=st.sampled_from([0.0, 2.0, 5.0]))
def test_windows_of_an_event_are_those_over_the_threshold(scores: list[float], gap: float) -> None:
    rule = EventRule(on=0.5, off=0.3, merge_gap=gap)
    numbers = iter(range(1, 1000))
    tracker = Tracker((None,), rule, window=2.0, start=0.0, update=0.0, numbers=numbers)
    ended, seen = [], dict[int, int]()
    for k, score in enumerate(scores):
        ended += [one for one in tracker.push(Span(k, k + 2.0), [score], [score]) if one.kind == "end"]
        for one in tracker.ongoing():
            assert one.windows >= seen.get(one.number, 1)
            seen[one.number] = one.windows
    ended += [one for one in tracker.close(len(scores) + 1.0) if one.kind == "end"]
    assert sum(one.windows for one in ended) == sum(score >= 0.5 for score in scores)
    assert all(one.windows >= max(1, seen.get(one.number, 0)) for one in ended)


@pytest.fixture
def heard(engine: Engine, labels: EmbeddedLabels, planted: Float32Array) -> MemorySink:
    """Return what was told of planted sounds with rules."""
    rules = (
        AlarmRule("long", min_duration=3.0, min_windows=3, min_lafmax=-40.0, escalate=(4.0,)),
        AlarmRule("dogs", labels=("dog",)),
    )
    clock, sink = StillClock(), MemorySink()
    context = ListenerContext("test", "0a1b", clock, Stamps(), (sink,), alarms=AlarmJudge(rules))
    options = ListenOptions(window=2.0, hop=1.0, levels=True, update=0.0)
    listener = Listener(engine, labels, options, context)
    listener.run(Script(clock, *chunks_of(planted)))
    assert listener.counts.alarms == {"long": len(sink.alarms), "dogs": 0}
    return sink


def test_alarms_are_records_of_the_events_that_they_are_of(heard: MemorySink, caplog: pytest.LogCaptureFixture) -> None:
    first = {record.event: record for record in heard.alarms if not record.stage}
    events = {record.id: record for record in heard.ended()}
    assert [record.label for record in first.values()] == ["siren", "smoke alarm", "telephone ringing"]
    assert [record.sequence for record in heard.alarms] == list(range(len(heard.alarms)))
    for record in heard.alarms:
        event = events[record.event]
        assert record.label == event.label
        assert 3.0 <= record.seconds <= event.end - event.start
        assert record.windows >= 3
        assert record.laeq <= record.lafmax  # type: ignore[operator]
        assert event.at <= record.since <= record.at
        assert "LAFmax" in record.why or record.stage == 1
    noted = [record.getMessage() for record in caplog.get_records("setup")]
    assert noted == ["test: the rule dogs names labels that are not listened for: dog"]


LEVEL = LevelRecord(
    id="0a1b-levels", sequence=0, at="2026-01-01T00:00:00.000Z", seconds=60.0, laeq=1.0, lafmax=2.0, calibrated=False,
    source="test",
)  # fmt: skip


def test_alarms_and_levels_that_wait_outlast_a_restart_and_are_no_events(tmp_path: Path) -> None:
    first = spool_of(tmp_path)
    for record in (LEVEL, alarm_of(0), record_of(1)):
        kind = record.kind if is_event(record) else None
        first.put(record.key, msgspec.json.encode(record), kind=kind)  # type: ignore[arg-type]
    first.close()
    transport = ScriptedTransport()
    spooled = SpooledSink(spool_of(tmp_path), transport)
    eventually(lambda: not spooled.waiting)
    spooled.close()
    assert transport.sent == ["0a1b-levels-0", "0a1b-alarms-0", "0a1b-1-0"]


def test_sinks_take_what_they_are_for(tmp_path: Path) -> None:
    write_line = f"{sys.executable} -c \"import sys; open('{tmp_path / 'got'}', 'a').write(sys.stdin.read())\""
    command = CommandSink(write_line, accepts=is_alarm)
    transport = ScriptedTransport()
    spooled = SpooledSink(spool_of(tmp_path / "spool"), transport, accepts=is_alarm)
    for record in (LEVEL, record_of(1), alarm_of(0), alarm_of(1)):
        for sink in (command, spooled):
            sink.write(record, msgspec.json.encode(record))
    command.close()
    spooled.close()
    assert {json.loads(line)["kind"] for line in (tmp_path / "got").read_text().splitlines()} == {"alarm"}
    assert transport.sent == ["0a1b-alarms-0", "0a1b-alarms-1"]
