"""Time: how long things take, and when sound was recorded.

Durations are measured by the monotonic clock, sound by its samples. The wall clock only stamps: the stamp of a sound is
that of the first sample plus the seconds of samples since. If stamps and wall clock drift apart (a sound card that is
not exact, a clock that was set), they are synchronised again, which is logged.
"""

import logging
import time
from datetime import datetime, timedelta, timezone
from typing import Protocol

from clapedge.live.backoff import is_power_of_two

logger = logging.getLogger("clapedge.live")

DRIFT_SECONDS = 2.0
"""Stamps within so much of the wall clock stay: a pipe delivers by fits and starts."""

SET_SECONDS = 0.5
"""A wall clock that moved by more against the monotonic one was set; time servers slew by less."""


class Clock(Protocol):
    """The two clocks of a machine."""

    def monotonic(self) -> float:
        """Return the seconds of a clock that cannot be set."""
        ...

    def wall(self) -> float:
        """Return the seconds since 1970 in UTC."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def monotonic(self) -> float:
        """Return the seconds of a clock that cannot be set."""
        return time.monotonic()

    def wall(self) -> float:
        """Return the seconds since 1970 in UTC."""
        return time.time()


class Stamps:
    """The times at which sounds were recorded."""

    def __init__(self, began: datetime | None = None) -> None:
        """Begin with the time of the first sample, from which samples are counted; None follows the wall clock."""
        self._fixed = began is not None
        self._anchor: float | None = began.timestamp() if began else None
        self._synchronised = 0
        self._offset = 0.0  # of the wall clock against the monotonic one

    def follow(self, position: float, *, monotonic: float, wall: float, fresh: bool) -> None:
        """Follow the wall clock, unless the first sample has a given time.

        Args:
            position: where the sound that arrived ends, in seconds of sound.
            monotonic: when it arrived, by the monotonic clock.
            wall: when it arrived, by the wall clock.
            fresh: whether it is the first after a pause of unknown length.
        """
        if self._fixed:
            return
        if self._anchor is None or fresh:
            self._anchor, self._offset = wall - position, wall - monotonic
            return
        drift = wall - (self._anchor + position)
        if abs(drift) <= DRIFT_SECONDS:
            return
        was_set = wall - monotonic - self._offset
        self._anchor, self._offset = wall - position, wall - monotonic
        self._synchronised += 1
        if not is_power_of_two(self._synchronised):  # a source that is not live drifts for ever
            return
        if abs(was_set) > SET_SECONDS:
            logger.warning("the clock was set by %+.1f s; stamps follow it from here on", was_set)
            return
        side = "behind" if drift > 0 else "ahead of"
        logger.info("the sound runs %.1f s %s the clock; stamps are synchronised to the clock", abs(drift), side)

    def seconds(self, position: float) -> float:
        """Return the time of a position in the sound, in seconds since 1970."""
        return (self._anchor or 0.0) + position

    def at(self, position: float) -> str:
        """Return the stamp of a position in the sound, in ISO 8601 and UTC, to the millisecond."""
        return iso_time(self.seconds(position))


def iso_time(seconds: float) -> str:
    """Return a time (seconds since 1970) in ISO 8601 and UTC, to the millisecond."""
    stamp = datetime.fromtimestamp(0, tz=timezone.utc) + timedelta(milliseconds=round(1e3 * seconds))
    return stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")
