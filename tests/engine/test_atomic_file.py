"""Files that are written: whole or not at all, never in another one's place unasked, and refused before the work."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clapedge.atomic_file import atomic_write, check_target
from clapedge.errors import StorageError, UsageError

Run = Callable[..., Any]
"""The fixture `run`: gives what `conftest.Done` describes."""

TOO_LONG = "x" * 250 + ".csv"
"""A name that a folder can hold, but not with what is put behind it while it is written."""


def test_a_file_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_write(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("damaged"), KeyboardInterrupt()])
def test_after_an_error_the_old_file_is_there_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    expected = StorageError if isinstance(error, OSError) else type(error)

    def write_half() -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(expected) as caught:
        write_half()
    if expected is StorageError:
        assert f"{target} cannot be written (No space left on device)" in str(caught.value)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_cannot_be_written_is_refused_beforehand(tmp_path: Path) -> None:
    (tmp_path / "there.csv").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match=r"there\.csv exists; replace it with force=True"):
        check_target(tmp_path / "there.csv", force=False)
    for name in (".", "pipe"):
        with pytest.raises(UsageError, match="is not a regular file"):
            check_target(tmp_path / name, force=True)
    with pytest.raises(UsageError, match="is not a regular file"):
        check_target(tmp_path, force=True, special=True)
    with pytest.raises(UsageError, match=r"new\.txt ends in none of \.csv, \.jsonl"):
        check_target(tmp_path / "new.txt", force=True, suffixes=(".csv", ".jsonl"))
    with pytest.raises(UsageError, match=r"there\.csv is what will be read"):
        check_target(tmp_path / "there.csv", force=True, inputs=["-", tmp_path / "there.csv"])
    with pytest.raises(UsageError, match="does not exist; make it first"):
        check_target(tmp_path / "none" / "a.csv", force=False)
    with pytest.raises(StorageError, match=r"x\.csv cannot be written \(File name too long\)"):
        check_target(tmp_path / TOO_LONG, force=False)
    before = set(tmp_path.iterdir())
    for name in ("there.csv", "new.CSV", "pipe"):
        suffixes = () if name == "pipe" else (".csv",)
        check_target(tmp_path / name, force=True, special=True, suffixes=suffixes, inputs=["none.wav"])
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "command",
    [
        ("timeline", "RECORDING", "-l", "rain,siren", "-o"),
        ("timeline", "RECORDING", "-l", "rain,siren", "--plot"),
        ("labels", "embed", "-l", "rain,siren", "-o"),
        ("batch", "RECORDING", "-l", "rain,siren", "-o"),
    ],
    ids=" ".join,
)
def test_no_command_replaces_a_file_unless_it_is_told_to(
    run: Run, noise: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    if command[-1] == "--plot":
        pytest.importorskip("matplotlib", reason="matplotlib is the extra `plot`")
    suffix = {"timeline": ".svg", "labels": ".npz", "batch": ".csv"}[command[0]]
    target = tmp_path / f"precious{suffix}"
    target.write_text("precious")
    arguments = [str(noise) if word == "RECORDING" else word for word in command]
    done = run(*arguments, target)
    assert done.code == 2
    assert "exists; replace it with --force" in done.complaint
    assert target.read_text() == "precious"
    assert run(*arguments, target, "--force").code == 0
    assert target.read_bytes() != b"precious"
    unwritable = tmp_path / TOO_LONG.replace(".csv", suffix)
    done = run(*arguments, unwritable)
    assert done.code == 2
    assert f"{unwritable} cannot be written" in done.complaint
    assert ".tmp" not in done.err


def test_a_timeline_that_cannot_be_drawn_is_refused_before_it_is_heard(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is the extra `plot`")
    done = run("timeline", tmp_path / "none.wav", "-l", "rain", "--plot", tmp_path / "none" / "plot.png")
    assert done.code == 2
    assert "make it first" in done.complaint
    assert "none.wav" not in done.err


def test_a_picture_needs_its_extra_before_the_recording_is_heard(
    run: Run, noise: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clapedge.cli.timeline.find_spec", lambda _: None)
    done = run("timeline", noise, "-l", "rain", "--plot", "plot.png")
    assert done.code == 2
    assert "pip install 'clapedge[plot]'" in done.complaint
    assert done.out == ""
