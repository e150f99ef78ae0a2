"""The figures of `bench_serve.py` as a table in docs/measured/service.md; none is typed by hand."""

from pathlib import Path
from typing import Any, TypeAlias

Figures: TypeAlias = dict[str, Any]

BEGIN, END = "<!-- figures of bench_serve.py: begin -->", "<!-- figures of bench_serve.py: end -->"
SHARE, DRIFT_MB = 0.9, 50
"""Aims: of the throughput of `clapedge bench`, and of memory."""

PLACES = 64
"""Requests that wait by default; with those in progress, they bound the longest wait."""


def write_report(about: Figures, results: Figures, page: Path) -> None:
    """Replace the table between the marks."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    text = "\n\n".join((BEGIN, _about(about, results), _table(about, results), END))
    unfinished = page.with_suffix(".tmp")
    unfinished.write_text(before + text + after, encoding="utf-8")
    unfinished.replace(page)


def _about(about: Figures, results: Figures) -> str:
    """Return the conditions of the measurement."""
    named = {"machine", "cores", "python", "load_average_before"}
    packages = ", ".join(f"{name} {about[name]}" for name in about if name not in named)
    return (
        f"By `python bench/bench_serve.py --seconds {results['load']['seconds']:g}` on {about['machine']}, "
        f"{about['cores']} cores, load average {about['load_average_before']} before it, Python {about['python']}, "
        f"{packages}; the full-size bundle in INT8 with random weights, recordings of 10 s in stereo (1.9 MB), "
        "clients in one process and the service in another, both on this machine."
    )


def _table(about: Figures, results: Figures) -> str:
    """Return the table of load and abuse."""
    load, bad, slow, cut = (results[name] for name in ("load", "bad uploads", "slow clients", "cut"))
    ended, idle = results["swap and end"], results["idle"]
    bound = 1e3 * (PLACES + about["cores"]) / load["requests_per_second"]
    last = cut["holds"]
    rows = [
        (f"{load['clients']} clients, requests a second", f"{load['requests_per_second']}", ""),
        (
            "as a share of `clapedge bench`'s files a second, before or after it",
            f"{results['of_bench']:.2f}",
            f"≥ {SHARE}",
        ),
        (
            "milliseconds, median and 99 of 100",
            f"{load['p50_ms']:.0f}, {load['p99_ms']:.0f}",
            f"≤ {bound:.0f}, the queue",
        ),
        ("answers by status; without an answer", _answers(load), "200 or 429; none"),
        ("memory, drift after the first 10 s", f"{load['memory_drift_mb']} MB", f"≤ {DRIFT_MB} MB"),
        (f"{bad['uploads']:,} bad uploads", _answers(bad), "no 5xx; none"),
        (
            f"{slow['clients']} clients that send a byte now and then",
            f"given up after {slow['given_up_after_s']:.0f} s",
            "",
        ),
        ("beside them, milliseconds of 99 of 100", f"{slow['beside']['p99_ms']:.0f}", ""),
        (f"{cut['clients']} clients that leave; the next one", _answers(cut["after"]), "200; none"),
        ("descriptors, temporary files: before; after all of this", f"{_held(idle)}; {_held(last)}", "the same"),
        ("memory after load; after all of this", f"{load['memory_mb']['to']:.0f}; {last['memory_mb']:.0f} MB", ""),
        ("three swaps under load, one to a damaged bundle", _answers(ended["swap"]), "200; none"),
        ("SIGTERM under load", _answers(ended["sigterm"]), "200; none"),
        ("from SIGTERM to the end, exit status", f"{ended['sigterm_s']:.1f} s, {ended['exit_status']}", "0"),
    ]
    lines = [f"| {name} | {measured} | {aim} |" for name, measured, aim in rows]
    return "\n".join(("| | measured | aim |", "|---|---|---|", *lines))


def _answers(answers: Figures) -> str:
    """Return the number of answers by status, and of requests without one."""
    statuses = ", ".join(f"{count:,} × {status}" for status, count in answers["statuses"].items())
    return f"{statuses}; {sum(answers['lost'].values()) or 'none'}"


def _held(holds: Figures) -> str:
    """Return the descriptors and temporary files of a process."""
    return f"{holds['descriptors']}, {holds['temporary_files']}"
