"""Memory cards: their recordings are found, and what else lies on them is passed over and counted."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clapedge.audio.discovery import find_recordings
from clapedge.errors import AudioError

Run = Callable[..., Any]
"""The fixture `run`: gives what `conftest.Done` describes."""

LABELS = ("-l", "rain", "-l", "siren")


@pytest.fixture
def card(noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a memory card as Windows, macOS and Linux leave it, one folder of which cannot be read."""
    card = tmp_path / "card"
    names = ["DCIM/a.wav", "DCIM/._a.wav", ".Trashes/501/gone.wav", "SYSTEM VOLUME INFORMATION/x.wav"]
    for name in [*names, "$RECYCLE.BIN/y.wav", "lost+found/#7.wav", "broken/z.wav", ".DS_Store"]:
        (card / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(noise, card / name)
    scandir = os.scandir

    def failing(folder: str | int) -> Any:  # noqa: ANN401 - as os.scandir
        if folder == str(card / "broken"):
            raise PermissionError(errno.EACCES, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr("os.scandir", failing)
    return card


def test_a_memory_card_gives_its_recordings_and_what_is_passed_over(card: Path) -> None:
    found = find_recordings([card], recursive=True)
    assert found.files == (str(card / "DCIM" / "a.wav"),)
    names = [".DS_Store", ".Trashes", "DCIM/._a.wav", "SYSTEM VOLUME INFORMATION", "$RECYCLE.BIN", "lost+found"]
    assert found.hidden == tuple(sorted(str(card / name) for name in names))
    assert found.unreadable == ((str(card / "broken"), "Permission denied"),)
    hidden, unreadable = found.notes()
    assert hidden == f"passed over 6 hidden files and folders, such as {found.hidden[0]}"
    assert unreadable == f"passed over 1 folder that cannot be read, such as {card / 'broken'} (Permission denied)"


def test_hidden_files_are_taken_if_they_are_asked_for_or_named(card: Path) -> None:
    found = find_recordings([card], recursive=True, hidden=True)
    assert len(found.files) == 7  # .DS_Store is a recording by its content here
    assert (found.hidden, len(found.unreadable)) == ((), 1)
    named = find_recordings([card / "DCIM", card / "DCIM" / "._a.wav", card / ".Trashes" / "501"])
    assert len(named.files) == 3
    assert not named.hidden


def test_a_named_folder_that_cannot_be_read_is_an_error(card: Path) -> None:
    with pytest.raises(AudioError, match=r"broken cannot be read \(Permission denied\)"):
        find_recordings([card / "broken"])


def test_a_batch_over_a_card_notes_once_what_it_passed_over(card: Path, tmp_path: Path, run: Run) -> None:
    done = run("batch", card, "--recursive", *LABELS, "-o", tmp_path / "out.jsonl")
    assert done.code == 0, done.err
    assert done.err.count("passed over") == 2
    assert "--hidden takes what is hidden" in done.err
    done = run("batch", card, "--recursive", "--hidden", *LABELS, "-o", tmp_path / "all.jsonl")
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == 7
