"""Hours of the day at which a source is listened to, by the clock on the wall: daylight saving moves them with it."""

import re
from dataclasses import dataclass
from datetime import datetime

from clapedge.errors import UsageError

DAY_MINUTES = 24 * 60

SPAN = re.compile(r"\s*(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})\s*")
"""From one time of the day to another, such as 22:00-06:30."""


@dataclass(frozen=True)
class Hours:
    """Spans of the day, each from its first minute to the one before its last, over midnight where it ends earlier.

    Attributes:
        spans: (first, last) in minutes since midnight, 0 to 1440.
    """

    spans: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, text: str) -> "Hours":
        """Read spans such as `06:00-09:30,22:00-02:00`.

        Raises:
            UsageError: it is something else.
        """
        return cls(tuple(_span(part, text) for part in text.split(",")))

    def __str__(self) -> str:
        """Return the spans as they are read."""
        times = ((f"{minute // 60:02}:{minute % 60:02}" for minute in span) for span in self.spans)
        return ",".join("-".join(span) for span in times)

    def contain(self, seconds: float) -> bool:
        """Return whether a time (seconds since 1970) lies within them, in this machine's time zone."""
        local = datetime.fromtimestamp(seconds)  # noqa: DTZ006 - the zone of this machine is meant
        minute = 60 * local.hour + local.minute
        return any(
            first <= minute < last if first < last else minute >= first or minute < last for first, last in self.spans
        )


def _span(part: str, text: str) -> tuple[int, int]:
    """Return one span in minutes."""
    found = SPAN.fullmatch(part)
    first, last = (60 * int(found[at]) + int(found[at + 1]) for at in (1, 3)) if found else (0, 0)
    minutes = found and all(int(found[at]) < 60 for at in (2, 4))  # noqa: PLR2004 - minutes of an hour
    if not minutes or first == last or first >= DAY_MINUTES or last > DAY_MINUTES:
        raise UsageError(f"hours is {text!r}; give spans of the day, such as 06:00-22:00 or 22:00-02:00,05:30-07:00")
    return first, last
