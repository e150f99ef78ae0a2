"""How far a long run is, for whoever shows it; a run that nobody watches reports to `silent`."""

from typing import Protocol


class Progress(Protocol):
    """Takes how far each step of a run is, as `clapedge.cli.progress.StepProgress` does."""

    def __call__(self, step: str, done: int, total: int, /) -> None:
        """Take that so many of a step's items are done."""


def silent(step: str, done: int, total: int, /) -> None:
    """Show nothing."""
