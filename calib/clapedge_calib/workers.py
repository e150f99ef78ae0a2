"""Work on many things side by side, a core each."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from clapedge.model.cpu import usable_cores
from clapedge_calib.progress import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Item], Result], items: Sequence[Item], *, progress: Progress, step: str
) -> Iterator[Result]:
    """Yield what `work` makes of each item, in their order.

    An interruption ends it after what is under way, even where a library would not hear of it in the main thread:
    libsndfile reads through callbacks, and an exception in one of those is lost.

    Args:
        work: is called in threads.
        items: what it is called with.
        progress: takes how far it is.
        step: what to call it.
    """
    with ThreadPoolExecutor(usable_cores()) as pool:
        try:
            for done, result in enumerate(pool.map(work, items), 1):
                yield result
                progress(step, done, len(items))
        finally:
            pool.shutdown(cancel_futures=True)
