"""The listener: live events are those of a timeline, through gaps, stalls, silence and clocks that are set."""

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from msgspec.structs import replace
from tests.live.staging import PLANTED, RATE, SECONDS, ListenerSetup, Script, chunks_of

from clapedge import EmbeddedLabels, Engine
from clapedge.arrays import Float32Array
from clapedge.errors import UsageError
from clapedge.events.rules import EventRule
from clapedge.features.clips import Clips
from clapedge.features.log_mel import LogMel
from clapedge.live.clip_recorder import ClipStore
from clapedge.live.clock import Stamps
from clapedge.live.levels import LevelHistory
from clapedge.live.options import ListenOptions

Make = Callable[..., ListenerSetup]


def seconds_between(one: str, other: str) -> float:
    """Return the seconds from one stamp to another."""
    first, second = (datetime.fromisoformat(stamp.replace("Z", "+00:00")) for stamp in (one, other))
    return (second - first).total_seconds()


@pytest.mark.parametrize(
    ("window", "hop", "rule"),
    [
        (2.0, 1.0, EventRule()),
        (2.0, 0.5, EventRule(merge_gap=1.5, min_duration=1.0)),
        (3.0, 1.0, EventRule(multi=True, on=0.4)),
        (10.0, 2.5, EventRule(on=0.3)),
    ],
)
def test_live_events_are_those_of_a_timeline(
    engine: Engine,
    labels: EmbeddedLabels,
    planted: Float32Array,
    listening: Make,
    window: float,
    hop: float,
    rule: EventRule,
) -> None:
    setup = listening(window=window, hop=hop, rule=rule)
    setup.listener.run(Script(setup.clock, *chunks_of(planted)))
    found = engine.timeline(planted, labels, window=window, hop=hop).events(rule)
    assert found
    ended = sorted(setup.sink.ended(), key=lambda record: (record.start, record.end))
    assert [(r.label, r.start, r.end, r.peak) for r in ended] == [(e.label, e.start, e.end, e.peak) for e in found]
    np.testing.assert_allclose(
        [(r.probability, r.similarity) for r in ended], [(e.probability, e.similarity) for e in found], atol=1e-5
    )
    assert setup.listener.counts.windows == len(engine.timeline(planted, labels, window=window, hop=hop).centres)


def test_live_events_of_another_rate_are_those_of_a_timeline(
    engine: Engine, planted: Float32Array, listening: Make
) -> None:
    stereo = np.stack([planted[::3], planted[::3]], axis=1)
    setup = listening()
    setup.listener.run(Script(setup.clock, *chunks_of(stereo, rate=RATE // 3, seconds=0.05)))
    embedded = engine.embed_stream(stereo.T, sample_rate=RATE // 3, window="slide", length=2.0, hop=1.0).collect()
    assert setup.listener.counts.windows == len(embedded.spans)
    events = [(record.label, record.start, record.end) for record in setup.sink.ended()]
    assert [label for label, _, _ in events] == list(PLANTED)
    for (_, start, end), (planted_start, seconds) in zip(events, PLANTED.values(), strict=True):
        assert abs(start - planted_start) <= 1.0
        assert abs(end - planted_start - seconds) <= 1.0


def test_sound_in_pieces_of_any_length_gives_the_same_records(planted: Float32Array, listening: Make) -> None:
    published = []
    for seconds in (0.013, 7.0):
        setup = listening()
        setup.listener.run(Script(setup.clock, *chunks_of(planted[3 * RATE : 11 * RATE], seconds=seconds)))
        published.append([replace(record, latency_ms=0.0, delay_ms=0.0) for record in setup.sink.records])
    assert published[0] == published[1]
    assert published[0]


def test_a_sound_of_one_sample_between_two_stalls_ends_nothing(planted: Float32Array, listening: Make) -> None:
    setup = listening()
    speck = chunks_of(np.ones(1, np.float32), rate=192_000)
    after = chunks_of(planted[: 12 * RATE], start=speck[0].end, fresh=True)
    setup.listener.run(Script(setup.clock, *speck, "stalled", *after))
    assert [record.label for record in setup.sink.ended()] == ["siren"]


def test_a_stall_ends_events_and_sound_goes_on_after_it(
    planted: Float32Array, listening: Make, caplog: pytest.LogCaptureFixture
) -> None:
    setup = listening(stall=10.0)
    before, after = chunks_of(planted[: 7 * RATE]), chunks_of(planted[7 * RATE : 11 * RATE], start=7.0)
    setup.listener.run(Script(setup.clock, *before, "stalled", lambda: setup.clock.pass_(33.0), *after))
    siren = [record for record in setup.sink.ended() if record.label == "siren"]
    assert [(record.reason, record.end) for record in siren] == [("gap", 7.0), ("quiet", siren[1].end)]
    assert setup.listener.counts.stalls == setup.listener.counts.gaps == 1
    assert caplog.messages == ["no sound from test for 10 s; waiting for it", "sound again after 33 s more"]
    assert seconds_between(siren[0].at, siren[1].until) == pytest.approx(siren[1].end - siren[0].start + 33.0, abs=0.2)


def test_a_source_that_was_opened_again_leaves_the_stamps_before_it_alone(
    planted: Float32Array, listening: Make
) -> None:
    setup = listening()
    before = chunks_of(planted[: 7 * RATE], fresh=True)
    after = chunks_of(planted[7 * RATE : 11 * RATE], start=7.0, fresh=True)
    setup.listener.run(Script(setup.clock, *before, lambda: setup.clock.pass_(5.0), *after))
    first, second = [record for record in setup.sink.ended() if record.label == "siren"]
    assert (first.reason, first.end, second.start) == ("gap", 7.0, 7.0)
    assert seconds_between(first.until, second.at) == pytest.approx(5.0)
    assert (setup.listener.counts.gaps, setup.listener.counts.stalls) == (1, 0)


def test_what_was_dropped_is_a_gap_and_is_logged(
    planted: Float32Array, listening: Make, caplog: pytest.LogCaptureFixture
) -> None:
    setup = listening()
    late = chunks_of(planted[13 * RATE : 14 * RATE], start=13.0)
    script = Script(
        setup.clock, *chunks_of(planted[: 7 * RATE]), lambda: setattr(script, "dropped_seconds", 6.0), *late
    )
    setup.listener.run(script)
    assert setup.sink.ended()[0].reason == "gap"
    assert any("the oldest 6.0 s of sound were dropped, 6.0 s in all" in sentence for sentence in caplog.messages)


def test_places_behind_a_gap_count_what_was_dropped(planted: Float32Array, listening: Make) -> None:
    setup = listening()
    late = chunks_of(planted[13 * RATE : 23 * RATE], start=13.0)
    setup.listener.run(Script(setup.clock, *chunks_of(planted[: 7 * RATE]), *late))
    alarm = setup.sink.ended()[-1]
    assert alarm.label == "smoke alarm"
    assert abs(alarm.start - PLANTED["smoke alarm"][0]) <= 1.0


def test_silence_below_the_gate_is_not_given_to_the_tower_and_ends_events(
    planted: Float32Array, listening: Make
) -> None:
    quiet = planted.copy()
    quiet[9 * RATE :] = 0.0
    setup = listening(gate=-40.0)
    setup.listener.run(Script(setup.clock, *chunks_of(quiet)))
    counts = setup.listener.counts
    assert counts.windows + counts.gated == SECONDS - 1
    assert counts.windows <= 7  # those that reach into the siren
    assert [(record.label, record.reason) for record in setup.sink.ended()] == [("siren", "quiet")]


def test_a_constant_offset_does_not_open_the_gate() -> None:
    levels = LevelHistory(3.0)
    levels.push((0.03 + 1e-5 * np.random.default_rng(0).standard_normal(3 * RATE)).astype(np.float32))
    assert levels.loudest(0, 3 * RATE) == pytest.approx(-100, abs=1)


def test_the_level_is_that_of_the_loudest_tenth_of_a_second() -> None:
    samples = np.zeros(3 * RATE, np.float32)
    samples[RATE : RATE + RATE // 10] = 0.1
    levels = LevelHistory(3.0)
    for first in range(0, len(samples), 1111):
        levels.push(samples[first : first + 1111])
    assert levels.loudest(0, 2 * RATE) == pytest.approx(-20.0)
    assert levels.loudest(2 * RATE, 3 * RATE) == -200.0


def test_a_muted_microphone_is_reported_once(listening: Make, caplog: pytest.LogCaptureFixture) -> None:
    levels = LevelHistory(2.0)
    assert [second for second in range(1, 201) if levels.push(np.zeros(RATE, np.float32))] == [60]
    setup = listening(gate=-40.0, window=10.0, hop=10.0)
    setup.listener.run(Script(setup.clock, *chunks_of(np.zeros(4000 * 70, np.float32), rate=4000, seconds=1.0)))
    muted = "nothing from test exceeds -80 dBFS for a minute; is the microphone muted?"
    assert [message for message in caplog.messages if "muted" in message] == [muted]


def test_stamps_count_samples_from_the_first(planted: Float32Array, listening: Make) -> None:
    began = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    setup = listening(stamps=Stamps(began))
    setup.listener.run(Script(setup.clock, *chunks_of(planted[: 12 * RATE])))
    (siren,) = setup.sink.ended()
    assert seconds_between("2026-01-02T03:04:05.000Z", siren.at) == pytest.approx(siren.start, abs=1e-3)


def test_latency_is_counted_from_the_arrival_of_the_sound_that_decided(
    planted: Float32Array, listening: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = listening()
    scores = setup.listener._scores

    def slow_scores(clips: Clips, levels: LevelHistory, end: float) -> tuple[list[float], list[float]]:
        setup.clock.pass_(0.04)
        return scores(clips, levels, end)

    monkeypatch.setattr(setup.listener, "_scores", slow_scores)
    setup.listener.run(Script(setup.clock, *chunks_of(planted[: 7 * RATE])))
    begin = setup.sink.records[0]
    assert begin.latency_ms == pytest.approx(40.0)
    assert begin.delay_ms == pytest.approx(40.0 + 1e3 * (6.0 - begin.start))  # reported by the window from 4 to 6 s
    counts = setup.listener.counts
    assert list(counts.latency_ms) == pytest.approx([40.0] * counts.windows)
    assert list(counts.delay_ms) == [begin.delay_ms]


def test_waiting_for_sound_that_does_not_come_is_no_latency(planted: Float32Array, listening: Make) -> None:
    setup = listening()
    sound = chunks_of(planted[: round(7.5 * RATE)])
    setup.listener.run(Script(setup.clock, *sound, lambda: setup.clock.pass_(10.0), "stalled"))
    counts = setup.listener.counts
    assert counts.windows == 7  # the last one from 5.5 to 7.5 s
    assert list(counts.latency_ms) == pytest.approx([0.0] * 6)


def test_the_sound_of_an_event_is_kept(planted: Float32Array, listening: Make, tmp_path: Path) -> None:
    setup = listening(clip_store=ClipStore(tmp_path, max_bytes=10**9))
    setup.listener.run(Script(setup.clock, *chunks_of(planted)))
    for record in setup.sink.ended():
        assert record.clip
        samples, rate = soundfile.read(tmp_path / record.clip, dtype="float32")
        begun = next(r for r in setup.sink.records if r.id == record.id)
        low, high = round((begun.start - 1.0) * RATE), round((record.end + 1.0) * RATE)
        assert rate == RATE
        np.testing.assert_allclose(samples, planted[low:high], atol=2 / 32768)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"hop": 0.1}, "give 0.5 to 10"),
        ({"hop": 2.0, "window": 1.0}, "leaves gaps between windows"),
        ({"hop": 0.505}, "multiple of 0.01"),
        ({"gate": 3.0}, "below full scale"),
        ({"stall": -1.0}, "number of seconds"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, float], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        ListenOptions(**options)  # type: ignore[arg-type]


def test_a_window_longer_than_a_clip_is_refused(listening: Make) -> None:
    with pytest.raises(UsageError, match="10 s long at most"):
        listening(window=11.0)


def test_each_frame_is_computed_once_and_each_sample_resampled_once(
    planted: Float32Array, listening: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed, resampled = [], []
    transform, resampler = LogMel.__call__, soxr.ResampleStream

    def counted(log_mel: LogMel, samples: Float32Array) -> Float32Array:
        mels = transform(log_mel, samples)
        computed.append(len(mels))
        return mels

    class Counted:
        def __init__(self, *arguments: object, **options: object) -> None:
            self._inner = resampler(*arguments, **options)

        def resample_chunk(self, samples: Float32Array, *, last: bool) -> Float32Array:
            resampled.append(len(samples))
            chunk: Float32Array = self._inner.resample_chunk(samples, last=last)
            return chunk

    monkeypatch.setattr(LogMel, "__call__", counted)
    monkeypatch.setattr(soxr, "ResampleStream", Counted)
    setup = listening(window=10.0, hop=0.5, gate=0.0)
    samples = planted[: 30 * RATE : 3]
    setup.listener.run(Script(setup.clock, *chunks_of(samples, rate=RATE // 3)))
    windows = setup.listener.counts.gated
    assert windows == 41
    assert sum(resampled) == len(samples)
    assert (
        sum(computed) <= 3001 + 15 * windows
    )  # but for those whose neighbours are a reflection, at the ends of a part


def test_within_the_cooldown_no_event_of_the_same_label_is_reported(planted: Float32Array, listening: Make) -> None:
    twice = np.concatenate([planted[: 12 * RATE], planted[: 22 * RATE]])
    plain, cool, short = listening(), listening(cooldown=10.0), listening(cooldown=5.0)
    for setup in (plain, cool, short):
        setup.listener.run(Script(setup.clock, *chunks_of(twice)))
    assert [record.label for record in plain.sink.ended()] == ["siren", "siren", "smoke alarm"]
    assert [record.label for record in cool.sink.ended()] == ["siren", "smoke alarm"]
    assert cool.sink.records[0].label == "siren"
    assert {record.id for record in cool.sink.records} == {record.id for record in cool.sink.ended()}
    assert (cool.listener.counts.held, cool.listener.counts.events) == ({"siren": 1}, {"siren": 1, "smoke alarm": 1})
    assert len(short.sink.ended()) == 3
    assert short.listener.counts.held == {}


def test_what_is_held_does_not_prolong_the_cooldown(planted: Float32Array, listening: Make) -> None:
    thrice = np.concatenate([planted[: 12 * RATE]] * 3)
    setup = listening(cooldown=12.0)
    setup.listener.run(Script(setup.clock, *chunks_of(thrice)))
    assert [round(record.start / 12) for record in setup.sink.ended()] == [0, 2]
    assert setup.listener.counts.held == {"siren": 1}
