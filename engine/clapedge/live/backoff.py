"""How soon something that failed is tried again, and how often that is logged."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before the second try: doubled each time, up to a minute."""


def backoff(failures: int) -> float:
    """Return the seconds to wait after so many failures in a row, at least one."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 30))


def is_power_of_two(count: int) -> bool:
    """Return whether a count, at least 1, is a power of two: what repeats is logged at these, to keep logs short."""
    return count & (count - 1) == 0
