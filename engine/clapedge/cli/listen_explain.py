"""`clapedge listen explain`: why there was an alarm, or none."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
import msgspec

from clapedge.errors import UsageError
from clapedge.terminal import printable

EXAMPLES = """\b
Examples:
  clapedge listen explain journal
  clapedge listen explain journal --at 03:12
  clapedge listen explain journal/yard --at 2026-11-27T03:12 --within 10 --label siren
"""


@click.command("explain", epilog=EXAMPLES)
@click.argument("journal", type=click.Path(path_type=Path))
@click.option("--at", metavar="TIME", help="A time of day (the latest such), or a date and time. [default: its end]")
@click.option(
    "--within",
    type=click.FloatRange(min=0.1, max=24 * 60),
    default=5.0,
    show_default=True,
    help="Minutes before and after it.",
)
@click.option("--label", metavar="NAME", help="What is said of this label alone.")
@click.option("--json", "as_json", is_flag=True, help="Print the lines of the journal instead, as a JSON object.")
def explain(*, journal: Path, at: str | None, within: float, label: str | None, as_json: bool) -> None:
    """Say why there was an alarm at some time, or none: what was heard, how close each label came, what rules said.

    JOURNAL is the directory that `clapedge listen --journal` wrote; of several sources each has its own in it. Times
    are those of this machine's time zone.
    """
    from clapedge.live.alarms.explanation import Explanation, seconds_of
    from clapedge.live.alarms.journal import read_journal

    lines = list(read_journal(journal))
    if not lines:
        raise UsageError(_nothing_in(journal))
    latest = max(seconds_of(line.at) for line in lines)
    middle = latest if at is None else _parsed(at, latest)
    found = Explanation.of(lines, middle - 60 * within, middle + 60 * within)
    if label is not None and found.settings and label not in found.settings.on:
        known = ", ".join(map(printable, found.settings.on))
        raise UsageError(f"{printable(label)} was not listened for then; labels were {known}")
    if as_json:
        content: dict[str, Any] = {"since": found.since, "until": found.until, "settings": found.settings}
        content |= {name: getattr(found, name) for name in ("minutes", "events", "alarms", "gaps")}
        click.echo(json.dumps(msgspec.to_builtins(content), indent=2, ensure_ascii=False))
        return
    for line in found.lines(label):
        click.echo(line)


def _parsed(text: str, latest: float) -> float:
    """Return a time in seconds since 1970: of a time of the day, the latest one that the journal may know."""
    try:
        if "-" in text:
            return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone().timestamp()
        end = datetime.fromtimestamp(latest).astimezone()
        clock = datetime.strptime(text, "%H:%M:%S" if text.count(":") > 1 else "%H:%M")  # noqa: DTZ007 - of this zone
    except ValueError as error:
        raise UsageError(f"--at {text} is not a time; give one such as 03:12 or 2026-11-27T03:12") from error
    day = end.date()
    while True:  # by dates, which are 23 to 25 hours long
        moment = datetime.combine(day, clock.time()).astimezone()
        if moment.timestamp() <= latest + 60:
            return moment.timestamp()
        day -= timedelta(days=1)


def _nothing_in(journal: Path) -> str:
    """Return why a journal cannot be read, and what can be."""
    if not journal.is_dir():
        return f"{printable(str(journal))} is not a directory; name the one that `clapedge listen --journal` wrote"
    inside = sorted(path.parent.name for path in journal.glob("*/journal.jsonl"))
    if inside:
        several = ", ".join(printable(str(journal / name)) for name in inside)
        return f"{printable(str(journal))} holds the journals of several sources; name one: {several}"
    return f"{printable(str(journal))} holds no journal; `clapedge listen --journal` writes one, a line a minute"
