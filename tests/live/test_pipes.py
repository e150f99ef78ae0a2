"""Pipes: a WAV header is believed, a recording is waited for, and a pace that cannot be right is noted."""

import io
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from tests.live.staging import FEED_RATE, StillClock
from tests.live.test_buffer_and_clock import chunk
from tests.live.test_command_line import RAW, listen

from clapedge.arrays import Float32Array
from clapedge.errors import AudioError, UsageError
from clapedge.live.buffer import AudioBuffer, Chunk
from clapedge.live.reader import ReaderOptions
from clapedge.live.sources.local import FileSource
from clapedge.live.sources.network import NetworkSource
from clapedge.live.sources.pcm import FORMATS, PcmFormat, PcmSource

pytestmark = pytest.mark.filterwarnings("ignore::clapedge.errors.ClapEdgeWarning")

FRAMES = np.round(np.random.default_rng(0).uniform(-0.9, 0.9, (501, 2)) * 100) / 128
"""Frames that every sample format holds exactly."""


def wav(frames: Float32Array | np.ndarray = FRAMES, rate: int = 48_000, **form: str) -> bytes:
    """Return a WAV file."""
    file = io.BytesIO()
    soundfile.write(file, frames, rate, **{"format": "WAV", "subtype": "PCM_16", **form})
    return file.getvalue()


def with_size(data: bytes, size: int) -> bytes:
    """Return a WAV file whose header announces so many bytes of samples."""
    place = data.index(b"data") + 4
    return data[:place] + struct.pack("<I", size) + data[place + 4 :]


def source_of(data: bytes, pcm: PcmFormat | None = None, *, cut: int = 1000, stated: tuple[str, ...] = ()) -> PcmSource:
    """Return a source of bytes that come in pieces."""
    pieces = iter([data[at : at + cut] for at in range(0, len(data), cut)])
    held = bytearray()

    def read(most: int) -> bytes:
        if not held:
            held.extend(next(pieces, b""))
        piece = bytes(held[:most])
        del held[:most]
        return piece

    return PcmSource(read, pcm or PcmFormat(8000), stated=stated)


def frames_of(source: PcmSource) -> tuple[set[int], Float32Array]:
    """Return the sample rates and the frames of a source."""
    blocks = list(source.frames())
    return {rate for rate, _ in blocks}, np.concatenate([frames for _, frames in blocks])


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64"])
def test_the_header_of_a_wav_stream_is_used(subtype: str, form: str) -> None:
    data = wav(format=form, subtype=subtype)
    for cut in (1, 7, 10_000):
        rates, frames = frames_of(source_of(data, cut=cut))
        assert rates == {48_000}
        np.testing.assert_allclose(frames, FRAMES, atol=1e-6)


def test_a_big_endian_header_is_used() -> None:
    data = bytearray(wav(endian="BIG"))
    assert data[:4] == b"RIFX"
    np.testing.assert_allclose(frames_of(source_of(bytes(data)))[1], FRAMES, atol=1e-6)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000, 400])
def test_no_size_in_a_header_hides_samples(size: int, caplog: pytest.LogCaptureFixture) -> None:
    frames = frames_of(source_of(with_size(wav(), size)))[1]
    np.testing.assert_allclose(frames, FRAMES, atol=1e-6)
    assert any("goes on where its WAV header" in line for line in caplog.messages) == (size == 400)


@given(size=st.integers(0, 2**32 - 1), cut=st.integers(1, 600))
def test_whatever_size_a_header_has_every_sample_is_read(size: int, cut: int) -> None:
    assert len(frames_of(source_of(with_size(wav(), size), cut=cut))[1]) == len(FRAMES)


def test_chunks_behind_the_samples_are_no_sound_and_files_follow_one_another() -> None:
    mono = wav(FRAMES[:, :1], 16_000, subtype="PCM_U8")
    mono += bytes(len(mono) % 2) + b"LIST" + struct.pack("<I", 3) + b"abc\0"
    source = source_of(mono + wav())
    blocks = list(source.frames())
    assert [rate for rate, _ in blocks][:: len(blocks) - 1] == [16_000, 48_000]
    for rate, expected in ((16_000, FRAMES[:, :1]), (48_000, FRAMES)):
        read = np.concatenate([frames for found, frames in blocks if found == rate])
        np.testing.assert_allclose(read, expected, atol=1e-6)
    assert source.torn == 0


def test_what_a_header_contradicts_is_noted(caplog: pytest.LogCaptureFixture) -> None:
    wrong = PcmFormat(16_000, 1, "s16le")
    rates, frames = frames_of(source_of(wav(), wrong, stated=("rate", "channels", "format")))
    assert (rates, frames.shape[1]) == ({48_000}, 2)
    (line,) = caplog.messages
    assert line.startswith(
        "standard input is WAV (48000 Hz, channels: 2, s16le), which contradicts rate=16000, channel"
    )
    assert line.endswith("s=1; its header is used")
    caplog.clear()
    frames_of(source_of(wav(), PcmFormat(48_000, 1), stated=("rate",)))
    assert caplog.messages == ["standard input is WAV: 48000 Hz, channels: 2, s16le"]


@pytest.mark.parametrize("sample_format", FORMATS)
def test_samples_that_begin_like_a_file_are_samples(sample_format: str) -> None:
    data = b"RIFF" + bytes(236)
    pcm = PcmFormat(8000, 1, sample_format)
    assert np.array_equal(frames_of(source_of(data, pcm, stated=("rate",)))[1], pcm.frames(data), equal_nan=True)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (wav(subtype="ULAW"), "format tag 7"),
        (wav()[:40], "no samples follow"),
        (wav()[:30], "cut off"),
        (b"RIFF\0\0\0\0WAVE" + b"JUNK\0\0\0\x7f" + bytes(2**21), "no samples follow"),
        (b"RIFF\0\0\0\0WAVE" + b"JUNK\0\0\x01\0" * 1 + bytes(2**22), "no samples follow"),
    ],
)
def test_a_header_that_is_not_understood_is_an_error(data: bytes, complaint: str) -> None:
    with pytest.raises(AudioError, match=complaint):
        source_of(data, cut=2**16)


def test_raw_samples_need_a_rate() -> None:
    with pytest.raises(UsageError, match="no WAV header does"):
        source_of(bytes(1000))


def timed(start: float, arrival: float, *, seconds: int = 1) -> Chunk:
    """Return some seconds of sound that arrived at a time."""
    return Chunk(np.zeros((1000 * seconds, 1), np.float32), 1000, start, fresh=False, monotonic=arrival, wall=0.0)


def test_a_pipe_that_is_faster_than_real_time_waits_for_good() -> None:
    buffer = AudioBuffer(10.0, adaptive=True)
    for second in range(9):
        buffer.push(timed(float(second), 0.1 * second))
    buffer.push(timed(9.0, 0.9, seconds=2))  # more than it holds, before anybody reads

    def write() -> None:
        for second in range(11, 60):  # from now on it is as slow as what is read, and slower than real time
            buffer.push(timed(float(second), 3.0 * second))
        buffer.close()

    writer = threading.Thread(target=write)
    writer.start()
    starts = []
    while isinstance(popped := buffer.pop(10.0), Chunk):
        starts.append(popped.start)
    writer.join()
    assert starts == [float(second) for second in range(60) if second != 10]
    assert (buffer.drops, buffer.dropped) == (0, 0)


def test_a_live_pipe_does_not_wait_though_two_seconds_lay_in_it() -> None:
    buffer = AudioBuffer(10.0, adaptive=True)
    for second in range(30):
        buffer.push(timed(float(second), max(0.0, second - 2.0)))
    assert buffer.drops > 0


def test_who_waits_is_an_option(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 8000)
    recording = FileSource(str(tmp_path / "a.wav"))
    pipe = source_of(bytes(100), stated=("rate",))

    def drops(options: ReaderOptions, source: FileSource | PcmSource) -> bool:
        buffer = options.buffer_for(source)
        popper = threading.Thread(target=lambda: [buffer.pop(10.0) for _ in range(5)])
        if options.overload != "drop":
            popper.start()
        for second in range(5):
            buffer.push(chunk(float(second)))
        return buffer.drops > 0

    assert drops(ReaderOptions(1.0, overload="drop"), recording)
    assert drops(ReaderOptions(1.0, overload="drop"), pipe)
    assert not drops(ReaderOptions(1.0), recording)
    assert not drops(ReaderOptions(1.0, overload="wait"), pipe)
    pytest.importorskip("av", reason="PyAV is not installed; pip install 'clapedge[formats]'")
    with pytest.raises(UsageError, match="cannot wait"):
        ReaderOptions(overload="wait").buffer_for(NetworkSource("rtsp://host/", timeout=1.0))


def test_a_recording_in_a_pipe_loses_nothing_by_default(raw: bytes, label_file: str) -> None:
    done = listen(*RAW, "--labels", label_file, "--buffer", "10", data=raw)
    assert f"samples: {len(raw) // 4} read, {len(raw) // 4} heard, 0 dropped" in done.stderr
    assert "delivered 30.0 s of sound in" in done.stderr
    assert "if it is live, --rate 16000 or --channels 2 is wrong; a recording waits" in done.stderr


def test_a_wav_stream_needs_no_options_and_finds_the_same(raw: bytes, label_file: str) -> None:
    stereo = np.frombuffer(raw, "<i2").reshape(-1, 2)
    words = ("--labels", label_file, *RAW[5:], "--began", "2026-01-31T22:00:00Z")
    events = []
    for data, options in ((raw, RAW[:5]), (with_size(wav(stereo, FEED_RATE), 0x7FFFFFFF), ("-",))):
        done = listen(*options, *words, data=data)
        events.append([line.partition('"latency_ms"')[0].partition('"label"')[2] for line in done.stdout.splitlines()])
    assert events[0] == events[1]
    assert events[0]


@pytest.mark.parametrize(
    ("ratio", "noted"), [(1.0, False), (1.01, False), (0.5, True), (1 / 3, True), (2.0, True), (3.0, True)]
)
def test_a_pace_that_cannot_be_that_of_the_samples_is_noted_once(
    caplog: pytest.LogCaptureFixture,
    ratio: float,
    noted: bool,  # noqa: FBT001 - parametrised
) -> None:
    clock = StillClock()

    def read(most: int) -> bytes:
        clock.pass_(most / 2 / 8000 / ratio)
        return bytes(most) if clock.now < 1200 else b""

    list(PcmSource(read, PcmFormat(8000), monotonic=clock.monotonic).frames())
    assert len(caplog.messages) == noted
    assert all("rate=8000 or channels=1 is wrong" in line for line in caplog.messages)


def test_what_lay_in_a_pipe_and_pauses_are_no_pace(caplog: pytest.LogCaptureFixture) -> None:
    clock, blocks = StillClock(), 0

    def read(most: int) -> bytes:
        nonlocal blocks
        blocks += 1
        clock.pass_(0.0 if blocks < 160 else 20.0 if blocks % 500 == 0 else most / 2 / 8000)  # 8 s at once
        return bytes(most) if blocks < 3000 else b""

    list(PcmSource(read, PcmFormat(8000), monotonic=clock.monotonic).frames())
    assert caplog.messages == []
