"""Times of calls: warmed up, long enough, and as medians."""

import time
from collections.abc import Callable

import numpy as np

WARM_UP_SECONDS = 0.3
"""The clock of an idle GPU needs some tenths of a second to rise."""

SECONDS = 0.8
FEWEST_CALLS = 20


def timings(call: Callable[[], object], *, seconds: float = SECONDS) -> dict[str, float]:
    """Call again and again; return median and 99th percentile in ms.

    Args:
        call: returns when its work is done, on the device too.
        seconds: how long the measured calls last at least; the same once more, at most `WARM_UP_SECONDS`, warms up.
    """
    _times(call, min(seconds, WARM_UP_SECONDS), 3)
    taken = _times(call, seconds, FEWEST_CALLS)
    return {
        "p50_ms": round(float(np.median(taken)), 4),
        "p99_ms": round(float(np.percentile(taken, 99)), 4),
        "calls": len(taken),
    }


def _times(call: Callable[[], object], seconds: float, fewest: int) -> list[float]:
    """Return the times in ms of calls that last so long together, and are so many at least."""
    taken: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or len(taken) < fewest:
        start = time.perf_counter()
        call()
        taken.append(1e3 * (time.perf_counter() - start))
    return taken
