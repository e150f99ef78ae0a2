"""Spans of recordings: seeking, streams, silence at the ends, and what is wrong with what was read."""

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from clapedge import audio
from clapedge.arrays import Float32Array
from clapedge.audio import ReadOptions, stream
from clapedge.audio.decoder import BLOCK_VALUES
from clapedge.errors import AudioError, AudioSpanError, UsageError

RATE = 48_000


def noise(seconds: float, *, rate: int = RATE, channels: int = 1, seed: int = 0) -> Float32Array:
    """Return quiet noise, (samples,) or (channels, samples)."""
    shape = (round(seconds * rate),) if channels == 1 else (channels, round(seconds * rate))
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).clip(-0.9, 0.9).astype(np.float32)


def encoded(samples: Float32Array, kind: str = "WAV", subtype: str | None = "FLOAT", *, rate: int = RATE) -> bytes:
    """Return samples as the bytes of a file."""
    file = io.BytesIO()
    soundfile.write(file, samples.T, rate, format=kind, subtype=subtype)
    return file.getvalue()


def tone(hertz: float, *, rate: int, seconds: float = 2.0) -> Float32Array:
    """Return half-scale sine."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


# ---- spans


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"start": -1.0}, "start is -1.0 s"),
        ({"start": float("nan")}, "start is nan"),
        ({"duration": 0.0}, "duration is 0.0 s"),
        ({"duration": -3.0}, "duration is -3.0 s"),
        ({"duration": float("inf")}, "duration is inf"),
    ],
)
def test_a_span_that_no_recording_has_is_wrong_usage(options: dict[str, float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        audio.read(noise(2), ReadOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(("start", "said"), [(2.0, "2.000 s long, so it cannot start at 2 s"), (1e300, "2.000 s long")])
def test_a_span_beyond_the_end_is_refused_with_the_length(start: float, said: str) -> None:
    for source in (noise(2), encoded(noise(2)), encoded(noise(2), "FLAC", "PCM_16")):
        with pytest.raises(AudioSpanError, match=said):
            audio.read(source, ReadOptions(start=start))


def test_a_span_says_where_it_lies() -> None:
    recording = audio.read(noise(5), ReadOptions(start=1.5, duration=2.0))
    assert (recording.start, recording.end, recording.duration) == (1.5, 3.5, 5.0)
    assert audio.read(noise(5), ReadOptions(start=4.0, duration=2.0)).end == 5.0


KINDS = [("WAV", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")]
"""Formats that libsndfile writes itself."""
FILES: dict[tuple[str, int], bytes] = {}


def file_of(kind: str, subtype: str, rate: int) -> bytes:
    """Return 12 s of noise in a format, made once."""
    if (subtype, rate) not in FILES:
        FILES[subtype, rate] = encoded(noise(12, rate=rate, channels=2), kind, subtype, rate=rate)
    return FILES[subtype, rate]


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    rate=st.sampled_from([16_000, 48_000]),
    start=st.floats(0, 11.9),
    duration=st.floats(1e-4, 13),
)
def test_seeking_gives_what_reading_all_gives(kind: tuple[str, str], rate: int, start: float, duration: float) -> None:
    data = file_of(*kind, rate)
    whole = audio.read(data).samples
    part = audio.read(data, ReadOptions(start=start, duration=duration))
    first = round(start * RATE)
    expected = whole[first : first + max(1, round(duration * RATE))]
    assert part.samples.shape == expected.shape
    assert np.abs(part.samples - expected).max() < 1e-6


@settings(deadline=None, max_examples=60)
@given(
    rate=st.integers(4_000, 384_000),
    length=st.integers(1, 30_000),
    channels=st.integers(1, 5),
    start=st.floats(0, 1),
    duration=st.none() | st.floats(1e-5, 2),
)
def test_any_array_gives_finite_samples_of_the_right_length_the_same_each_time(
    rate: int, length: int, channels: int, start: float, duration: float | None
) -> None:
    length = max(length, channels)
    array = noise(length / rate, rate=rate, channels=channels)
    seconds = array.shape[-1] / rate
    begin = start * seconds * 0.9
    expected = round(seconds * RATE) - round(begin * RATE)
    if duration is not None:
        expected = min(expected, max(1, round(duration * RATE)))
    if expected < 2:
        return
    first, second = (
        audio.read(array, ReadOptions(sample_rate=rate, start=begin, duration=duration)).samples for _ in range(2)
    )
    assert abs(len(first) - expected) <= 1
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, second)


def test_a_stream_is_read_in_blocks_and_again_with_the_same_bits() -> None:
    data = file_of("MP3", "MPEG_LAYER_III", 48_000)
    with audio.opened(data) as opened:
        promised = opened.samples
        once, twice = (list(opened) for _ in range(2))
        assert promised == opened.samples == sum(map(len, once))
    assert max(map(len, once)) <= BLOCK_VALUES
    np.testing.assert_array_equal(np.concatenate(once), np.concatenate(twice))
    np.testing.assert_array_equal(np.concatenate(once), audio.read(data).samples)


def test_several_threads_read_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    path.write_bytes(file_of("OGG", "VORBIS", 48_000))
    found: list[Float32Array] = []
    readers = [
        threading.Thread(target=lambda: found.append(audio.read(path, ReadOptions(start=3)).samples)) for _ in range(4)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert len(found) == 4
    assert all(np.array_equal(found[0], other) for other in found)


def test_more_than_can_be_held_is_refused_but_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clapedge.audio.recording.LONGEST_READ_SECONDS", 10)
    with pytest.raises(AudioError, match="too much to be held"):
        audio.read(noise(30))
    with audio.opened(noise(30)) as opened:
        assert sum(map(len, opened)) == 30 * RATE


# ---- silence


def test_silence_at_both_ends_is_trimmed() -> None:
    samples = np.concatenate([np.zeros(RATE), noise(2), np.zeros(15 * RATE)]).astype(np.float32)
    samples[RATE] = samples[3 * RATE - 1] = 0.5
    for source in (samples, encoded(samples), encoded(samples, "FLAC", "PCM_16")):
        recording = audio.read(source, ReadOptions(trim_silence=-60))
        assert (recording.start, recording.end, recording.duration) == (1.0, 3.0, 18.0)
        assert len(recording.samples) == 2 * RATE


def test_silence_is_trimmed_within_the_span() -> None:
    samples = np.zeros(20 * RATE, np.float32)
    samples[[2 * RATE, 5 * RATE, 19 * RATE]] = 0.5
    recording = audio.read(samples, ReadOptions(start=3, duration=10, trim_silence=-20))
    assert (recording.start, recording.end) == (5.0, 5.0 + 1 / RATE)


def test_any_level_of_silence_is_a_number() -> None:
    silence = np.zeros(RATE, np.float32)
    assert "nothing exceeds -1e+09 dBFS" in audio.read(silence, ReadOptions(trim_silence=-1e9)).warnings[0]
    with pytest.raises(UsageError, match="trim_silence"):
        audio.read(silence, ReadOptions(trim_silence=-np.inf))


def test_what_holds_no_sound_is_not_trimmed_and_that_is_said() -> None:
    recording = audio.read(np.zeros(RATE, np.float32), ReadOptions(trim_silence=-60))
    assert recording.end == 1.0
    assert any("no silence was trimmed" in sentence for sentence in recording.warnings)
    with pytest.raises(UsageError, match="below full scale"):
        audio.read(noise(1), ReadOptions(trim_silence=60))


@settings(deadline=None, max_examples=40)
@given(loud=st.lists(st.integers(0, 25 * RATE - 1), min_size=1, max_size=4), rate=st.sampled_from([48_000, 24_000]))
def test_the_trimmed_span_reaches_from_the_first_to_the_last_sound(loud: list[int], rate: int) -> None:
    samples = np.zeros(25 * rate, np.float32)
    at = [position * rate // RATE for position in loud]
    samples[at] = 0.5
    recording = audio.read(samples, ReadOptions(sample_rate=rate, trim_silence=-20))
    slack = 1e-9 if rate == RATE else 0.01
    assert abs(recording.start - min(at) / rate) <= slack
    assert abs(recording.end - (max(at) / rate + 1 / RATE)) <= slack


def test_sound_behind_an_estimated_end_is_not_taken_for_silence() -> None:
    loud_then_quiet_then_loud = np.concatenate([noise(2), 1e-5 * noise(20), noise(2)])
    data = (
        encoded(loud_then_quiet_then_loud, "MP3", "MPEG_LAYER_III")
        .replace(b"Info", bytes(4))
        .replace(b"Xing", bytes(4))
    )
    recording = audio.read(data, ReadOptions(trim_silence=-40))
    assert abs(recording.end - 24) < 0.1


def test_trimming_bears_a_header_that_promises_years() -> None:
    data = bytearray(encoded(np.concatenate([noise(2), np.zeros(2 * RATE, np.float32)]), "FLAC", "PCM_16"))
    data[21:26] = (int.from_bytes(data[21:26], "big") >> 36 << 36 | 2**35).to_bytes(5, "big")
    assert abs(audio.read(bytes(data), ReadOptions(trim_silence=-60)).end - 2) < 0.01


# ---- what is wrong with a recording


def said(source: Any, **options: Any) -> str:  # noqa: ANN401 - whatever `read` takes
    return "; ".join(audio.read(source, ReadOptions(**options)).warnings)


def test_an_ordinary_recording_is_not_spoken_of() -> None:
    assert said(noise(3)) == ""
    for kind, subtype in KINDS:
        assert said(file_of(kind, subtype, 48_000)) == ""


def test_numbers_that_are_none_are_heard_as_silence() -> None:
    samples = noise(1)
    samples[[10, 20, 30]] = np.nan, np.inf, 1e30
    for source in (samples, encoded(samples)):
        assert "3 samples are not finite" in said(source)
        assert np.isfinite(audio.read(source).samples).all()
    assert "samples are not finite" in said(np.array([1e300] * 5000))


def test_silence_clipping_and_unscaled_integers_are_said() -> None:
    assert "it is silent" in said(np.zeros(RATE, np.float32))
    assert "clipped" in said(np.clip(20 * noise(1), -1, 1))
    assert "clipped" in said(encoded(np.clip(20 * noise(1), -1, 1), "WAV", "PCM_16"))
    assert "divide integers" in said(noise(1) * 32768)
    assert "cancel each other" in said(np.stack([noise(1), -noise(1)]))


def test_silence_beside_sound_is_not_taken_for_channels_that_cancel_each_other() -> None:
    samples = np.concatenate([noise(1, rate=44_100), np.zeros(2 * 44_100, np.float32)])
    for array in (samples, np.stack([samples, samples])):
        (sentence,) = audio.read(array, ReadOptions(sample_rate=44_100, start=1.05, duration=1)).warnings
        assert sentence.startswith("it is silent")


def test_a_full_scale_tone_is_not_clipped() -> None:
    assert said(2 * tone(440, rate=RATE)) == ""
    assert said((2 * 32767 * tone(440, rate=RATE)).astype(np.int16)) == ""


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_16"), ("AIFF", "PCM_16"), ("FLAC", "PCM_16")])
def test_a_recording_that_is_cut_off_is_read_to_the_cut_and_that_is_said(kind: str, subtype: str) -> None:
    data = encoded(noise(8), kind, subtype)
    recording = audio.read(data[: len(data) // 2])
    assert 3 < recording.end < 5
    assert recording.duration == recording.end
    assert any("cut off" in sentence or "ends early" in sentence for sentence in recording.warnings)


def test_an_mp3_that_is_cut_off_is_read_to_the_cut_and_that_is_said() -> None:
    data = file_of("MP3", "MPEG_LAYER_III", 48_000)
    recording = audio.read(data[: len(data) // 2])
    assert 5 < recording.end < 7
    assert any("ends early" in sentence for sentence in recording.warnings)


def test_an_mp3_without_a_length_is_read_to_its_real_end() -> None:
    quiet_then_loud = np.concatenate([noise(6) * 1e-3, noise(6)])
    data = encoded(quiet_then_loud, "MP3", "MPEG_LAYER_III")
    bare = data.replace(b"Xing", bytes(4)).replace(b"Info", bytes(4))
    assert bare != data
    recording = audio.read(bare)
    assert abs(recording.end - 12) < 0.1
    first = audio.read(bare, ReadOptions(duration=3))
    assert any("does not say how long" in sentence for sentence in first.warnings)
    with pytest.raises(AudioSpanError):
        audio.read(bare, ReadOptions(start=20))


def test_mp3s_joined_end_to_end_are_read_to_the_end() -> None:
    data = file_of("MP3", "MPEG_LAYER_III", 48_000)
    assert abs(audio.read(data + data).end - 24) < 0.2


def test_a_second_ogg_stream_is_not_heard_and_that_is_said() -> None:
    data = file_of("OGG", "VORBIS", 48_000)
    other = encoded(noise(3, seed=1), "OGG", "VORBIS")
    assert "another stream follows" in said(data + other)


def test_a_header_that_contradicts_itself_is_said() -> None:
    data = bytearray(encoded(noise(1), "WAV", "PCM_16"))
    data[24:28] = (8_000).to_bytes(4, "little")
    recording = audio.read(bytes(data))
    assert recording.duration == 6.0
    assert any("contradicts itself" in sentence for sentence in recording.warnings)


@pytest.mark.parametrize("claimed", [2**32 - 1, 2**31, 2**31 - 1])
def test_a_wav_that_lies_about_its_size_is_read_to_its_end(claimed: int) -> None:
    data = bytearray(encoded(noise(1), "WAV", "PCM_16"))
    at = data.index(b"data") + 4
    data[at : at + 4] = claimed.to_bytes(4, "little")
    assert abs(audio.read(bytes(data)).end - 1.0) < 1e-3


@pytest.mark.parametrize("total", [0, 2**36 - 1])
def test_a_flac_that_lies_about_its_length_is_read_to_its_end(total: int) -> None:
    samples = noise(2)
    data = bytearray(encoded(samples, "FLAC", "PCM_16"))
    field = int.from_bytes(data[21:26], "big") >> 36 << 36 | total
    data[21:26] = field.to_bytes(5, "big")
    recording = audio.read(bytes(data))
    assert (recording.end, recording.duration) == (2.0, 2.0)
    np.testing.assert_allclose(recording.samples, samples, atol=1e-4)
    assert len(audio.read(bytes(data), ReadOptions(start=1.5)).samples) == RATE // 2


def test_a_thousand_channels_are_read_in_small_blocks() -> None:
    array = noise(0.5, channels=1000)
    with audio.opened(encoded(array)) as opened:
        assert max(map(len, opened)) <= BLOCK_VALUES // 1000
    np.testing.assert_allclose(audio.read(encoded(array)).samples, array.mean(axis=0), atol=1e-6)


def test_margins_exceed_the_longest_filter() -> None:
    impulse = np.zeros(8_000, np.float32)
    impulse[4_000] = 1.0
    samples = audio.read(impulse, ReadOptions(sample_rate=4_000)).samples
    reach = np.flatnonzero(np.abs(samples) > 1e-7)
    assert (reach[-1] - reach[0]) / 2 / RATE < stream.RESAMPLE_MARGIN_SECONDS
