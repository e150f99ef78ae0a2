"""Checks and measurements as steps that run one after another, whatever happens to one of them."""

import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from clapedge.errors import ClapEdgeError
from clapedge.model.runtime_errors import ONNX_RUNTIME_ERRORS
from gpu.report import Check, Report

SURVIVED: tuple[type[Exception], ...] = (
    *(ArithmeticError, AssertionError, AttributeError, ClapEdgeError, ImportError, LookupError, MemoryError),
    *(OSError, RuntimeError, TypeError, ValueError, subprocess.SubprocessError),
    *ONNX_RUNTIME_ERRORS,
)
"""What ends a step and not the run. A crash of the process ends its phase, see `gpu_check.py`."""


@dataclass(frozen=True)
class Figure:
    """What a check measured: it holds if the figure is at most the limit, and never if it is NaN."""

    figure: float
    limit: float
    note: str = ""


@dataclass(frozen=True)
class CheckStep:
    """A check that has not run yet."""

    name: str
    run: Callable[[], Figure]


@dataclass(frozen=True)
class RowStep:
    """A row of measurements that was not taken yet: its section, what tells it from the others, and its figures."""

    section: str
    labels: Mapping[str, Any]
    run: Callable[[], Mapping[str, Any]]


Step = CheckStep | RowStep


@dataclass(frozen=True)
class Deadline:
    """The moment after which no further step begins."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """Return the deadline that lies so many seconds ahead."""
        return cls(time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.at - time.monotonic()


def run_steps(steps: Iterable[Step], report: Report, deadline: Deadline) -> None:
    """Run steps in their order; one that fails or comes too late is told as such, and the next one follows."""
    for step in steps:
        in_time = deadline.left > 0
        if isinstance(step, CheckStep):
            report.check(_checked(step) if in_time else Check(step.name, holds=False, note="not run: no time was left"))
        else:
            figures = _measured(step) if in_time else {"not_run": "no time was left"}
            report.row(step.section, {**step.labels, **figures})


def _checked(step: CheckStep) -> Check:
    """Run a check."""
    try:
        found = step.run()
    except SURVIVED as error:
        return Check(step.name, holds=False, note=_told(error))
    return Check(step.name, holds=found.figure <= found.limit, figure=found.figure, limit=found.limit, note=found.note)


def _measured(step: RowStep) -> Mapping[str, Any]:
    """Take the measurements of a row."""
    try:
        return step.run()
    except SURVIVED as error:
        return {"not_run": _told(error)}


def _told(error: Exception) -> str:
    """Return an error in one line of a length that a report bears."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]
