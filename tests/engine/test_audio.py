"""Recordings to samples: where they come from, what is read of them, and what is said about them."""

import io
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pytest
import soundfile

from clapedge import audio
from clapedge.arrays import Float32Array
from clapedge.audio import ReadOptions, sources
from clapedge.errors import (
    AudioError,
    AudioFileNotFoundError,
    AudioFormatError,
    UsageError,
)

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


class Pipe(io.RawIOBase):
    """A stream in which one cannot seek, as standard input is."""

    def __init__(self, data: bytes) -> None:
        self._inner = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - whatever the caller has
        return self._inner.readinto(buffer)


# ---- where a recording comes from


def test_every_kind_of_source_gives_the_same_samples(tmp_path: Path) -> None:
    samples = noise(1.5)
    data = encoded(samples)
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    with path.open("rb") as file, path.open("rb", buffering=0) as raw:
        kinds: list[Any] = [path, str(path), data, bytearray(data), memoryview(data), file, raw, io.BytesIO(data)]
        kinds += [Pipe(data), memoryview(np.repeat(np.frombuffer(data, np.uint8), 2).tobytes())[::2]]
        kinds += [samples, samples[None]]
        for source in kinds:
            np.testing.assert_array_equal(audio.read(source).samples, samples)
        assert not file.closed


def test_a_file_object_is_read_from_its_beginning() -> None:
    file = io.BytesIO(encoded(noise(0.1)))
    file.seek(1000)
    assert len(audio.read(file).samples) == 4_800


def test_a_large_stream_is_kept_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = noise(60)
    monkeypatch.setattr(sources, "SPOOL_BYTES", 2**20)
    np.testing.assert_array_equal(audio.read(cast("BinaryIO", Pipe(encoded(samples)))).samples, samples)


def test_a_stream_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LONGEST_STREAM_BYTES", 2**21)
    monkeypatch.setattr(sources, "_is_seekable", lambda _file: False)
    with Path("/dev/zero").open("rb") as endless, pytest.raises(AudioError, match="has not ended"):
        audio.read(endless)


@pytest.mark.skipif(sys.platform == "win32", reason="paths of Windows hold no such characters")
@pytest.mark.parametrize(
    "name", ["Tür 轴承 🔔.wav", "a\nb.wav", "-l.wav", " .wav", "a\udcff.wav", "x.raw", "x.vox", "%s.mp3"]
)
def test_a_path_may_be_odd(name: str, tmp_path: Path) -> None:
    path = os.path.join(os.fspath(tmp_path), name)  # noqa: PTH118 - as a user's shell passes it
    samples = noise(0.2)
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(encoded(samples))
    np.testing.assert_array_equal(audio.read(path).samples, samples)
    audio.source_name(path).encode()
    assert sources.shown_name(path).isprintable()
    os.truncate(path, 20)
    with pytest.raises(AudioFormatError) as caught:
        audio.read(path)
    assert str(caught.value).isprintable()


def test_a_name_does_not_make_a_text_a_recording(tmp_path: Path) -> None:
    for name in ("notes.wav", "notes.au", "notes.vox", "notes.gsm", "notes.raw", "notes.mp3"):
        path = tmp_path / name
        path.write_text("what was recorded, and where\n" * 200)
        with pytest.raises(AudioFormatError, match="convert it"):
            audio.read(path)


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        ("no/such.wav", AudioFileNotFoundError, "does not exist"),
        (".", AudioError, "is a directory; .*clapedge batch"),
        (os.devnull, AudioError, "is a device, not a recording"),
        ("a\0b", AudioError, "cannot be read"),
        (b"", AudioFormatError, "empty"),
        (io.BytesIO(), AudioFormatError, "empty"),
        (io.StringIO("text"), UsageError, "binary"),
        (None, UsageError, "NoneType is not a recording"),
        (np.zeros(0, np.float32), AudioFormatError, "no samples"),
        (np.zeros((2, 3, 4), np.float32), AudioError, "shape"),
        (np.zeros((100, 2), np.float32), AudioError, "transpose"),
        (np.zeros(10, complex), AudioError, "complex"),
        (np.zeros(10, bool), AudioError, "bool"),
    ],
)
def test_what_is_no_recording_is_refused_with_what_to_do(source: Any, error: type[Exception], said: str) -> None:  # noqa: ANN401
    with pytest.raises(error, match=said):
        audio.read(source)


def test_a_closed_file_is_refused() -> None:
    file = io.BytesIO(encoded(noise(0.1)))
    file.close()
    with pytest.raises(UsageError, match="closed"):
        audio.read(file)


class Disk(io.BytesIO):
    """A file of which the bytes behind some place cannot be read."""

    readable_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() + max(0, size or 0) > self.readable_bytes:
            raise OSError(5, "Input/output error")
        return super().read(size)


@pytest.mark.parametrize("kind", [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")])
@pytest.mark.parametrize("share", [0.0, 0.8])
def test_what_cannot_be_read_is_not_taken_for_the_end_or_for_damage(kind: tuple[str, str], share: float) -> None:
    disk = Disk(encoded(noise(20), *kind))
    disk.readable_bytes = int(share * len(disk.getvalue()))
    with pytest.raises(AudioError, match=r"cannot be read to its end \(Input/output error\)"):
        audio.read(disk)


def test_a_stream_that_does_not_block_is_refused_rather_than_cut_off() -> None:
    class Impatient(Pipe):
        def readinto(self, buffer: Any) -> Any:  # noqa: ANN401
            return None if self._inner.tell() else self._inner.readinto(buffer[:100])

    with pytest.raises(UsageError, match="blocks"):
        audio.read(cast("BinaryIO", Impatient(encoded(noise(1)))))


def test_nothing_lies_behind_the_end_that_a_decoder_is_shown() -> None:
    view = sources.ByteView(io.BytesIO(bytes(1000)))
    view.pretend(length=2**40)
    view.seek(2**40 + 10)
    assert view.read(10) == b""


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioFormatError, match=r"pip install 'clapedge\[formats\]'"):
        audio.read(b"\0\0\0\x20ftypM4A " + bytes(100))


def test_a_playlist_reaches_no_other_file(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra `formats` is not installed")
    (tmp_path / "secret.wav").write_bytes(encoded(noise(1)))
    texts = (
        f"ffconcat version 1.0\nfile {tmp_path}/secret.wav\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{tmp_path}/secret.wav\n#EXT-X-ENDLIST\n",
    )
    for text in texts:
        with pytest.raises(AudioFormatError):
            audio.read(text.encode())


# ---- arrays


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", ">i2", "f2", "f4", "f8", ">f4"])
def test_an_array_of_any_number_type_is_scaled_by_its_range(dtype: str) -> None:
    wave = tone(500, rate=RATE, seconds=0.1)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        array, step = wave.astype(kind), 2e-4
    else:
        half = 2.0 ** (8 * kind.itemsize - 1)
        values = np.round(wave.astype(np.float64) * half) + (half if kind.kind == "u" else 0)
        array, step = values.astype(kind), max(1 / half, 1e-7)
    recording = audio.read(array)
    assert np.abs(recording.samples - wave).max() <= step
    assert recording.warnings == ()


def test_channels_are_averaged_or_picked() -> None:
    pair = noise(0.5, channels=2)
    np.testing.assert_allclose(audio.read(pair).samples, pair.mean(axis=0), atol=1e-7)
    for channel in (0, 1):
        np.testing.assert_array_equal(audio.read(pair, ReadOptions(channel=channel)).samples, pair[channel])
        np.testing.assert_array_equal(audio.read(encoded(pair), ReadOptions(channel=channel)).samples, pair[channel])
    with pytest.raises(AudioError, match="there is no 2"):
        audio.read(pair, ReadOptions(channel=2))
    with pytest.raises(UsageError, match="counted from 0"):
        audio.read(pair, ReadOptions(channel=-1))


def test_a_recording_does_not_change_with_the_array_that_it_was_read_from() -> None:
    for seconds in (0.5, 3.0):
        samples = noise(seconds)
        recording = audio.read(samples)
        kept = samples.copy()
        samples[:] = 0
        np.testing.assert_array_equal(recording.samples, kept)


@pytest.mark.parametrize("most", [0, 1000, 100_000])
def test_more_samples_than_were_promised_are_gathered_all_the_same(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    samples = noise(3, rate=44_100, channels=2)
    expected = audio.read(samples, ReadOptions(sample_rate=44_100)).samples
    monkeypatch.setattr("clapedge.audio.recording.PROMISED_SAMPLES", most)
    np.testing.assert_array_equal(audio.read(samples, ReadOptions(sample_rate=44_100)).samples, expected)


def test_reading_never_changes_the_callers_array() -> None:
    array = noise(0.5)
    array[7] = np.nan
    copy = array.copy()
    audio.read(array)
    np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("rate", [0, -1, 3_999, 384_001, 2**31 - 1])
def test_a_rate_that_no_recording_has_is_refused(rate: int) -> None:
    with pytest.raises(AudioFormatError, match="Hz are understood"):
        audio.read(noise(0.1), ReadOptions(sample_rate=rate))


def test_a_rate_is_a_whole_number_of_whatever_type() -> None:
    samples = noise(0.5, rate=44_100)
    expected = audio.read(samples, ReadOptions(sample_rate=44_100)).samples
    for rate in (44_100.0, np.float64(44_100), np.int32(44_100)):
        np.testing.assert_array_equal(audio.read(samples, ReadOptions(sample_rate=rate)).samples, expected)  # type: ignore[arg-type]
    for rate in (44_100.5, float("nan")):
        with pytest.raises(UsageError, match="whole number"):
            audio.read(samples, ReadOptions(sample_rate=rate))  # type: ignore[arg-type]


def test_a_rate_is_not_given_for_a_file_that_has_one() -> None:
    with pytest.raises(UsageError, match="carries its own"):
        audio.read(encoded(noise(0.1)), ReadOptions(sample_rate=48_000))


# ---- rates


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 16_000, 22_050, 44_100, 47_999, 88_200, 192_000, 384_000])
def test_a_tone_keeps_its_pitch_level_and_length_at_any_rate(rate: int) -> None:
    samples = audio.read(tone(1_000, rate=rate), ReadOptions(sample_rate=rate)).samples
    assert len(samples) == 2 * RATE
    inner = slice(RATE // 2, 3 * RATE // 2)
    assert np.abs(samples[inner] - tone(1_000, rate=RATE)[inner]).max() < 1e-5


@pytest.mark.parametrize("rate", [96_000, 192_000, 384_000])
@pytest.mark.parametrize("hertz", [26_500.0, 30_000.0, 40_000.0])
def test_what_lies_above_half_the_rate_is_at_least_100_decibels_down(rate: int, hertz: float) -> None:
    samples = audio.read(tone(hertz, rate=rate), ReadOptions(sample_rate=rate)).samples[RATE // 2 : 3 * RATE // 2]
    assert 20 * np.log10(np.abs(samples).max() / 0.5) < -100


def test_a_fitting_rate_is_not_resampled() -> None:
    samples = noise(1)
    assert audio.read(samples).samples.base is not None
    np.testing.assert_array_equal(audio.read(encoded(samples)).samples, samples)


def test_the_quality_of_resampling_is_a_choice() -> None:
    wave = tone(1_000, rate=44_100)
    best, quick = (
        audio.read(wave, ReadOptions(sample_rate=44_100, resample=quality)).samples for quality in ("VHQ", "QQ")
    )
    assert best.shape == quick.shape
    assert (best != quick).any()
    with pytest.raises(UsageError, match="VHQ"):
        audio.read(wave, ReadOptions(resample="best"))  # type: ignore[arg-type]
