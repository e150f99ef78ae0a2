"""Progress on a terminal: how much is done, how fast it goes, and how long the rest will take."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from clapedge.batch import Progress

REDRAW_SECONDS = 0.2


@contextmanager
def progress_line(total: int) -> Iterator[Callable[["Progress"], None]]:
    """Yield what takes each state of a run and draws it on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    began = drawn = time.monotonic()

    def draw(progress: "Progress") -> None:
        nonlocal drawn
        now = time.monotonic()
        if now - drawn >= REDRAW_SECONDS:
            drawn = now
            click.echo(f"\r{describe(progress, total, now - began)}\033[K", err=True, nl=False)

    try:
        yield draw
    finally:
        click.echo("\r\033[K", err=True, nl=False)


def describe(progress: "Progress", total: int, seconds: float) -> str:
    """Put a state into words, such as `120 of 2000, 31.5/s, 1:00 left, 2 failed`; known recordings count as done."""
    fresh = progress.done - progress.known
    rate = fresh / seconds if seconds else 0.0
    words = [f"{progress.done} of {total}", f"{rate:.1f}/s"]
    if rate:
        left = round((total - progress.done) / rate)
        hours, minutes = divmod(left // 60, 60)
        clock = f"{hours}:{minutes:02}:{left % 60:02}" if hours else f"{minutes}:{left % 60:02}"
        words.append(f"{clock} left")
    if progress.failures:
        words.append(f"{len(progress.failures)} failed")
    return ", ".join(words)
