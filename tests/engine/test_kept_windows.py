"""Windows that are kept answer for other labels: timelines and rows a window, equal to those of reading again."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import clapedge
from clapedge import audio

CLIPS = Path(clapedge.__file__).parent / "demo_clips"
LABELS = ("-l", "siren,church bell,rain", "--multi", "--on", "0.4")
SECONDS = 14.34567
"""Of a recording, so that its last window begins between two samples of a grid."""

Run = Callable[..., Any]


@pytest.fixture
def nights(tmp_path: Path) -> Path:
    """Make two recordings, each with a sound between silences."""
    folder = tmp_path / "nights"
    folder.mkdir()
    for name in ("siren", "church-bell"):
        samples = (0.003 * np.random.default_rng(0).standard_normal(round(SECONDS * 48_000))).astype(np.float32)
        samples[5 * 48_000 : 9 * 48_000] += np.resize(audio.read(CLIPS / f"{name}.flac").samples, 4 * 48_000)
        soundfile.write(folder / f"{name}.wav", np.clip(samples, -1, 1), 48_000)
    return folder


@pytest.fixture
def kept(run: Run, nights: Path, tmp_path: Path) -> Path:
    """Keep their windows."""
    store = tmp_path / "kept"
    done = run("embed", nights, "-o", store, "--window", "slide", "--length", "2", "--hop", "1")
    assert done.code == 0, done.err
    return store


def test_an_archive_is_of_one_tower_and_a_bundle_without_short_ones_says_so(run: Run, nights: Path, kept: Path) -> None:
    refused = run("timeline", "--embeddings", kept, *LABELS, "--tower", "short")
    assert refused.code == 2
    assert "--tower says how audio is read" in refused.err
    missing = run("timeline", nights / "siren.wav", *LABELS, "--tower", "short")
    assert missing.code == 3
    assert "holds no short audio tower in int8, as one that was exported with --no-short" in missing.err


def test_timelines_of_kept_windows_are_those_of_the_recordings(run: Run, nights: Path, kept: Path) -> None:
    paths = sorted(nights.iterdir())
    heard = [
        run("timeline", path, *LABELS, "--window", "2", "--hop", "1", "--format", "jsonl").out.splitlines()
        for path in paths
    ]
    assert all(heard)
    for path in paths:
        path.unlink()
    assert run("timeline", "--embeddings", kept, *LABELS, "--format", "jsonl").out.splitlines() == [
        *heard[0],
        *heard[1],
    ]
    one = run("timeline", paths[1], "--embeddings", kept, *LABELS, "--format", "jsonl")
    assert one.out.splitlines() == heard[1]
    audacity = run("timeline", paths[1], "--embeddings", kept, *LABELS, "--format", "audacity").out
    assert len(audacity.splitlines()) == len(heard[1])


def test_a_table_of_kept_windows_names_every_recording(run: Run, nights: Path, kept: Path, tmp_path: Path) -> None:
    output = tmp_path / "events.csv"
    done = run("timeline", "--embeddings", kept, *LABELS, "--format", "csv", "-o", output)
    rows = list(csv.DictReader(output.open(encoding="utf-8")))
    assert {row["file"] for row in rows} == {str(path) for path in nights.iterdir()}
    assert f"{len(rows)} events" in done.err


def test_each_kept_window_has_its_row(run: Run, kept: Path, tmp_path: Path) -> None:
    output = tmp_path / "windows.jsonl"
    assert run("batch", "--embeddings", kept, *LABELS[:3], "--per-clip", "-o", output).code == 0
    records = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    spans = [(record["heard"]["start"], record["heard"]["end"]) for record in records if "siren" in record["file"]]
    assert spans == [*((float(at), at + 2.0) for at in range(13)), (12.346, 14.346)]
    siren = [next(each for each in record["labels"] if each["name"] == "siren") for record in records[-len(spans) :]]
    assert max(range(len(siren)), key=lambda at: siren[at]["similarity"]) in range(4, 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--hop", "2"), "--hop says how audio is read"),
        (("--plot", "a.png"), "--plot says how audio is read"),
        (("--format", "raven"), "--format raven holds no names of recordings"),
        (("none.wav",), "none.wav is not kept in"),
    ],
)
def test_what_kept_windows_cannot_answer_is_an_error(
    run: Run, kept: Path, options: tuple[str, ...], message: str
) -> None:
    done = run("timeline", "--embeddings", kept, *LABELS, *options)
    assert done.code in {1, 2}
    assert message in done.err


def test_clips_that_are_no_windows_make_no_timeline(run: Run, nights: Path, tmp_path: Path) -> None:
    assert run("embed", nights, "-o", tmp_path / "whole").code == 0
    done = run("timeline", "--embeddings", tmp_path / "whole", *LABELS)
    assert done.code == 2
    assert "keep windows: embed with --window slide, --length 2 and --hop 1" in done.err


def test_a_store_of_before_length_was_an_option_is_added_to(run: Run, nights: Path, tmp_path: Path) -> None:
    command = ("embed", nights, "-o", tmp_path / "whole")
    assert run(*command).code == 0
    assert "length" not in json.loads((tmp_path / "whole" / "archive.json").read_text(encoding="utf-8"))["hearing"]
    assert run(*command).code == 0
