"""Progress on stderr, for those who watch: a line that is rewritten, and nothing where stderr is no terminal."""

import sys
import time

EVERY = 0.1
"""Seconds between two redrawings at least."""


class Progress:
    """Counts what is done of one step after another."""

    def __init__(self, *, enabled: bool | None = None) -> None:
        """Show progress if `enabled`; None means if stderr is a terminal."""
        self.enabled = sys.stderr.isatty() if enabled is None else enabled
        self._step = ""
        self._began = self._shown = 0.0

    def __call__(self, step: str, done: int, of: int) -> None:
        """Say that so many of so many are done of a step."""
        if not self.enabled:
            return
        now = time.monotonic()
        if step != self._step:
            self._step, self._began, self._shown = step, now, 0.0
        if done < of and now - self._shown < EVERY:
            return
        self._shown = now
        left = f", {(now - self._began) / done * (of - done):.0f} s left" if 0 < done < of else ""
        sys.stderr.write(f"\r\x1b[K{step}: {done} of {of}{left}" + ("\n" if done >= of else ""))
        sys.stderr.flush()
