"""The report as one HTML page that needs nothing else: no script, no network, plots as SVG."""

from collections.abc import Sequence
from html import escape

from clapedge_calib import svg_plots
from clapedge_calib.report import Report
from clapedge_calib.report_sections import Section, facts, sections, title

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1d2733; }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.2rem }
.verdict { border-left: 5px solid #2a7f4f; background: #edf7f0; padding: .8rem 1rem }
.refused { border-color: #b3372f; background: #fbeeed }
table { border-collapse: collapse; font-size: .88rem; width: 100% } .wide { overflow-x: auto }
th, td { padding: .3rem .55rem; text-align: right; border-bottom: 1px solid #dde3ea; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
svg { width: 100%; height: auto; max-width: 46rem; font: 12px system-ui, sans-serif }
.axis { stroke: #8793a0; fill: none } .mark { fill: #2f6fb2 } .bad { fill: #b3372f }
text { fill: #3c4856; paint-order: stroke; stroke: #fff; stroke-width: 4px }
"""


def page(report: Report) -> str:
    """Return the page."""
    variants, sensitivity, *others = sections(report)
    body = "\n".join(
        [
            f"<h1>{escape(title(report))}</h1>",
            f'<p class="verdict{"" if report.chosen else " refused"}">{escape(report.verdict)}</p>',
            _list(facts(report)),
            _section(variants),
            "<h2>Accuracy against latency</h2>",
            svg_plots.latency_plot(report),
            "<h2>Cosine with fp32, clip by clip</h2>",
            svg_plots.cosine_plot(report.cosines),
            f"<h2>{sensitivity.title}</h2>",
            svg_plots.sensitivity_plot(report),
            *map(_section, others),
        ]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title(report))}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    """Return a section; its cells and items are text."""
    table = _table(section.columns, section.rows) if section.columns else ""
    return f"<h2>{escape(section.title)}</h2>" + table + (_list(section.items) if section.items else "")


def _list(items: Sequence[str]) -> str:
    """Return a list."""
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'
