"""What a run on a GPU came to: one JSON file, complete after every line of it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Check:
    """One thing that has to hold.

    Attributes:
        name: what is claimed.
        holds: whether it does.
        figure: what was measured, None where the check ended before.
        limit: what the figure was held against.
        note: why it ended, or what else should be known.
    """

    name: str
    holds: bool
    figure: float | None = None
    limit: float | None = None
    note: str = ""


class Report:
    """A JSON file that grows by lines: `checks`, and rows of measurements by section."""

    def __init__(self, path: Path) -> None:
        """Begin an empty report, or go on with one that is there.

        Args:
            path: the file; its directory is made.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"checks": []}

    @property
    def failed(self) -> int:
        """How many checks do not hold."""
        return sum(not check["holds"] for check in self.content["checks"])

    def check(self, check: Check) -> None:
        """Add a check, and print it in one line."""
        self.content["checks"].append(asdict(check))
        self.save()
        figure = "" if check.figure is None else f": {check.figure:.3g}"
        limit = "" if check.limit is None else f" (limit {check.limit:g})"
        note = f"; {check.note}" if check.note else ""
        print(f"{'ok' if check.holds else 'FAILED':6} {check.name}{figure}{limit}{note}", flush=True)

    def row(self, section: str, row: Mapping[str, Any]) -> None:
        """Add a row of measurements to a section, and print it in one line."""
        self.content.setdefault(section, []).append(dict(row))
        self.save()
        print(f"{section}: {json.dumps(row)}", flush=True)

    def set(self, section: str, content: Mapping[str, Any]) -> None:
        """Set a section that is no list, and print it in one line."""
        self.content[section] = dict(content)
        self.save()
        print(f"{section}: {json.dumps(content)}", flush=True)

    def save(self) -> None:
        """Write the file whole: a crash of a driver may not cost what was measured before it."""
        temporary = self.path.with_name(self.path.name + ".tmp")
        temporary.write_text(json.dumps(self.content, indent=2) + "\n")
        temporary.replace(self.path)
