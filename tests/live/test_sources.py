"""Sources: raw samples of every format, files at any speed, sound cards, addresses; and who reads them."""

import http.server
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from tests.live.staging import CLIPS, Impatient, StillClock

from clapedge import audio
from clapedge.errors import AudioError, MissingExtraError, UsageError
from clapedge.live.addresses import without_password
from clapedge.live.backoff import backoff
from clapedge.live.buffer import AudioBuffer
from clapedge.live.reader import Reader
from clapedge.live.sources import Frames, SourceLostError
from clapedge.live.sources.local import FileSource, MicrophoneSource
from clapedge.live.sources.network import NetworkSource, is_address
from clapedge.live.sources.pcm import FORMATS, PcmFormat, PcmSource

if TYPE_CHECKING:
    from typing_extensions import Self

    from clapedge.arrays import Float32Array

SUBTYPES = {
    "u8": "PCM_U8",
    "s8": "PCM_S8",
    **{f"s{bits}{end}": f"PCM_{bits}" for bits in (16, 24, 32) for end in ("le", "be")},
    **{f"f{bits}{end}": kind for bits, kind in ((32, "FLOAT"), (64, "DOUBLE")) for end in ("le", "be")},
}
"""libsndfile's names of the formats: the oracle."""


@pytest.mark.parametrize("sample", FORMATS)
def test_every_format_is_read_as_libsndfile_reads_it(sample: str, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).uniform(-0.99, 0.99, (500, 2))
    path = tmp_path / "samples.raw"
    endian = "BIG" if sample.endswith("be") else "LITTLE"
    form = {"format": "RAW", "subtype": SUBTYPES[sample], "endian": endian}
    soundfile.write(path, frames, 16_000, **form)
    expected, _ = soundfile.read(path, channels=2, samplerate=16_000, dtype="float32", **form)
    read = PcmFormat(16_000, 2, sample).frames(path.read_bytes())
    np.testing.assert_allclose(read, expected, atol=1e-7)
    assert read.dtype == np.float32


def test_the_spelling_of_arecord_is_understood() -> None:
    assert [PcmFormat(8000, 1, name).sample_format for name in ("S16_LE", "S24_3LE", "FLOAT_LE", "U8")] == [
        "s16le",
        "s24le",
        "f32le",
        "u8",
    ]
    with pytest.raises(UsageError, match="four bytes a sample; record with -f S24_3LE"):
        PcmFormat(8000, 1, "S24_LE")


def test_a_pipe_that_bbuffers_nothing_is_a_failure() -> None:
    with pytest.raises(AudioError, match="ended without a sound"):
        list(PcmSource(lambda _: b"", PcmFormat(8000, 1)).frames())


def test_an_unknown_format_names_those_that_are_known() -> None:
    with pytest.raises(UsageError, match="give one of u8, s8, s16le"):
        PcmFormat(8000, 1, "mu-law")


@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(1, 17), min_size=1))
def test_bytes_in_pieces_of_any_length_are_the_same_frames(data: bytes, cuts: list[int]) -> None:
    pieces: list[bytes] = []
    at = 0
    while at < len(data):
        pieces.append(data[at : at + cuts[len(pieces) % len(cuts)]])
        at += len(pieces[-1])
    left = iter(pieces)
    source = PcmSource(lambda _: next(left, b""), PcmFormat(8000, 2, "s16le"))
    whole = len(data) - len(data) % 4
    if whole:
        frames = [block for _, block in source.frames()]
        assert np.array_equal(np.concatenate(frames), PcmFormat(8000, 2, "s16le").frames(data[:whole]))
    else:
        with pytest.raises(AudioError, match="ended without a sound"):
            list(source.frames())
    assert source.torn == len(data) - whole


def test_a_torn_frame_is_noted() -> None:
    data = iter([b"\0" * 5])
    source = PcmSource(lambda _: next(data, b""), PcmFormat(8000, 1, "s16le"))
    assert len(list(source.frames())) == 1
    assert "within a frame (1 bytes)" in source.notes()[0]


def test_an_impossible_sample_rate_is_refused() -> None:
    with pytest.raises(UsageError, match="4000 to 384000"):
        PcmSource(lambda _: b"", PcmFormat(16, 1))


def test_a_file_is_played_at_its_speed() -> None:
    clock = StillClock()
    source = FileSource(str(CLIPS / "siren.flac"), speed=4.0, monotonic=clock.monotonic, sleep=clock.pass_)
    frames = np.concatenate([part for _, part in source.frames()])
    samples = audio.read(CLIPS / "siren.flac").samples
    assert np.array_equal(frames[:, 0], samples)
    assert clock.now - 1000.0 == pytest.approx(len(samples) / 48_000 / 4.0)


def test_a_source_that_is_nothing_says_what_could_be_one() -> None:
    with pytest.raises(UsageError, match="name -, mic, mic:DEVICE, an address"):
        FileSource("no-such-thing")


class FakeStream:
    """A sound card that gives three blocks, reports an overflow, and goes silent."""

    opened: ClassVar[list[dict[str, object]]] = []

    def __init__(self, callback: Callable[..., None], **options: object) -> None:
        self.opened.append(options)
        self._callback = callback

    def __enter__(self) -> "Self":
        for number in range(3):
            block = np.full((2205, 1), number / 10, np.float32)
            self._callback(block, 2205, None, SimpleNamespace(input_overflow=number == 1))
            block[:] = 9.0  # PortAudio uses its buffer again
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close nothing."""


@pytest.fixture
def portaudio(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Put a sound card where there is none."""
    FakeStream.opened.clear()
    fake = SimpleNamespace(
        InputStream=FakeStream,
        PortAudioError=type("PortAudioError", (Exception,), {}),
        query_devices=lambda *_: {"default_samplerate": 44100.0},
    )
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake


@pytest.mark.usefixtures("portaudio")
def test_a_microphone_gives_what_the_card_records_and_is_lost_when_it_is_silent() -> None:
    microphone = MicrophoneSource("2", sample_rate=None, channels=1, timeout=0.001)
    recorded: list[Float32Array] = []

    def record() -> None:
        for rate, frames in microphone.frames():
            assert rate == 44_100
            recorded.append(frames)

    with pytest.raises(SourceLostError, match="gave no sound for"):
        record()
    assert [float(frames[0, 0]) for frames in recorded] == pytest.approx([0.0, 0.1, 0.2])
    assert FakeStream.opened[0]["device"] == 2
    assert "lost sound 1 times" in microphone.notes()[0]


def test_a_microphone_that_is_not_there_may_come_back(portaudio: SimpleNamespace) -> None:
    def query_devices(*_: object) -> None:
        raise ValueError("No input device matching 'usb'")

    portaudio.query_devices = query_devices
    with pytest.raises(SourceLostError, match="No input device matching 'usb'"):
        list(MicrophoneSource("usb", sample_rate=None, channels=1, timeout=1.0).frames())


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingExtraError, match=r"clapedge\[mic\]"):
        MicrophoneSource("", sample_rate=None, channels=1, timeout=1.0)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Serve a recording over HTTP."""
    soundfile.write(tmp_path / "tone.wav", np.full((8000, 2), 0.25, np.float32), 16_000)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/tone.wav"
    server.shutdown()
    server.server_close()


def test_an_address_is_read_and_its_end_is_a_loss(address: str) -> None:
    pytest.importorskip("av", reason="PyAV is not installed; pip install 'clapedge[formats]'")
    read: list[Frames] = []
    source = NetworkSource(address, timeout=5.0)

    def read_all() -> None:
        read.extend(source.frames())

    with pytest.raises(SourceLostError, match="ended"):
        read_all()
    assert {sample_rate for sample_rate, _ in read} == {16_000}
    samples = np.concatenate([frames for _, frames in read])
    assert samples.shape == (8000, 2)
    np.testing.assert_allclose(samples, 0.25, atol=1e-4)


def test_an_address_where_nothing_is_may_come_back(address: str) -> None:
    pytest.importorskip("av", reason="PyAV is not installed; pip install 'clapedge[formats]'")
    with pytest.raises(SourceLostError, match="cannot be read"):
        list(NetworkSource(address.replace("tone", "none"), timeout=5.0).frames())


def test_a_playlist_does_not_lead_to_files_of_this_machine(address: str, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed; pip install 'clapedge[formats]'")
    (tmp_path / "list.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{tmp_path}/tone.wav\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(SourceLostError):
        list(NetworkSource(address.replace("tone.wav", "list.m3u8"), timeout=2.0).frames())


def test_passwords_are_not_shown() -> None:
    assert without_password("rtsp://me:secret@camera:554/live?key=x") == "rtsp://camera:554/live"
    assert is_address("rtsp://camera/live")
    assert not is_address("recording.wav")


class Flaky:
    """A source that is lost some times."""

    name = "flaky"
    live: ClassVar[bool] = True
    reopens: ClassVar[bool] = True

    def __init__(self, *connections: int | AudioError) -> None:
        """Give so many frames in each connection, or fail."""
        self._connections = list(connections)

    def frames(self) -> Iterator[Frames]:
        """Be one connection."""
        connection = self._connections.pop(0)
        if isinstance(connection, AudioError):
            raise connection
        for _ in range(connection):
            yield 1000, np.zeros((100, 1), np.float32)
        if self._connections:
            raise SourceLostError("gone; plug it in")

    def notes(self) -> list[str]:
        """Return nothing."""
        return []


def test_a_lost_source_is_opened_again_with_longer_and_longer_pauses(caplog: pytest.LogCaptureFixture) -> None:
    lost = SourceLostError("nobody there; plug it in")
    buffer, stop = AudioBuffer(60.0), Impatient()
    source = Flaky(2, lost, lost, lost, 1)
    reader = Reader(source, buffer, StillClock(), retries=None, stop=stop)
    reader.run()
    assert stop.waited == [1.0, 2.0, 4.0, 8.0]
    assert caplog.messages[0] == "gone; plug it in; trying again in 1 s"
    chunks = [buffer.pop(0.0) for _ in range(3)]
    assert [(chunk.fresh, chunk.start) for chunk in chunks if not isinstance(chunk, str)] == [
        (True, 0.0),
        (False, 0.1),
        (True, 0.2),
    ]
    assert (buffer.pop(0.0), buffer.failure, reader.reconnects) == ("ended", None, 4)


def test_a_source_is_given_up_after_so_many_failures_in_a_row() -> None:
    lost = SourceLostError("nobody there; plug it in")
    buffer, stop = AudioBuffer(60.0), Impatient()
    Reader(Flaky(1, lost, lost, lost), buffer, StillClock(), retries=2, stop=stop).run()
    assert len(stop.waited) == 2
    assert buffer.failure is lost


def test_pauses_grow_to_a_minute() -> None:
    assert [backoff(failures) for failures in (1, 2, 5, 6, 7, 10**6)] == [1.0, 2.0, 16.0, 32.0, 60.0, 60.0]


def test_a_source_that_cannot_be_used_ends_the_reading() -> None:
    buffer, error = AudioBuffer(60.0), AudioError("no such thing; name another")
    Reader(Flaky(error), buffer, StillClock(), retries=None, stop=Impatient()).run()
    assert buffer.failure is error


def test_the_names_of_sources_are_checked() -> None:
    with pytest.raises(UsageError, match=r"speed is -1\.0; give a factor"):
        FileSource(str(CLIPS / "siren.flac"), speed=-1.0)
    assert FileSource(str(CLIPS / "siren.flac")).name.endswith("siren.flac")
