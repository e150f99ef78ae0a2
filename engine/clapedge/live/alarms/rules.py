"""Rules of alarms: which events are worth one, as a file of tables says."""

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from clapedge.errors import UsageError
from clapedge.live.hours import Hours
from clapedge.terminal import printable
from clapedge.validation import describe_mismatch

MOST_BYTES = 1_000_000
"""A longer file is something else, named by mistake."""

LONGEST_NAME = 60
"""Characters of a rule's name, which becomes the label of a metric and part of a notice."""


@dataclass(frozen=True)
class AlarmRule:
    """When an event is worth an alarm: all that is given must hold.

    Attributes:
        name: what the alarm is called.
        labels: whose events count; empty means all.
        min_windows: windows in which its score reached the threshold of an event.
        min_duration: seconds for which it must have lasted.
        min_probability: the label's probability, in the clearest window.
        min_similarity: the label's similarity there.
        min_laeq: equivalent continuous level of the event so far, in dB, A-weighted.
        min_lafmax: highest level of it so far, in dB, A-weighted, time weighting F.
        hours: of the day, in this machine's time zone; None means all.
        cooldown: seconds after an alarm of this rule without another one.
        first_of_day: whether there is one alarm a day, by the date of this machine's time zone.
        escalate: seconds of an event's duration, ascending, at each of which an alarm that was given is repeated.
    """

    name: str
    labels: tuple[str, ...] = ()
    min_windows: int = 1
    min_duration: float = 0.0
    min_probability: float | None = None
    min_similarity: float | None = None
    min_laeq: float | None = None
    min_lafmax: float | None = None
    hours: Hours | None = None
    cooldown: float = 0.0
    first_of_day: bool = False
    escalate: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Raise `UsageError` if a value is impossible."""
        if self.min_windows < 1:
            raise UsageError(f"min_windows is {self.min_windows}; give 1 or more")
        for name in ("min_duration", "cooldown"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} is {getattr(self, name)} s; give a number of seconds")
        for name, least in (("min_probability", 0.0), ("min_similarity", -1.0)):
            score = getattr(self, name)
            if score is not None and not least <= score <= 1:
                raise UsageError(f"{name} is {score}; give a number from {least:g} to 1")
        for name in ("min_laeq", "min_lafmax"):
            level = getattr(self, name)
            if level is not None and not math.isfinite(level):
                raise UsageError(f"{name} is {level} dB; give a level, such as 60, or -30 without calibration")
        steps = (0.0, *self.escalate, math.inf)
        if any(later <= earlier for earlier, later in pairwise(steps)):
            raise UsageError(f"escalate is {list(self.escalate)}; give ascending seconds, such as [60, 300]")

    @property
    def needs_levels(self) -> bool:
        """Whether sound levels decide."""
        return self.min_laeq is not None or self.min_lafmax is not None

    def concerns(self, label: str) -> bool:
        """Return whether events of a label count."""
        return not self.labels or label in self.labels

    def missing(self, labels: Iterable[str]) -> tuple[str, ...]:
        """Return which of its labels are not among others."""
        known = set(labels)
        return tuple(label for label in self.labels if label not in known)


KEYS = tuple(field.name for field in fields(AlarmRule) if field.name != "name")


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    """A rule as TOML has it; see `AlarmRule`."""

    labels: list[str] = []
    min_windows: int = 1
    min_duration: float = 0.0
    min_probability: float | None = None
    min_similarity: float | None = None
    min_laeq: float | None = None
    min_lafmax: float | None = None
    hours: str | None = None
    cooldown: float = 0.0
    first_of_day: bool = False
    escalate: list[float] = []


def read_alarms(path: Path) -> tuple[AlarmRule, ...]:
    """Read a TOML file with a table a rule.

    Raises:
        UsageError: it cannot be read, or a key or value means nothing; the message names the file and the rule.
    """
    tables = _decoded(path)
    if not tables:
        raise UsageError(f'{path} has no rule; give each a table, such as [night] with labels = ["siren"]')
    return tuple(_rule(path, name, table) for name, table in tables.items())


def _decoded(path: Path) -> dict[str, Any]:
    """Return the tables of a file."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"{path} is larger than {MOST_BYTES / 1e6:g} MB; name a file of rules for alarms")
        return msgspec.toml.decode(path.read_text(encoding="utf-8"), type=dict[str, Any])
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"{path} cannot be read ({reason}); name a TOML file of rules for alarms") from error
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path} is not TOML ({describe_mismatch(error)}); mend it there") from error


def _rule(path: Path, name: str, table: object) -> AlarmRule:
    """Return the rule of a table."""
    where = f"{path}: {printable(name)}"
    if not isinstance(table, dict):
        raise UsageError(f"{where} is {table!r:.40}; make it a table: [{printable(name)}]")
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise UsageError(f"{where} is not a name; take up to {LONGEST_NAME} characters in one line")
    for key in table:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, 1)
            meant = f"; did you mean {near[0]}?" if near else f"; keys are {', '.join(KEYS)}"
            raise UsageError(f"{where}: there is no key {printable(key)}{meant}")
    try:
        found = msgspec.convert(table, _Table)
        hours = None if found.hours is None else Hours.parse(found.hours)
        values = msgspec.structs.asdict(found) | {"labels": tuple(found.labels), "escalate": tuple(found.escalate)}
        return AlarmRule(name, **values | {"hours": hours})
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {describe_mismatch(error)}") from error
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
