"""Turns at what several threads share: each gets it in the order in which they asked."""

import threading
from types import TracebackType


class Turns:
    """A lock that is fair: who asks first comes first, so that a source with much to do delays others by one window."""

    def __init__(self) -> None:
        """Begin with nobody waiting."""
        self._changed = threading.Condition()
        self._asked = self._served = 0

    def __enter__(self) -> None:
        """Wait for one's turn."""
        with self._changed:
            turn, self._asked = self._asked, self._asked + 1
            self._changed.wait_for(lambda: self._served == turn)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the next one have its turn."""
        with self._changed:
            self._served += 1
            self._changed.notify_all()
