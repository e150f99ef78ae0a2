"""Which clips stay: by size, by age, by label."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from clapedge.cli import cli
from clapedge.errors import UsageError
from clapedge.live.clip_files import DAY_SECONDS, ClipFiles, parse_days, words_of
from clapedge.live.clip_recorder import ClipStore
from clapedge.live.clock import iso_time

NEW_YEAR = datetime(2026, 1, 1, tzinfo=timezone.utc)


def name_of(number: int, label: str = "dog") -> str:
    """Return the name of the clip of an event that began so many hours into the year."""
    at = NEW_YEAR + timedelta(hours=number)
    return f"{at:%Y%m%dT%H%M%S}000Z-{words_of(label)}-0a1b-{number}.flac"


def put(directory: Path, number: int, label: str = "dog", size: int = 100) -> Path:
    """Write a clip."""
    path = directory / name_of(number, label)
    path.write_bytes(bytes(size))
    return path


def names(directory: Path) -> list[str]:
    """Return what is there."""
    return sorted(path.name for path in directory.iterdir())


def test_the_label_that_takes_most_loses_its_oldest_clip(tmp_path: Path) -> None:
    put(tmp_path, 0, "breaking glass")
    files = ClipFiles(tmp_path, max_bytes=500)
    for number in range(1, 20):
        files.add(put(tmp_path, number))
    assert names(tmp_path) == sorted([name_of(0, "breaking glass"), *(name_of(number) for number in range(16, 20))])


def test_clips_of_earlier_runs_count_unfinished_ones_go_and_other_files_stay(tmp_path: Path) -> None:
    for number in range(5):
        put(tmp_path, number)
    unfinished = tmp_path / f"{name_of(9)}.tmp"
    unfinished.touch()
    others = [tmp_path / "holiday.flac", tmp_path / "20269999T000000000Z-dog-0a1b-1.flac"]
    for path in others:
        path.write_bytes(bytes(1000))
    files = ClipFiles(tmp_path, max_bytes=300)
    assert not unfinished.exists()
    files.add(put(tmp_path, 5))
    assert names(tmp_path) == sorted([name_of(3), name_of(4), name_of(5), *(path.name for path in others)])


@given(
    sizes=st.lists(st.tuples(st.sampled_from(["dog", "siren", "owl"]), st.integers(1, 300)), min_size=1, max_size=30)
)
def test_the_latest_clip_stays_and_the_rest_fits(
    sizes: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("clips")
    files = ClipFiles(directory, max_bytes=500)
    for number, (label, size) in enumerate(sizes):
        path = put(directory, number, label, size)
        files.add(path)
        assert path.exists()
        assert sum(each.stat().st_size for each in directory.iterdir()) <= 500


def test_age_deletes_by_label_at_the_time_of_what_is_heard(tmp_path: Path) -> None:
    days = parse_days(["2", "breaking glass=5", "a=b=1"])
    assert days == {None: 2.0, "breaking-glass": 5.0, "a-b": 1.0}
    for number, label in ((0, "dog"), (0, "breaking glass"), (30, "dog")):
        put(tmp_path, number, label)
    files, began = ClipFiles(tmp_path, max_bytes=10**6, days=days), NEW_YEAR.timestamp()
    files.expire(began + 2 * DAY_SECONDS - 1)
    assert len(names(tmp_path)) == 3
    files.expire(began + 2 * DAY_SECONDS)
    assert names(tmp_path) == sorted([name_of(0, "breaking glass"), name_of(30)])
    files.expire(began + 4.9 * DAY_SECONDS)
    assert names(tmp_path) == [name_of(0, "breaking glass")]
    files.expire(began + 5 * DAY_SECONDS)
    assert not names(tmp_path)


def test_a_store_deletes_what_is_too_old_as_time_goes_by(tmp_path: Path) -> None:
    store = ClipStore(tmp_path, max_bytes=10**6, voices="keep", days={None: 1.0})
    began = NEW_YEAR.timestamp()
    for day in (0, 1):
        store.keep(iso_time(began + day * DAY_SECONDS), "dog", f"0a1b-{day}", np.zeros(480, np.int16))
    store.expire(began + DAY_SECONDS)
    assert names(tmp_path) == ["20260102T000000000Z-dog-0a1b-1.flac"]


@pytest.mark.parametrize("text", ["", "soon", "siren=", "0", "siren=-1", "nan", "inf", "siren"])
def test_days_that_are_none_are_an_error(text: str) -> None:
    with pytest.raises(UsageError, match="keep_days is"):
        parse_days([text])


def test_days_without_clips_are_an_error() -> None:
    done = CliRunner().invoke(cli, ["listen", "-", "--rate", "16000", "-l", "dog", "--keep-days", "3"])
    assert "--keep-days is for --keep" in str(done.exception)
