"""The report as Markdown."""

from collections.abc import Iterable, Sequence

from clapedge_calib.report import Report
from clapedge_calib.report_sections import Section, facts, sections, title


def markdown(report: Report) -> str:
    """Return the report as Markdown."""
    head = [f"# {title(report)}", report.verdict, _list(facts(report))]
    return "\n\n".join([*head, *map(_section, sections(report))]) + "\n"


def _section(section: Section) -> str:
    """Return a section."""
    parts = [f"## {section.title}"]
    if section.columns:
        rule = ["---", *["---:"] * (len(section.columns) - 1)]
        parts.append("\n".join(map(_row, (section.columns, rule, *section.rows))))
    if section.items:
        parts.append(_list(section.items))
    return "\n\n".join(parts)


def _row(cells: Sequence[str]) -> str:
    """Return a row of a table."""
    return f"| {' | '.join(cells)} |"


def _list(items: Iterable[str]) -> str:
    """Return a list."""
    return "\n".join(f"- {item}" for item in items)
