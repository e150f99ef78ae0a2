"""Recordings as users' devices write them: where the tone is found, how long they are, and what is noted."""

import re
import struct
import time

import numpy as np
import pytest

pytest.importorskip("av", reason="films and lost packets need the extra: pip install 'clapedge[formats]'")
from tests.recordings import encoded, lossy, recording, tone_at, with_numbers

from clapedge import audio
from clapedge.audio import ReadOptions
from clapedge.audio import recording as opening
from clapedge.errors import AudioFormatError

FLUSH = 4 * 48_000
"""Bytes of the 2 s that an unfinished header claims."""


def check(data: bytes, tone: float, seconds: float) -> str:
    """Check tone and length, from the beginning and after a seek, and return the notes."""
    whole = audio.read(data)
    found = tone_at(whole.samples)
    assert found is not None
    assert abs(found - tone) < 0.3
    assert abs(whole.end - seconds) < 0.1
    assert abs(whole.duration - seconds) < 0.1
    part = audio.read(data, ReadOptions(start=tone - 1, duration=3))
    later = tone_at(part.samples)
    assert later is not None
    assert abs(part.start + later - found) < 0.1
    return "; ".join(whole.warnings)


# ---- headers that were never finished


def sized(data: bytes, at: int, size: int, code: str = "<I") -> bytes:
    """Return a file whose number at an offset, which is right, is another."""
    return with_numbers(data, {at: size}, code)


WAV = encoded(recording(25, 18))


@pytest.mark.parametrize(
    ("riff", "claimed", "note"),
    [
        (0, 0, "claims no sound"),
        (36, 0, "claims no sound"),
        (2**32 - 1, 0, "claims no sound"),
        (36 + FLUSH, FLUSH, f"claims {FLUSH} bytes of sound"),
        (2**32 - 1, 2**32 - 1, ""),  # a pipe, which is no fault
    ],
)
def test_a_wav_of_a_recorder_that_was_switched_off_is_read_to_its_end(riff: int, claimed: int, note: str) -> None:
    notes = check(sized(sized(WAV, 4, riff), WAV.index(b"data") + 4, claimed), 18, 25)
    assert note in notes
    assert bool(note) == bool(notes)


def unfinished(kind: str, claimed: int) -> bytes:
    """Return a recording of 25 s whose header claims `claimed` frames of 16 bits."""
    data = encoded(recording(25, 18), kind)
    if kind == "AU":
        return sized(data, 8, 2 * claimed, ">I")
    if kind == "AIFF":
        data = sized(sized(data, 4, 46 + 2 * claimed, ">I"), data.index(b"COMM") + 10, claimed, ">I")
        return sized(data, data.index(b"SSND") + 4, 8 + 2 * claimed, ">I")
    if kind == "CAF":
        return sized(data, data.index(b"data") + 4, 4 + 2 * claimed, ">Q")
    if kind == "W64":
        return sized(sized(data, 16, 128 + 2 * claimed, "<Q"), data.index(b"data") + 16, 24 + 2 * claimed, "<Q")
    if kind == "RF64":
        at = data.index(b"ds64") + 8
        return sized(sized(data, at, 36 + 2 * claimed, "<Q"), at + 8, 2 * claimed, "<Q")
    at = 18
    field = int.from_bytes(data[at : at + 8], "big") >> 36 << 36 | claimed
    return sized(data, at, field, ">Q")


@pytest.mark.parametrize("kind", ["AU", "AIFF", "CAF", "W64", "RF64"])
@pytest.mark.parametrize("claimed", [0, 96_000])
def test_the_relatives_of_wav_hide_nothing_either(kind: str, claimed: int) -> None:
    assert "its recorder did not finish it" in check(unfinished(kind, claimed), 18, 25)


def test_a_flac_hides_nothing_either() -> None:
    assert "its header claims 2.00 s, 25.00 s are there" in check(unfinished("FLAC", 96_000), 18, 25)


# ---- what may follow the sound


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


@pytest.mark.parametrize(
    "trailing",
    [
        chunk(b"LIST", b"INFOISFT\4\0\0\0rec\0"),
        chunk(b"id3 ", b"ID3\3\0\0\0\0\0\0" + bytes(3000)),
        chunk(b"bext", bytes(602)) + chunk(b"cue ", bytes(28)) + chunk(b"iXML", b"<A/>" * 999),
        chunk(b"qZ9.", np.random.default_rng(0).bytes(5001)),
        chunk(b"LIST", bytes(4000))[:3000],
        b"TAG" + bytes(125),
        b"APETAGEX" + bytes(range(256)) * 8,
        b"<?xml version='1.0' encoding='utf-8'?>" + bytes(range(256)) * 8,
        bytes(2**16),
        b"\r\n",
    ],
)
@pytest.mark.parametrize("samples", [48_000, 48_001])
def test_what_may_follow_the_sound_is_not_read_as_sound(trailing: bytes, samples: int) -> None:
    data = encoded(np.resize(np.array([0.1, -0.1], np.float32), samples), subtype="PCM_U8")
    whole = audio.read(data + trailing)
    assert (len(whole.samples), whole.warnings) == (samples, ())


@pytest.mark.parametrize("kind", ["WAV", "RF64", "AIFF", "CAF", "W64", "AU"])
def test_a_recording_behind_another_one_is_noted(kind: str) -> None:
    data = encoded(recording(5, 1), kind)
    whole = audio.read(data + data)
    assert whole.end == 5
    assert any("another recording follows" in note for note in whole.warnings)


def test_a_wav_that_holds_nothing_stays_an_error() -> None:
    data = sized(sized(WAV[: WAV.index(b"data") + 8], 4, 36), WAV.index(b"data") + 4, 0)
    with pytest.raises(AudioFormatError, match="no samples"):
        audio.read(data + chunk(b"LIST", b"INFOISFT\4\0\0\0rec\0"))


# ---- MP3s of several streams


def mp3(seconds: float, tone: float, *, channels: int = 1, rate: int = 48_000) -> bytes:
    """Return an MP3 with a Xing header."""
    return encoded(np.tile(recording(seconds, tone, rate=rate), (channels, 1)), "MP3", "MPEG_LAYER_III", rate=rate)


def bare(data: bytes) -> bytes:
    """Return an MP3 without its first frame, which holds the Xing header."""
    return data[data.index(data[:2], 100) :]


ID3 = b"ID3\4\0\0\0\0\0\x10" + bytes(16)
ID3V1 = b"TAG" + bytes(125)


@pytest.mark.parametrize("between", [b"", ID3, ID3V1, ID3V1 + ID3, bytes(700)])
@pytest.mark.parametrize("tagged", [True, False])
def test_mp3s_joined_end_to_end_are_all_read(between: bytes, tagged: bool) -> None:  # noqa: FBT001 - a parameter
    first, second = mp3(20, 5), mp3(20, 8)
    second = second if tagged else bare(second)
    assert check(first + between + second, 5, 40) == ""
    late = audio.read(first + between + second, ReadOptions(start=21))
    assert tone_at(late.samples) == pytest.approx(7, abs=0.1)


@pytest.mark.parametrize("named", [True, False])
def test_an_mp3_that_turns_from_mono_to_stereo_is_read_to_its_end(named: bool) -> None:  # noqa: FBT001 - a parameter
    mono, stereo = (mp3(60, 40, channels=channels, rate=16_000) for channels in (1, 2))
    half = int(0.498 * len(mono))  # each half has the frame of delay that an encoder puts first
    check(bare(mono)[:half] + stereo[len(stereo) // 2 :] + (ID3V1 if named else b""), 40, 60)


def test_an_mp3_whose_header_claims_only_its_first_flush_is_read_to_its_end() -> None:
    data = mp3(25, 18)
    at = data.index(b"Info" if b"Info" in data[:100] else b"Xing")
    check(with_numbers(data, {at + 8: 84, at + 12: len(data) // 12}, ">I"), 18, 25)


def test_streams_of_another_rate_are_not_read_and_that_is_noted() -> None:
    whole = audio.read(mp3(20, 5) + mp3(20, 5, rate=32_000))
    assert abs(whole.end - 20) < 0.1
    assert any("sample rate changes from 48000 to 32000 Hz" in note for note in whole.warnings)


# ---- time stamps


FILMS = [("mp4", "aac"), ("matroska", "aac"), ("mov", "pcm_s16le")]
STREAMS = [("mp4", "aac"), ("matroska", "aac"), ("webm", "libopus"), ("matroska", "flac")]


@pytest.mark.parametrize(("kind", "codec"), FILMS)
def test_the_seconds_of_a_film_are_those_that_a_player_shows(kind: str, codec: str) -> None:
    notes = check(lossy(recording(25, 10), kind, codec, late=5), 15, 30)
    assert "sound is missing from its beginning to " in notes


@pytest.mark.parametrize(("kind", "codec"), STREAMS)
def test_packets_that_were_lost_count_as_silence(kind: str, codec: str) -> None:
    data = lossy(recording(120, 80), kind, codec, lost=(20, 50))
    notes = check(data, 80, 120)
    found = re.fullmatch(r"sound is missing from ([\d.]+) to ([\d.]+) s; it counts as silence", notes)
    assert found
    assert [float(second) for second in found.groups()] == pytest.approx([20, 50], abs=0.11)  # a frame of FLAC


@pytest.mark.parametrize("start", [0, 15, 19.5, 30, 49, 51])
def test_every_way_into_a_gap_gives_the_same_seconds(start: float) -> None:
    whole = audio.read(lossy(recording(70, 60), "matroska", "flac", lost=(20, 50)))
    part = audio.read(
        lossy(recording(70, 60), "matroska", "flac", lost=(20, 50)), ReadOptions(start=start, duration=15)
    )
    begin = round(start * 48_000)
    later = whole.samples[begin : begin + len(part.samples)]
    silent = [np.flatnonzero(np.abs(samples) > 0) for samples in (part.samples, later)]
    assert len(part.samples) == 15 * 48_000
    for edge in (0, -1) if len(silent[0]) else ():
        assert abs(int(silent[0][edge]) - int(silent[1][edge])) <= 48  # a time stamp of Matroska is a millisecond


def test_time_stamps_that_jump_by_years_are_not_filled_with_silence() -> None:
    data = lossy(recording(30, 10), "matroska", "flac", jump=(20, 1e6))
    notes = check(data, 10, 30)
    assert "its time stamps jump by 1000000.0 s at 20." in notes


# ---- a constant offset


@pytest.mark.parametrize("offset", [0.03, -0.2])
def test_silence_is_trimmed_in_spite_of_a_constant_offset(offset: float) -> None:
    quiet = recording(25, 18) * 0.01 + offset
    trimmed = audio.read(encoded(quiet.astype(np.float32), subtype="FLOAT"), ReadOptions(trim_silence=-60))
    assert trimmed.start == pytest.approx(18, abs=0.01)
    assert trimmed.end == pytest.approx(21, abs=0.01)


def test_the_mean_of_noise_and_a_slow_wave_are_no_offset() -> None:
    for sound in (
        0.1 * np.random.default_rng(0).standard_normal(12 * 48_000),
        0.3 * np.sin(2 * np.pi * 0.7 * np.arange(12 * 48_000) / 48_000),
    ):
        samples = np.concatenate([sound, np.zeros(5 * 48_000)]).astype(np.float32)
        assert audio.read(samples, ReadOptions(trim_silence=-60)).end == pytest.approx(12, abs=0.01)


def test_nothing_but_an_offset_is_silent() -> None:
    whole = audio.read(np.full(48_000, 0.03, np.float32))
    assert any("it is silent" in note for note in whole.warnings)


# ---- headers without end


MANY = 2**18
"""Chunks, of 8 bytes and more each."""


@pytest.mark.parametrize(
    "data",
    [
        b"RIFF\0\0\x40\0WAVE" + b"abcd\0\0\0\0" * MANY,
        WAV[:36] + b"LIST\4\0\0\0INFO" * MANY,
        b"FORM\0\x40\0\0AIFF" + b"abcd\0\0\0\0" * MANY,
        b"FORM\0\x40\0\08SVX" + b"abcd\0\0\0\0" * MANY,
        b"caff\0\1\0\0" + b"free\0\0\0\0\0\0\0\0" * MANY,
        encoded(recording(4, 0), "W64")[:40]
        + (b"junk" + bytes.fromhex("F3ACD3118CD100C04F8EDB8A") + b"\x18" + bytes(7)) * MANY,
    ],
    ids=["WAV", "LIST", "AIFF", "8SVX", "CAF", "W64"],
)
def test_a_header_of_more_chunks_than_any_recorder_writes_is_refused_at_once(data: bytes) -> None:
    began = time.process_time()
    with pytest.raises(AudioFormatError, match=r"header of more than \d+ chunks"):
        audio.read(data)
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\x20ftypM4A " + bytes(20) + b"\0\0\0\x08free" * 2**21,
        b"\xff\xf1\x50\x80\x00\xff\xfc" * 2**20,  # frames of AAC without content
    ],
    ids=["MP4", "AAC"],
)
def test_the_time_until_the_first_sample_is_bounded(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "HEADER_SECONDS", 0.1)
    began = time.process_time()
    with pytest.raises(AudioFormatError, match=r"has no sound after 0\.1 s of processor time"):
        audio.read(data)
    assert time.process_time() - began < 2.0
