"""One line of what was found out about a device."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "off", "bad"]


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: the thing examined.
        state: `ok`, `off` (not there, which is not a fault) or `bad`.
        detail: what was found, or how to mend it.
    """

    name: str
    state: State
    detail: str
