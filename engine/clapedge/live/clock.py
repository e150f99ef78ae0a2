"""Time: how long things take, and when sound was heard.

Durations are counted by a clock that nobody can set, sound by its samples. The wall clock only stamps: the stamp of a
sound is that of the first sample plus the seconds of samples since. Where stamps and wall clock drift apart (a sound
card that is not exact, a clock that was set) they are joined anew, and that is said.
"""

import time
from datetime import datetime, timedelta, timezone
from typing import Protocol

DRIFT_SECONDS = 2.0
"""Stamps that are no farther from the wall clock stay: a pipe delivers by fits and starts."""

SET_SECONDS = 0.5
"""A wall clock that moved by more against the clock that nobody can set was set; time servers slew by less."""


class Clock(Protocol):
    """What tells the time."""

    def monotonic(self) -> float:
        """Return the seconds of a clock that nobody can set."""
        ...

    def wall(self) -> float:
        """Return the seconds since 1970 in UTC."""
        ...


class SystemClock:
    """The clock of this machine."""

    def monotonic(self) -> float:
        """Return the seconds of a clock that nobody can set."""
        return time.monotonic()

    def wall(self) -> float:
        """Return the seconds since 1970 in UTC."""
        return time.time()


class Stamps:
    """Stamps sounds with the time at which they were heard."""

    def __init__(self, began: datetime | None = None) -> None:
        """Begin without an anchor, or with the time of the first sample, from which stamps are then counted alone.

        Args:
            began: when the first sample was heard; None takes the wall clock, and follows it.
        """
        self._fixed = began is not None
        self._anchor: float | None = began.timestamp() if began else None
        self._joined = 0
        self._ahead = 0.0  # of the wall clock, against the one that nobody can set

    def follow(self, sounded: float, *, monotonic: float, wall: float, fresh: bool) -> str | None:
        """Take note of when sound arrived, and return what is to be said of it.

        Args:
            sounded: where the sound that arrived ends, in seconds of sound.
            monotonic: when it arrived, by the clock that nobody can set.
            wall: when it arrived, by the wall clock.
            fresh: whether it is the first after a pause, whose length is unknown.
        """
        if self._fixed:
            return None
        if self._anchor is None or fresh:
            self._anchor, self._ahead = wall - sounded, wall - monotonic
            return None
        drift = wall - (self._anchor + sounded)
        if abs(drift) <= DRIFT_SECONDS:
            return None
        was_set = wall - monotonic - self._ahead
        self._anchor, self._ahead = wall - sounded, wall - monotonic
        self._joined += 1
        if self._joined & (self._joined - 1):
            return None  # said once, and after each doubling: a source that is not live drifts for ever
        if abs(was_set) > SET_SECONDS:
            return f"the clock was set by {was_set:+.1f} s; stamps follow it from here on"
        side = "behind" if drift > 0 else "ahead of"
        return f"the sound runs {abs(drift):.1f} s {side} the clock; stamps are joined to the clock anew"

    def at(self, sounded: float) -> str:
        """Return the stamp of a place in the sound, in ISO 8601 and UTC, to the millisecond."""
        epoch = datetime.fromtimestamp(0, tz=timezone.utc)
        stamp = epoch + timedelta(milliseconds=round(1e3 * ((self._anchor or 0.0) + sounded)))
        return stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")
