"""Names of files as users have them: every recording is answered, and every record can be read back to its path."""

import csv
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clapedge.terminal import path_of, record_name

Run = Callable[..., Any]
"""The fixture `run`: gives what `conftest.Done` describes."""

LABELS = ("-l", "rain", "-l", "siren")

NAMES = (
    os.fsdecode(b"T\xfcr.wav"),
    os.fsdecode(b"\xd3\xea.wav"),  # GBK
    r"T\udcfcr.wav",
    "line\nbreak.wav",
    "\x1b[2Jclear.wav",
    '"quoted", comma; =1+1.wav',
    "-l.wav",
    "雨" * 80 + ".wav",
)

posix_only = pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="its file names are always Unicode")


@pytest.fixture
def odd(noise: Path, tmp_path: Path) -> Path:
    """Make a folder of one recording under many odd names, and of a damaged one."""
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in NAMES:
        shutil.copyfile(noise, folder / name)
    (folder / os.fsdecode(b"damaged \xff.wav")).write_bytes(b"RIFF")
    return folder


def paths_in(folder: Path) -> set[str]:
    """Return the paths in a folder as the system has them."""
    return {os.fspath(path) for path in folder.iterdir()}


@given(st.binary())
def test_a_record_holds_any_path_in_a_form_that_leads_back(path: bytes) -> None:
    name = record_name(os.fsdecode(path))
    name.encode()
    assert os.fsencode(path_of(name)) == path


@given(st.text(st.sampled_from("\\udc5fe8 \udcff\udc80"), max_size=20))
def test_names_that_look_like_escapes_are_told_apart(path: str) -> None:
    assert path_of(record_name(path)) == path


@pytest.mark.parametrize("path", ["a.wav", "雨/Tür.wav", r"C:\users\data\udc.wav", "a\nb", r"\udcf", r"\u96e8"])
def test_a_name_of_text_stays_as_it_is(path: str) -> None:
    assert record_name(path) == path


@posix_only
@pytest.mark.parametrize("output_format", ["table", "json", "jsonl", "csv"])
def test_every_odd_name_is_scored_in_every_format(run: Run, odd: Path, output_format: str) -> None:
    paths = sorted(paths_in(odd))
    done = run("score", *paths, *LABELS, "--format", output_format)
    assert done.code == 1, done.err
    assert done.err.count("error: ") == 1
    if output_format == "table":
        assert done.out.count("demo weights") == len(NAMES)
        assert all(line.isprintable() for line in done.out.splitlines())
        return
    if output_format == "csv":
        names = {row["file"] for row in csv.DictReader(io.StringIO(done.out, newline=""))}
    else:
        records = json.loads(done.out) if output_format == "json" else map(json.loads, done.out.splitlines())
        names = {record["file"] for record in records}
    assert {path_of(name) for name in names} == set(paths)


@posix_only
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_every_odd_name_is_in_a_batch_and_in_its_store(run: Run, odd: Path, tmp_path: Path, suffix: str) -> None:
    output, kept = tmp_path / f"out.{suffix}", tmp_path / "kept"
    done = run("batch", odd, *LABELS, "-o", output, "--embeddings", kept)
    assert done.code == 1, done.err
    stored = [json.loads(line)["file"] for line in (kept / "index.jsonl").read_text("utf-8").splitlines()]
    assert {path_of(name) for name in stored} == {path for path in paths_in(odd) if "damaged" not in path}
    again = run("batch", odd, *LABELS, "-o", output, "--embeddings", kept, "--force")
    assert f"{len(NAMES)} of {len(NAMES) + 1} recordings had been embedded before" in again.err
    found = run("search", "rain", "--embeddings", kept, "--format", "jsonl")
    assert {path_of(json.loads(line)["file"]) for line in found.out.splitlines()} <= paths_in(odd)
    if suffix == "jsonl":
        records = map(json.loads, output.read_text("utf-8").splitlines())
        assert {path_of(record["file"]) for record in records} == paths_in(odd)


@posix_only
@pytest.mark.parametrize("output_format", ["table", "csv", "jsonl", "audacity", "raven", "webvtt"])
def test_a_timeline_of_an_odd_name_is_written(run: Run, odd: Path, tmp_path: Path, output_format: str) -> None:
    target = tmp_path / os.fsdecode(b"out\xfc.txt")
    done = run("timeline", odd / NAMES[0], *LABELS, "--format", output_format, "-o", target)
    assert done.code == 0, done.err
    target.read_text("utf-8")


def test_a_name_longer_than_any_file_system_takes_is_one_failed_recording(
    run: Run, noise: Path, tmp_path: Path
) -> None:
    long = tmp_path / ("a" * 300 + ".wav")
    done = run("score", long, noise, *LABELS, "--format", "jsonl")
    assert done.code == 1
    assert [list(json.loads(line))[1] for line in done.out.splitlines()] == ["error", "labels"]
    done = run("batch", long, noise, *LABELS, "-o", tmp_path / "out.jsonl")
    assert done.code == 1, done.err
    done = run("score", noise, "--labels", "a" * 300)
    assert done.code == 2, done.err
    assert "File name too long" in done.err
