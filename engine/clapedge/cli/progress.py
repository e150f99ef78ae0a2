"""Progress on a terminal: how much is done, how fast it goes, and how long the rest will take."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from typing_extensions import Self


REDRAW_SECONDS = 0.2


class StepProgress:
    """Shows how far one step after another is, in a line on stderr that is rewritten and leaves no trace.

    Not click's progress bar, which shows no rate, does not subtract what was known before, and stays on the screen.
    """

    def __init__(self, *, shown: bool | None = None) -> None:
        """Draw if `shown`; None means if stderr is a terminal."""
        self._shown = sys.stderr.isatty() if shown is None else shown
        self._step: str | None = None
        self._began = self._drawn = 0.0

    def __enter__(self) -> "Self":
        """Return the progress itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wipe the line."""
        if self._shown:
            click.echo("\r\033[K", err=True, nl=False)

    def __call__(
        self, step: str, done: float, total: float, /, *, known: float = 0, failed: int = 0, sound: bool = False
    ) -> None:
        """Draw how far a step is.

        Args:
            step: its name, or an empty string where there is but one.
            done: how much is done, what was known before included.
            total: how much there is to do.
            known: how much was known before.
            failed: how much of what is done failed.
            sound: whether seconds of sound are counted.
        """
        if not self._shown:
            return
        now = time.monotonic()
        if step != self._step:
            self._step, self._began, self._drawn = step, now, now
        if now - self._drawn >= REDRAW_SECONDS:
            self._drawn = now
            words = describe(done, total, now - self._began, known=known, failed=failed, sound=sound)
            click.echo(f"\r{step}{': ' if step else ''}{words}\033[K", err=True, nl=False)


def describe(done: float, of: float, seconds: float, *, known: float = 0, failed: int = 0, sound: bool = False) -> str:
    """Return a state in words, such as `120 of 2000, 31.5/s, 1:00 left, 2 failed`; what was known takes no time."""
    rate = (done - known) / seconds if seconds else 0.0
    words = [f"{done:.0f} of {of:.0f}{' s' if sound else ''}", f"{rate:.0f}x real time" if sound else f"{rate:.1f}/s"]
    if rate:
        left = max(0, round((of - done) / rate))
        hours, minutes = divmod(left // 60, 60)
        clock = f"{hours}:{minutes:02}:{left % 60:02}" if hours else f"{minutes}:{left % 60:02}"
        words.append(f"{clock} left")
    if failed:
        words.append(f"{failed} failed")
    return ", ".join(words)
