"""Sound levels: against IEC 61672-1's tables, against SciPy's filters, and in records.

Tolerance 0.1 dB, which records are rounded to; the standard allows a meter of class 1 from 0.7 dB at 1 kHz upwards.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal
from tests.live.staging import RATE, ListenerSetup, Script, chunks_of

from clapedge.arrays import Float32Array
from clapedge.cli import cli
from clapedge.errors import UsageError
from clapedge.live.clock import Stamps
from clapedge.live.options import ListenOptions
from clapedge.live.sound_levels import POLES_HERTZ, Level, Minutes, SoundLevelMeter, level_of

pytestmark = pytest.mark.filterwarnings("ignore::clapedge.errors.ClapEdgeWarning")

TOLERANCE = 0.1
ROUNDING = 0.051
"""Of a record."""

A_WEIGHTING = {
    31.5: -39.4,
    63: -26.2,
    125: -16.1,
    250: -8.6,
    500: -3.2,
    1000: 0.0,
    2000: 1.2,
    4000: 1.0,
    8000: -1.1,
    12_500: -4.3,
    16_000: -6.6,
}
"""dB at nominal frequencies, IEC 61672-1:2013, table 3."""

TONEBURSTS = {1000: 0.0, 500: -0.1, 200: -1.0, 100: -2.6, 50: -4.8, 20: -8.3, 10: -11.1, 5: -14.1, 2: -18.0}
"""LAFmax of a 4 kHz tone that lasts so many milliseconds, in dB to the steady tone; IEC 61672-1:2013, table 4."""

OVERSAMPLED = 8
"""How many times as fast the reference computes, so that its bilinear transform does not bend the band."""


def sine(hertz: float, seconds: float = 3.0) -> Float32Array:
    """Return a tone of full scale."""
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


def pink(seconds: float, seed: int = 0) -> Float32Array:
    """Return noise whose power falls by 3 dB an octave."""
    size = round(seconds * RATE)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(size))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    noise = np.fft.irfft(spectrum, size)
    return np.asarray(0.1 * noise / noise.std(), np.float32)


def measured(samples: Float32Array, cut: int = 2400, offset: float | None = None) -> SoundLevelMeter:
    """Return a meter that has measured samples, some at a time."""
    meter = SoundLevelMeter(offset=offset)
    for first in range(0, len(samples), cut):
        meter.push(samples[first : first + cut])
    meter.finish()
    return meter


def level(meter: SoundLevelMeter, start: float, end: float) -> Level:
    """Return a level that is there."""
    found = meter.between(start, end)
    assert found is not None
    return found


def reference(samples: Float32Array, start: float, end: float) -> tuple[float, float]:
    """Return LAeq and LAFmax of a span by SciPy: the analogue filter, transformed at a higher rate."""
    rate = OVERSAMPLED * RATE
    poles = -2 * np.pi * np.array([POLES_HERTZ[0]] * 2 + list(POLES_HERTZ[1:3]) + [POLES_HERTZ[3]] * 2)
    zeros, poles, gain = signal.bilinear_zpk(np.zeros(4), poles, 1.0, rate)
    sections = signal.zpk2sos(zeros, poles, gain)
    _, response = signal.freqz_sos(sections, [1000.0], fs=rate)
    weighted = signal.sosfilt(sections, signal.resample_poly(samples.astype(np.float64), OVERSAMPLED, 1))
    squares = (weighted / abs(response[0])) ** 2
    decay = np.exp(-1 / rate / 0.125)
    fast = signal.lfilter([1 - decay], [1, -decay], squares)
    part = slice(round(start * rate), round(end * rate))
    laeq, lafmax = (10 * np.log10(2 * value) for value in (squares[part].mean(), fast[part].max()))
    return float(laeq), float(lafmax)


@pytest.mark.parametrize("hertz", A_WEIGHTING)
def test_tones_are_weighted_as_the_standard_says(hertz: float) -> None:
    exact = 1000 * 10 ** (round(10 * np.log10(hertz / 1000)) / 10)  # the standard's exact frequency of a nominal one
    found = level(measured(sine(exact)), 1.0, 2.5)
    assert found.laeq == pytest.approx(A_WEIGHTING[hertz], abs=TOLERANCE + ROUNDING)
    assert found.lafmax == pytest.approx(found.laeq, abs=0.3), "a steady tone has one level, but for its own ripple"


@pytest.mark.parametrize("milliseconds", TONEBURSTS)
def test_tonebursts_reach_what_the_standard_says(milliseconds: int) -> None:
    tone = sine(4000)
    places = np.arange(len(tone))
    burst = np.where((places >= RATE) & (places < RATE * (1 + milliseconds / 1000)), tone, 0)
    steady = level(measured(tone), 2.0, 3.0).lafmax
    found = level(measured(burst.astype(np.float32)), 0.0, 3.0).lafmax
    assert found - steady == pytest.approx(TONEBURSTS[milliseconds], abs=TOLERANCE + 2 * ROUNDING)


@pytest.mark.parametrize("span", [(0.5, 3.5), (1.0, 2.0), (2.6, 3.3)])
@pytest.mark.parametrize("kind", ["pink noise", "bursts", "a low tone under hiss"])
def test_levels_are_those_of_scipys_filters(kind: str, span: tuple[float, float]) -> None:
    noise = pink(4.0)
    if kind == "bursts":
        noise *= (np.arange(len(noise)) // 4800 % 7 == 0).astype(np.float32)
    elif kind.startswith("a low"):
        noise = noise / 100 + 0.5 * sine(40, 4.0)
    found = level(measured(noise), *span)
    laeq, lafmax = reference(noise, *span)
    assert found.laeq == pytest.approx(laeq, abs=TOLERANCE + ROUNDING)
    assert found.lafmax == pytest.approx(lafmax, abs=TOLERANCE + ROUNDING)


@settings(max_examples=25)
@given(st.lists(st.integers(1, 30_000), min_size=1, max_size=12))
def test_levels_do_not_depend_on_how_sound_is_cut(cuts: list[int]) -> None:
    samples = pink(2.3)
    whole, parts = SoundLevelMeter(), SoundLevelMeter()
    blocks = [*whole.push(samples), *whole.finish()]
    ends = np.cumsum(cuts)
    found = [block for part in np.split(samples, ends[ends < len(samples)]) for block in parts.push(part)]
    found += parts.finish()
    assert found == blocks
    assert len(blocks) == 23
    assert parts.measured == pytest.approx(2.3)


@pytest.mark.parametrize("samples", [0, 1, 4799, 4800, 8192, 12_288, 20_481])
def test_what_is_left_is_measured_in_whole_blocks(samples: int) -> None:
    meter = SoundLevelMeter()
    found = [*meter.push(np.ones(samples, np.float32)), *meter.finish()]
    assert len(found) == samples // 4800
    assert (meter.between(0.0, 9.0) is None) == (not found)


def test_silence_has_a_floor_and_an_offset_makes_sound_pressure() -> None:
    assert level(measured(np.zeros(RATE, np.float32)), 0.0, 1.0).laeq == pytest.approx(-147.0, abs=0.1)
    assert level(measured(sine(1000), offset=120.0), 1.0, 2.0).laeq == pytest.approx(120.0, abs=0.1)
    assert level_of([], offset=0.0) is None


def test_a_minute_that_sound_is_missing_of_says_so() -> None:
    minutes = Minutes()
    found = [each for place in range(900) for each in minutes.add(1_000_000_020 + place * 0.1, (0.5, 0.5))]
    found += [each for place in range(300) for each in minutes.add(1_000_000_200 + place * 0.1, (0.05, 0.05))]
    found += minutes.finish()
    assert [began for began, _ in found] == [1_000_000_020, 1_000_000_080, 1_000_000_200]
    assert [each.seconds for _, each in found] == [60.0, 30.0, 30.0]
    assert [each.laeq for _, each in found] == [0.0, 0.0, -10.0]
    assert list(minutes.finish()) == []


def test_stamps_that_go_back_a_little_end_no_minute_twice_and_none_is_longer() -> None:
    minutes, block = Minutes(), (0.5, 0.5)
    times = [119.9, 120.0, 119.95, 120.1, *(120.2 + place / 10 for place in range(700))]
    found = [each for seconds in times for each in minutes.add(seconds, block)]
    found += minutes.finish()
    assert [began for began, _ in found] == [60.0, 120.0, 180.0]
    fast = [each for _ in range(1500) for each in minutes.add(300.0, block)] + list(minutes.finish())
    assert [each.seconds for _, each in fast] == [62.0, 62.0, 26.0]
    back = [each for seconds in (900.0, 300.0, 300.1) for each in minutes.add(seconds, block)] + list(minutes.finish())
    assert [began for began, _ in back] == [900.0, 300.0], "a clock that was set back by ten minutes"


def test_what_is_no_number_is_silence_and_stays_where_it_is() -> None:
    samples = sine(1000, 4.0)
    samples[RATE : RATE + 10] = np.nan
    samples[2 * RATE] = np.inf
    meter = measured(samples)
    assert level(meter, 3.0, 3.5).laeq == pytest.approx(0.0, abs=TOLERANCE)
    assert np.isfinite([power for power, _ in meter._powers]).all()


def test_events_and_minutes_carry_levels(planted: Float32Array, listening: Callable[..., ListenerSetup]) -> None:
    setup = listening(levels=True, stamps=Stamps(_time("2026-01-02T03:04:45Z")))
    setup.listener.run(Script(setup.clock, *chunks_of(planted)))
    whole = measured(planted)
    for record in setup.sink.ended():
        expected = level(whole, record.start, record.end)
        assert (record.laeq, record.lafmax, record.calibrated) == (expected.laeq, expected.lafmax, False)
    assert [one.at for one in setup.sink.levels] == ["2026-01-02T03:04:00.000Z", "2026-01-02T03:05:00.000Z"]
    assert [one.seconds for one in setup.sink.levels] == [15.0, 21.0]
    assert setup.sink.levels[0].laeq == level(whole, 0.0, 15.0).laeq
    assert len({one.key for one in setup.sink.levels}) == 2
    assert setup.listener.counts.level == setup.sink.levels[-1]


def test_without_levels_records_are_as_before(planted: Float32Array, listening: Callable[..., ListenerSetup]) -> None:
    setup = listening()
    setup.listener.run(Script(setup.clock, *chunks_of(planted)))
    assert setup.sink.levels == []
    assert all("laeq" not in json.loads(json.dumps(_plain(record))) for record in setup.sink.records)


def test_a_gap_does_not_count_as_silence(planted: Float32Array, listening: Callable[..., ListenerSetup]) -> None:
    setup = listening(levels=True, stamps=Stamps(_time("2026-01-02T03:04:00Z")))
    first, second = chunks_of(planted[: 6 * RATE]), chunks_of(planted[12 * RATE : 18 * RATE], start=12.0)
    setup.listener.run(Script(setup.clock, *first, *second))
    (minute,) = setup.sink.levels
    assert minute.seconds == 12.0


def test_the_command_measures_levels_and_runs_no_command_for_them(planted: Float32Array, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "yard.wav", planted, RATE)
    status, marks = tmp_path / "status.json", tmp_path / "marks"
    words = [str(tmp_path / "yard.wav"), "--speed", "0", "-l", "siren,rain", "--levels", "--level-offset", "94"]
    words += ["--on-event", f"tee -a {marks}", "--status", str(status), "--on-event-jobs", "1"]
    done = CliRunner().invoke(cli, ["listen", *words], catch_exceptions=False)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert {record["calibrated"] for record in records} == {True}
    assert {"levels", "begin", "end"} <= {record["kind"] for record in records}
    assert all(30 < record["laeq"] <= record["lafmax"] < 94 for record in records)
    assert "levels" not in {json.loads(line)["kind"] for line in marks.read_text().splitlines()}
    last = [record for record in records if record["kind"] == "levels"][-1]
    assert json.loads(status.read_text())["level"] == last


@pytest.mark.parametrize("offset", [0.0, 39.9, 200.1, float("nan")])
def test_an_offset_that_no_microphone_has_is_refused(offset: float) -> None:
    with pytest.raises(UsageError, match="sound pressure level of a sine of full scale"):
        ListenOptions(levels=True, level_offset=offset)


def test_an_offset_goes_with_levels() -> None:
    with pytest.raises(UsageError, match="only with levels=True"):
        ListenOptions(level_offset=94.0)


def _time(text: str) -> Any:  # noqa: ANN401 - a datetime, imported where it is needed
    """Return a time."""
    from datetime import datetime

    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _plain(record: object) -> Any:  # noqa: ANN401 - what JSON has
    """Return a record as it travels."""
    import msgspec

    return msgspec.json.decode(msgspec.json.encode(record))
