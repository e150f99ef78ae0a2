"""Progress of a long computation: a generator that yields how far it is, and returns what it computes."""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Progress:
    """How far one step of a computation is.

    Attributes:
        step: its name.
        done: how many of its items are done.
        total: how many there are.
        known: how many of those done were done by an earlier run.
    """

    step: str
    done: int
    total: int
    known: int = 0


Steps: TypeAlias = Generator[Progress, None, Result]
"""A computation; `result = yield from steps` makes it a part of another one."""


class Run(Generic[Result]):
    """Iterates the progress of a computation; its `result` is there when the loop has ended."""

    result: Result

    def __init__(self, steps: Steps[Result]) -> None:
        """Prepare to run a computation."""
        self._steps = steps

    def __iter__(self) -> Iterator[Progress]:
        """Run it."""
        self.result = yield from self._steps


def gather(items: Iterable[Item], step: str, total: int) -> Steps[list[Item]]:
    """Collect items, each of which is progress."""
    found = []
    for item in items:
        found.append(item)
        yield Progress(step, len(found), total)
    return found
