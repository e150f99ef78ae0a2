"""Sessions in processes that were forked: ONNX Runtime's threads stay in the parent.

A run in the child may wait for them, and so does the release of a session when the child ends. So the first is refused,
and the second never happens: the system takes the memory back.
"""

import ctypes
import os
from weakref import WeakSet

from clapedge.errors import UsageError

_sessions: "WeakSet[object]" = WeakSet()


def keep_in_children(session: object) -> None:
    """Never release a session in a process that is forked from this one."""
    _sessions.add(session)


def check_process(process: int) -> None:
    """Raise if sessions were opened by another process.

    Args:
        process: id of the process that opened them.

    Raises:
        UsageError: this one is a child of it.
    """
    if process != os.getpid():
        raise UsageError(
            "the engine was loaded before this process was forked, and its threads stayed in the parent; load it in "
            "the child, or start the child anew: multiprocessing.get_context('spawn')"
        )


def _keep_sessions() -> None:
    """Add a reference to each session that nobody takes back."""
    for session in _sessions:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_sessions)
