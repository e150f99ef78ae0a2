"""Work on many things side by side, a core each."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from clapedge.model.cpu import usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield what `work` returns for each item, in their order; it is called in threads.

    An interruption ends it after the items that have begun, even if a library hides it from the main thread:
    libsndfile reads through callbacks, and an exception in one of those is lost.
    """
    with ThreadPoolExecutor(usable_cores()) as pool:
        try:
            yield from pool.map(work, items)
        finally:
            pool.shutdown(cancel_futures=True)
