"""What comes from elsewhere reaches a terminal as text alone: it moves no cursor, and turns no line around."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from clapedge import Bundle
from clapedge.model.bundle import demo_directory, write_manifest
from clapedge.terminal import counted, printable

Run = Callable[..., Any]
"""The fixture `run`: gives what `conftest.Done` describes."""

EVIL = "rain\x1b[2J\x9b31m\u202egnid\r\u2028"
PLAIN = r"rain\x1b[2J\x9b31m\u202egnid\r\u2028"
UNSHOWN = ("\x1b", "\x9b", "\u202e", "\r", "\u2028")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Make a recording of 12 s with an evil name."""
    path = tmp_path / f"{EVIL}.wav"
    soundfile.write(path, np.random.default_rng(1).normal(0, 0.1, 8_000 * 12), 8_000)
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Make a bundle whose own words are evil."""
    path = tmp_path / "bundle"
    shutil.copytree(demo_directory(), path)
    manifest = Bundle.open(path).manifest
    write_manifest(path, msgspec.structs.replace(manifest, model=EVIL, licence=EVIL, notes=(EVIL,)))
    return path


@given(st.text())
def test_what_is_shown_is_one_line_that_a_terminal_prints(text: str) -> None:
    assert len(printable(text).splitlines()) <= 1
    assert not any(mark in printable(text) for mark in UNSHOWN)


@pytest.mark.parametrize("text", ["轴承异响", "naïve café", "👩\u200d🔧", "a\u00a0b", "\u3000"])
def test_words_of_any_language_stay_as_they_are(text: str) -> None:
    assert printable(text) == text


def test_what_a_terminal_would_obey_is_written_out() -> None:
    assert printable(EVIL) == PLAIN


@pytest.mark.parametrize(
    "command",
    [
        ("score", "RECORDING", "-l", EVIL, "-l", "siren"),
        ("score", "RECORDING", "-l", EVIL, "-l", "siren", "--explain"),
        ("score", "RECORDING", "-l", EVIL, "-l", "siren", "--multi"),
        ("score", f"{EVIL}.flac", "-l", "rain,siren"),
        ("score", "RECORDING", "--labels", f"{EVIL}.toml"),
        ("timeline", "RECORDING", "-l", EVIL),
        ("timeline", "RECORDING", "-l", EVIL, "--format", "audacity"),
        ("timeline", "RECORDING", "-l", EVIL, "--format", "raven"),
        ("timeline", "RECORDING", "-l", EVIL, "--format", "webvtt"),
        ("bundle", "info"),
        ("bundle", "verify", EVIL),
    ],
    ids=" ".join,
)
def test_no_command_lets_names_labels_or_models_speak_to_the_terminal(
    run: Run, recording: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CLAPEDGE_BUNDLE", str(bundle))
    done = run(*(str(recording) if word == "RECORDING" else word for word in command))
    assert "rain" in done.out + done.err
    assert not [mark for mark in UNSHOWN if mark in done.out + done.err]


def test_search_shows_names_as_text(run: Run, recording: Path, tmp_path: Path) -> None:
    run("embed", recording, "-o", tmp_path / "kept")
    done = run("search", "rain", "--embeddings", tmp_path / "kept")
    assert f"{PLAIN}.wav" in done.out
    assert not [mark for mark in UNSHOWN if mark in done.out + done.err]


def test_records_for_programs_keep_names_as_they_are(run: Run, recording: Path) -> None:
    record = json.loads(run("score", recording, "-l", EVIL, "-l", "siren", "--format", "jsonl").out)
    assert record["file"] == str(recording)
    assert EVIL.strip() in [label["name"] for label in record["labels"]]


def test_one_is_counted_as_one() -> None:
    assert [counted(number, "file") for number in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
    assert counted(2, "piece of advice", nouns="pieces of advice") == "2 pieces of advice"


def test_figures_below_1_are_not_rounded_to_it(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    shutil.copytree(demo_directory(), path)
    manifest = Bundle.open(path).manifest
    checks = {"min_cosine": 0.99999994, "max_abs_error": 1.23456e-7, "exact": 1.0}
    files = (msgspec.structs.replace(manifest.files[0], checks=checks), *manifest.files[1:])
    write_manifest(path, msgspec.structs.replace(manifest, files=files))
    (line,) = (line for line in run("bundle", "info", path).out.splitlines() if manifest.files[0].path in line)
    shown_figures = line.split(" MB  ")[1]
    assert shown_figures == "min_cosine 0.9999999  max_abs_error 1.23e-07  exact 1"
