"""Hours of the day, and turns at the tower."""

import threading
import time
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clapedge.errors import UsageError
from clapedge.live.hours import Hours
from clapedge.live.turns import Turns

ZONE = "Europe/Berlin"


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> ZoneInfo:
    """Let this process live in a zone with daylight saving."""
    if not hasattr(time, "tzset"):
        pytest.skip("this system's time zone cannot be set for a process")
    monkeypatch.setenv("TZ", ZONE)
    time.tzset()
    return ZoneInfo(ZONE)


@pytest.fixture(autouse=True)
def _own_zone() -> object:
    """Put the zone back after a test."""
    yield
    if hasattr(time, "tzset"):
        time.tzset()


@pytest.mark.parametrize(
    ("spans", "inside", "outside"),
    [
        ("06:00-22:00", ["06:00", "21:59"], ["05:59", "22:00", "00:00"]),
        ("22:00-06:00", ["22:00", "23:59", "00:00", "05:59"], ["06:00", "12:00", "21:59"]),
        ("06:00-09:30, 22:00-24:00", ["09:29", "23:59"], ["09:30", "00:00"]),
        ("00:00-24:00", ["00:00", "23:59"], []),
    ],
)
def test_spans_hold_from_their_first_minute_to_the_one_before_their_last(
    berlin: ZoneInfo, spans: str, inside: list[str], outside: list[str]
) -> None:
    hours = Hours.parse(spans)
    for times, expected in ((inside, True), (outside, False)):
        for text in times:
            hour, minute = map(int, text.split(":"))
            assert hours.contain(datetime(2026, 1, 15, hour, minute, tzinfo=berlin).timestamp()) is expected


@pytest.mark.parametrize(("day", "summer"), [((2026, 3, 29), True), ((2026, 10, 25), False)])
def test_hours_follow_daylight_saving(berlin: ZoneInfo, day: tuple[int, int, int], summer: bool) -> None:  # noqa: FBT001
    hours = Hours.parse("06:00-22:00")
    noon = datetime(*day, 12, 0, tzinfo=berlin)
    assert (noon.utcoffset() or noon - noon).total_seconds() == (7200 if summer else 3600)
    first = datetime(*day, 6, 0, tzinfo=berlin).timestamp()
    assert [hours.contain(first + seconds) for seconds in (-60, 0)] == [False, True]
    last = datetime(*day, 22, 0, tzinfo=berlin).timestamp()
    assert [hours.contain(last + seconds) for seconds in (-60, 0)] == [True, False]


@pytest.mark.parametrize("text", ["", "6-22", "06:00", "06:60-07:00", "25:00-26:00", "06:00-06:00", "24:00-06:00", "x"])
def test_what_is_no_span_is_said(text: str) -> None:
    with pytest.raises(UsageError, match="give spans of the day, such as 06:00-22:00"):
        Hours.parse(text)


@given(st.integers(0, 1439), st.integers(0, 1439), st.integers(0, 1439))
def test_a_span_and_the_rest_of_the_day_share_no_minute(first: int, last: int, minute: int) -> None:
    if first == last:
        return
    moment = datetime(2026, 1, 15, minute // 60, minute % 60).timestamp()  # noqa: DTZ001 - this machine's zone is meant
    one, other = Hours(((first, last),)), Hours(((last, first),))
    assert one.contain(moment) != other.contain(moment)


def test_turns_are_taken_in_the_order_in_which_they_were_asked_for() -> None:
    turns, order, started = Turns(), [], threading.Semaphore(0)

    def work(number: int) -> None:
        started.release()
        with turns:
            order.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    with turns:
        for number, thread in enumerate(threads):
            thread.start()
            started.acquire()
            while turns._asked < number + 2:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert order == list(range(8))


def test_an_error_during_a_turn_passes_it_on() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="mine"), turns:
        raise ValueError("mine")
    with turns:
        pass
