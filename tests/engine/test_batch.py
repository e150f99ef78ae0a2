"""Whole folders: every file has its row, and no interruption changes a byte of the results."""

import csv
import json
import os
import random
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from clapedge.audio.discovery import find_recordings, is_recording
from clapedge.cli import progress

LABELS = ("-l", "rain", "-l", "siren", "-l", "dog barking")
FORMATS = (("wav", "WAV"), ("flac", "FLAC"), ("ogg", "OGG"), ("mp3", "MP3"), ("aiff", "AIFF"), ("dat", "W64"))
RATES = (8_000, 22_050, 44_100, 48_000)
COUNT = 60
DAMAGED = "folder-1/damaged.wav"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a tree of short recordings in several formats and rates, of equal names, one damaged, and other files."""
    root = tmp_path_factory.mktemp("recordings")
    generator = np.random.default_rng(1)
    for index in range(COUNT):
        suffix, kind = FORMATS[index % len(FORMATS)]
        rate = RATES[index % len(RATES)]
        folder = root / f"folder-{index % 3}"
        folder.mkdir(exist_ok=True)
        samples = generator.normal(0, 0.1, rate // 4)
        soundfile.write(folder / f"recording-{index // 6}.{suffix}", samples, rate, format=kind)
    (root / DAMAGED).write_bytes(b"RIFF\xff\xff\xff\x7fWAVEnothing that follows is right")
    (root / "folder-2" / "notes.txt").write_text("no sound")
    (root / "雨.wav").write_bytes((root / "folder-0" / "recording-0.wav").read_bytes())
    return root


@pytest.fixture(scope="module")
def whole(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the results of uninterrupted runs, by suffix."""
    folder = tmp_path_factory.mktemp("whole")
    found = {}
    for suffix in ("csv", "jsonl", "parquet"):
        output = folder / f"results.{suffix}"
        done = batch(recordings, "--recursive", "-o", output, "--embeddings", folder / "kept")
        assert done.returncode == 1
        found[suffix] = output.read_bytes()
    return found


def command(*arguments: str | Path) -> list[str]:
    """Return the command line of a batch."""
    return [sys.executable, "-m", "clapedge.cli", "batch", *map(str, arguments), *LABELS]


def batch(*arguments: str | Path, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a batch, with a limit on the bytes of a file if given: what a full disk looks like."""

    def confine() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit or 0, limit or 0))

    done = subprocess.run(
        command(*arguments), capture_output=True, check=False, text=True, preexec_fn=confine if limit else None
    )
    assert "Traceback" not in done.stderr
    return done


def interrupted(kept: Path, lines: int, number: signal.Signals, *arguments: str | Path) -> subprocess.Popen[str]:
    """Run a batch, send it a signal when so many recordings are kept, and return it when it has ended."""

    def obey() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # who starts tests may have it ignored

    process = subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=obey,  # noqa: PLW1509 - no threads here
    )
    index = kept / "index.jsonl"
    while process.poll() is None and not (index.exists() and index.read_bytes().count(b"\n") >= lines):
        os.sched_yield()
    process.send_signal(number)
    process.wait()
    return process


def test_every_recording_has_its_row_in_sorted_order(recordings: Path, whole: dict[str, bytes]) -> None:
    records = [json.loads(line) for line in whole["jsonl"].splitlines()]
    files = [record["file"] for record in records]
    expected = [str(path) for path in recordings.rglob("*") if path.is_file() and path.name != "notes.txt"]
    assert files == sorted(expected)
    failed = [record["file"] for record in records if "error" in record]
    assert failed == [str(recordings / DAMAGED)]
    assert all(record["ms"] is None for record in records if "error" not in record)


def test_formats_agree_and_are_read_by_others(whole: dict[str, bytes], tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")
    path = tmp_path / "results.parquet"
    path.write_bytes(whole["parquet"])
    table = parquet.read_table(path)
    rows = list(csv.DictReader(whole["csv"].decode().splitlines()))
    assert table.column_names == list(rows[0])
    for name, read in (("file", str), ("label", str), ("probability", float), ("error", str)):
        ours = [read(row[name]) if row[name] else None for row in rows]
        assert table.column(name).to_pylist() == ours
    records = [json.loads(line) for line in whole["jsonl"].splitlines()]
    best = [record["labels"][0]["name"] for record in records if "labels" in record]
    assert best == [row["label"] for row in rows if row["rank"] == "1"]


def test_duckdb_reads_the_parquet(whole: dict[str, bytes], tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    path = tmp_path / "results.parquet"
    path.write_bytes(whole["parquet"])
    counted = duckdb.sql(f"select count(distinct file), count(error), count(label) from '{path}'").fetchall()  # noqa: S608 - a path of this test
    assert counted == [(COUNT + 2, 1, 3 * (COUNT + 1))]


def test_what_embed_keeps_is_searched_and_scored(recordings: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    program = [sys.executable, "-m", "clapedge.cli"]
    embedded = subprocess.run(
        [*program, "embed", recordings, "--recursive", "-o", kept, "--workers", "2"],
        capture_output=True,
        check=False,
        text=True,
    )
    assert embedded.returncode == 1
    assert f"embeddings of {COUNT + 1} recordings" in embedded.stdout
    assert DAMAGED in embedded.stderr
    found = subprocess.run(
        [*program, "search", "rain", "--embeddings", kept, "--top-k", "3", "--format", "jsonl"],
        capture_output=True,
        check=True,
        text=True,
    )
    matches = [json.loads(line) for line in found.stdout.splitlines()]
    records = [json.loads(line) for line in whole["jsonl"].splitlines()]
    rain = {
        record["file"]: label["similarity"]
        for record in records
        for label in record.get("labels", ())
        if label["name"] == "rain"
    }
    assert [match["similarity"] for match in matches] == sorted(rain.values(), reverse=True)[:3]
    assert all(rain[match["file"]] == match["similarity"] for match in matches)


def test_a_file_scores_in_a_batch_as_it_scores_alone(recordings: Path, whole: dict[str, bytes]) -> None:
    file = str(recordings / "folder-0" / "recording-3.wav")
    alone = subprocess.run(
        [sys.executable, "-m", "clapedge.cli", "score", file, *LABELS, "--format", "jsonl"],
        capture_output=True,
        check=True,
        text=True,
    )
    record = json.loads(alone.stdout) | {"ms": None}
    assert record in [json.loads(line) for line in whole["jsonl"].splitlines()]


@pytest.mark.parametrize("workers", ["1", "3"])
def test_a_run_killed_at_random_moments_and_resumed_writes_the_same_bytes(
    recordings: Path, whole: dict[str, bytes], tmp_path: Path, workers: str
) -> None:
    output = tmp_path / "results.csv"
    kept = tmp_path / "results.csv.partial"
    arguments = (recordings, "--recursive", "-o", output, "--resume", "--workers", workers)
    moments = sorted(random.Random(workers).sample(range(1, COUNT // 2), 2))  # noqa: S311 - no secret
    for moment in moments:
        process = interrupted(kept, moment, signal.SIGKILL, *arguments)
        assert process.returncode == -signal.SIGKILL
        assert not output.exists()
    done = batch(*arguments)
    assert "had been embedded before" in done.stderr
    assert done.returncode == 1
    assert output.read_bytes() == whole["csv"]
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(recordings: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    output = tmp_path / "results.jsonl"
    kept = tmp_path / "results.jsonl.partial"
    process = interrupted(kept, 5, signal.SIGINT, recordings, "--recursive", "-o", output)
    assert process.stderr is not None
    said = process.stderr.read()
    assert process.returncode == 130
    assert "--resume" in said
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]
    refused = batch(recordings, "--recursive", "-o", output)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    other = batch(recordings, "--recursive", "-o", output, "--resume", "--window", "slide")
    assert other.returncode == 2
    assert "was made with window first, not slide" in other.stderr
    assert batch(recordings, "--recursive", "-o", output, "--resume").returncode == 1
    assert output.read_bytes() == whole["jsonl"]


def test_an_output_that_exists_is_replaced_only_when_told_to(recordings: Path, tmp_path: Path) -> None:
    output = tmp_path / "results.csv"
    output.write_text("precious")
    refused = batch(recordings, "-o", output)
    assert refused.returncode == 2
    assert "--force" in refused.stderr
    assert output.read_text() == "precious"
    assert batch(recordings, "-o", output, "--force").returncode == 0
    assert output.read_text().count("\n") == 1 + 3


def test_without_recursive_only_the_folder_itself_is_looked_through(recordings: Path, tmp_path: Path) -> None:
    output = tmp_path / "results.jsonl"
    batch(recordings, "-o", output)
    assert [json.loads(line)["file"] for line in output.read_text().splitlines()] == [str(recordings / "雨.wav")]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_full_disk_leaves_no_output_and_the_run_can_go_on(
    recordings: Path, whole: dict[str, bytes], tmp_path: Path, suffix: str
) -> None:
    output = tmp_path / f"results.{suffix}"
    arguments = (recordings, "--recursive", "-o", output, "--embeddings", tmp_path / "kept")
    full = batch(*arguments, limit=20_000)
    assert full.returncode == 2
    assert "kept cannot hold embeddings (File too large)" in full.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert batch(*arguments).returncode == 1
    assert output.read_bytes() == whole[suffix]
    output.unlink()
    full = batch(*arguments, limit=5_000)
    assert full.returncode == 2
    assert "cannot be written (File too large)" in full.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize(
    ("output", "complaint"),
    [
        ("none/results.csv", "make it first"),
        ("file/results.csv", "make it first"),
        ("results.txt", "ends in none of .csv, .jsonl, .parquet"),
        ("pipe.csv", "is not a regular file"),
        ("folder.csv", "is not a regular file"),
    ],
)
def test_an_output_that_cannot_be_written_is_said_before_anything_is_heard(
    recordings: Path, tmp_path: Path, output: str, complaint: str
) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    before = set(tmp_path.iterdir())
    done = batch(recordings, "-o", tmp_path / output, "--force")
    assert done.returncode == 2
    assert complaint in done.stderr
    assert set(tmp_path.iterdir()) == before


def test_kept_embeddings_are_scored_without_their_recordings(recordings: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    kept, output = tmp_path / "kept", tmp_path / "results.csv"
    subprocess.run(["cp", "-r", recordings, moved], check=True)  # noqa: S607 - a command of the system
    (moved / DAMAGED).unlink()
    assert batch(moved, "--recursive", "-o", output, "--embeddings", kept).returncode == 0
    heard = output.read_bytes()
    subprocess.run(["rm", "-r", moved], check=True)  # noqa: S607 - a command of the system
    assert batch("-o", output, "--embeddings", kept, "--force").returncode == 0
    assert output.read_bytes() == heard
    refused = batch("-o", output, "--embeddings", kept, "--force", "--window", "slide")
    assert refused.returncode == 2
    assert "--window" in refused.stderr


def test_a_folder_without_recordings_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no sound")
    done = batch(tmp_path, "-o", tmp_path / "results.csv")
    assert done.returncode == 1
    assert "passed over 1 file without sound" in done.stderr
    assert "--recursive" in done.stderr


def test_what_a_file_holds_decides_and_its_name_helps(recordings: Path, tmp_path: Path) -> None:
    picture, text, empty = tmp_path / "a.heic", tmp_path / "b", tmp_path / "c.mp3"
    picture.write_bytes(b"\x00\x00\x00\x18ftypheic")
    text.write_bytes(b"\xff\xfet\x00e\x00x\x00t\x00")
    empty.touch()
    assert [is_recording(str(path)) for path in (picture, text, empty)] == [False, False, True]
    found = find_recordings([recordings, recordings / "雨.wav"], recursive=True)
    assert len(found.files) == COUNT + 2
    assert found.skipped == 1


def test_progress_names_the_rate_and_the_time_left() -> None:
    assert progress.describe(600, 2000, 10.0, known=500, failed=2) == "600 of 2000, 10.0/s, 2:20 left, 2 failed"
    assert progress.describe(600, 100_600, 10.0, known=500) == "600 of 100600, 10.0/s, 2:46:40 left"
    assert progress.describe(0, 10, 0.0) == "0 of 10, 0.0/s"


def test_progress_is_drawn_step_by_step_and_leaves_no_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 1.0, 1.1, 2.0, 4.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with progress.StepProgress(shown=True) as line:
        for step, done in (("reading", 0), ("reading", 10), ("reading", 11), ("judging", 0), ("judging", 4)):
            line(step, done, 20)
    drawn = capsys.readouterr().err  # click leaves out what wipes a line where there is no terminal
    assert drawn == "\rreading: 10 of 20, 10.0/s, 0:01 left\rjudging: 4 of 20, 2.0/s, 0:08 left\r"
    with progress.StepProgress(shown=False) as line:
        line("reading", 1, 2)
    assert not capsys.readouterr().err
