"""The buffer and the clock: nothing is lost without being counted, and stamps follow the clock."""

import threading
from datetime import datetime, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clapedge.live.buffer import AudioBuffer, Chunk
from clapedge.live.clock import Stamps


def chunk(start: float, seconds: float = 1.0) -> Chunk:
    """Return silence at 1000 Hz."""
    return Chunk(np.zeros((round(1000 * seconds), 1), np.float32), 1000, start, fresh=False, monotonic=0.0, wall=0.0)


@given(steps=st.lists(st.one_of(st.floats(0.1, 3.0), st.none()), max_size=60))
def test_what_is_pushed_is_popped_dropped_or_waits(steps: list[float | None]) -> None:
    buffer, at, waiting = AudioBuffer(5.0), 0.0, 0
    for step in steps:
        if step is None:
            buffer.pop(0.0)
        else:
            buffer.push(chunk(at, step))
            at += step
        waiting = buffer.pushed - buffer.popped - buffer.dropped
        assert 0 <= waiting <= 5000
    buffer.close()
    while buffer.pop(0.0) != "ended":
        pass
    assert buffer.pushed == buffer.popped + buffer.dropped
    assert buffer.dropped_seconds == pytest.approx(buffer.dropped / 1000)


def test_a_full_buffer_drops_the_oldest_half_at_once() -> None:
    buffer = AudioBuffer(10.0)
    for second in range(11):
        buffer.push(chunk(float(second)))
    first = buffer.pop(0.0)
    assert isinstance(first, Chunk)
    assert (first.start, buffer.dropped, buffer.drops) == (6.0, 6000, 1)


def test_a_source_that_waits_loses_nothing() -> None:
    buffer = AudioBuffer(2.0, lossless=True)

    def write() -> None:
        for second in range(50):
            buffer.push(chunk(float(second)))
        buffer.close()

    writer = threading.Thread(target=write)
    writer.start()
    starts = []
    while isinstance(popped := buffer.pop(10.0), Chunk):
        starts.append(popped.start)
    writer.join()
    assert starts == [float(second) for second in range(50)]
    assert buffer.dropped == 0


def test_a_closed_buffer_is_distinct_from_a_stalled_one() -> None:
    buffer = AudioBuffer(2.0)
    assert buffer.pop(0.0) == "stalled"
    buffer.close()
    buffer.push(chunk(0.0))
    assert (buffer.pop(0.0), buffer.pushed) == ("ended", 0)


def test_small_drift_leaves_stamps_alone_and_a_sound_card_that_is_not_exact_is_followed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stamps = Stamps()
    stamps.follow(1.0, monotonic=101.0, wall=1001.0, fresh=True)
    assert stamps.at(0.0) == "1970-01-01T00:16:40.000Z"
    stamps.follow(50.0, monotonic=151.5, wall=1051.5, fresh=False)
    assert caplog.messages == []
    stamps.follow(100.0, monotonic=202.5, wall=1102.5, fresh=False)
    assert caplog.messages == ["the sound runs 2.5 s behind the clock; stamps are synchronised to the clock"]
    assert stamps.at(100.0) == "1970-01-01T00:18:22.500Z"


def test_a_clock_that_was_set_is_followed_and_distinguished_from_drift(caplog: pytest.LogCaptureFixture) -> None:
    stamps = Stamps()
    stamps.follow(1.0, monotonic=101.0, wall=1001.0, fresh=True)
    stamps.follow(2.0, monotonic=102.0, wall=4602.0, fresh=False)
    assert caplog.messages == ["the clock was set by +3600.0 s; stamps follow it from here on"]
    assert stamps.at(2.0) == "1970-01-01T01:16:42.000Z"
    stamps.follow(3.0, monotonic=103.0, wall=4603.0, fresh=False)
    assert len(caplog.messages) == 1


def test_the_drift_of_a_source_that_is_not_live_is_logged_seldom(caplog: pytest.LogCaptureFixture) -> None:
    stamps = Stamps()
    for second in range(1000):
        stamps.follow(20.0 * second, monotonic=float(second), wall=float(second), fresh=not second)
    assert len(caplog.messages) == 10
    assert stamps.at(20.0 * 999) == "1970-01-01T00:16:39.000Z"


def test_stamps_from_a_given_time_follow_no_clock(caplog: pytest.LogCaptureFixture) -> None:
    stamps = Stamps(datetime(2026, 1, 1, tzinfo=timezone.utc))
    stamps.follow(5.0, monotonic=0.0, wall=0.0, fresh=True)
    stamps.follow(500.0, monotonic=1.0, wall=1.0, fresh=False)
    assert caplog.messages == []
    assert stamps.at(3600.5) == "2026-01-01T01:00:00.500Z"
