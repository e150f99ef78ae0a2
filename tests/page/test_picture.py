"""The picture of a recording: columns that join as they come, a waveform, and shades of the log-mel."""

from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clapedge.audio import BlockDecoder
from clapedge.features.clips import ClipMaker
from clapedge.model.bundle import Bundle

picture = pytest.importorskip("clapedge.serve.page.picture", reason="clapedge[web] is not installed")
RATE = 48_000


@pytest.fixture(scope="module")
def clip_maker() -> ClipMaker:
    return ClipMaker(Bundle.open(None).manifest.front_end)


def tone(hertz: float, seconds: float, level: float = 0.5) -> npt.NDArray[np.float32]:
    """Return a sine."""
    return np.asarray(level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE), np.float32)


def drawing_of(samples: npt.NDArray[np.float32], clip_maker: ClipMaker, max_seconds: float | None = None) -> Any:  # noqa: ANN401 - a Picture, if the extra is installed
    """Draw samples to their end."""
    drawing = picture.Drawing(samples, clip_maker, max_seconds=max_seconds)
    for _ in drawing:
        pass
    return drawing.picture()


@given(st.lists(st.integers(0, 90), max_size=12), st.sampled_from([2, 4, 10]))
def test_columns_hold_every_row_once_and_in_order_however_the_rows_come(sizes: list[int], most: int) -> None:
    columns = picture.Columns(np.add, most)
    rows = np.stack([np.arange(sum(sizes)), np.ones(sum(sizes))], axis=1).astype(float)
    for part in np.split(rows, np.cumsum(sizes)[:-1]) if sizes else []:
        columns.add(part)
    joined = columns.rows().reshape(-1, 2)
    assert joined.sum(axis=0).tolist() == rows.sum(axis=0).tolist()
    assert len(joined) <= most
    means = joined[:, 0] / np.maximum(joined[:, 1], 1)
    assert (np.diff(means) > 0).all()


def test_the_waveform_reaches_as_far_as_the_samples_where_they_do(clip_maker: ClipMaker) -> None:
    quiet, loud = tone(440, 2, level=0.1), tone(440, 2, level=0.8)
    drawn = drawing_of(np.concatenate([quiet, loud]), clip_maker)
    high, low = np.frombuffer(b64decode(drawn.waveform), np.int8).reshape(-1, 2).T / 127
    middle = len(high) // 2
    assert high[: middle - 2].max() == pytest.approx(0.1, abs=0.01)
    assert high[middle + 2 :].max() == pytest.approx(0.8, abs=0.01)
    assert low.min() == pytest.approx(-0.8, abs=0.01)


def test_the_brightest_band_is_the_one_of_the_tone(clip_maker: ClipMaker) -> None:
    drawn = drawing_of(tone(1000, 3), clip_maker)
    shades = np.frombuffer(b64decode(drawn.mel), np.uint8).reshape(-1, len(drawn.hertz))
    assert drawn.hertz[int(shades.mean(axis=0).argmax())] == pytest.approx(1000, rel=0.06)
    assert (drawn.end, drawn.of) == (3.0, 3.0)


@pytest.mark.parametrize("samples", [1, 100, 1024, 1025, 5000])
def test_the_shortest_recordings_are_drawn_too(clip_maker: ClipMaker, samples: int) -> None:
    drawn = drawing_of(np.full(samples, 0.5, np.float32), clip_maker)
    assert len(b64decode(drawn.waveform)) >= 2
    assert len(b64decode(drawn.mel)) % len(drawn.hertz) == 0


def test_no_more_is_read_than_was_allowed_and_the_picture_ends_there(clip_maker: ClipMaker) -> None:
    drawn = drawing_of(tone(440, 5), clip_maker, max_seconds=2.0)
    assert (drawn.end, drawn.of) == (2.0, 5.0)


def test_leaving_the_drawing_reads_no_further(clip_maker: ClipMaker) -> None:
    read = 0

    def blocks() -> Iterator[npt.NDArray[np.float32]]:
        nonlocal read
        for _ in range(600):
            read += 1
            yield tone(440, 1)

    for _ in picture.Drawing(BlockDecoder(blocks(), RATE), clip_maker):
        break
    assert 10 <= read < 60
