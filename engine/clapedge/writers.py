"""Results to text: one class an output format, each a way to write a result and a way to write a failure."""

import csv
import json
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, ClassVar, TextIO

from clapedge.result import Result

BAR_WIDTH = 24
EIGHTHS = " ▏▎▍▌▋▊▉█"
"""Blocks of zero to eight eighths: a bar as fine as a terminal can draw it."""


class Writer:
    """Writes results to a stream, one call each."""

    format_name: ClassVar[str]

    def __init__(self, stream: TextIO, *, top_k: int | None = None) -> None:
        """Write to `stream`, only the `top_k` best labels of each result if given."""
        self.stream = stream
        self.top_k = top_k

    def begin(self) -> None:
        """Write what comes before the first result."""

    def write(self, result: Result) -> None:
        """Write one result."""
        raise NotImplementedError

    def fail(self, file: str, error: str) -> None:
        """Write that a recording could not be scored."""
        raise NotImplementedError

    def end(self) -> None:
        """Write what comes after the last result."""


class TableWriter(Writer):
    """For people: a ranked table with bars. Failures are on stderr alone."""

    format_name = "table"

    def write(self, result: Result) -> None:
        """Write a heading and one line a label."""
        heard = result.heard
        print(f"{result.file}  {heard.start:g}-{heard.end:g} s of {heard.of:g} s", file=self.stream)
        scores = result.labels[: self.top_k]
        width = min(max(_columns(score.name) for score in scores), max(20, shutil.get_terminal_size().columns - 50))
        for score in scores:
            name = score.name + " " * (width - _columns(score.name))
            print(
                f"  {name}  {score.probability:7.1%}  {score.similarity:+.3f}  {_bar(score.probability)}".rstrip(),
                file=self.stream,
            )
        if result.unsure:
            print("  unsure: the two best labels are close", file=self.stream)
        made_by = f"{result.model} {result.variant} on {result.provider}"
        took = f"{result.ms.total:.0f} ms · " if result.ms else ""
        print(f"  {took}{made_by} · {result.weights} weights\n", file=self.stream, flush=True)

    def fail(self, file: str, error: str) -> None:
        """Write nothing: the error stands on stderr."""


class JsonLinesWriter(Writer):
    """For programs: one record a line; see docs/output.md for its fields."""

    format_name = "jsonl"

    def write(self, result: Result) -> None:
        """Write one record."""
        self._line(record(result, self.top_k))

    def fail(self, file: str, error: str) -> None:
        """Write a record of the failure."""
        self._line({"file": file, "error": error})

    def _line(self, entry: dict[str, Any]) -> None:
        print(json.dumps(entry, ensure_ascii=False), file=self.stream, flush=True)


class JsonWriter(JsonLinesWriter):
    """For programs that read everything at once: an array of the records of `jsonl`."""

    format_name = "json"
    _separator = ""

    def begin(self) -> None:
        """Open the array."""
        self.stream.write("[")

    def end(self) -> None:
        """Close the array."""
        self.stream.write("\n]\n")

    def _line(self, entry: dict[str, Any]) -> None:
        self.stream.write(f"{self._separator}\n{json.dumps(entry, ensure_ascii=False, indent=2)}")
        self._separator = ","


class CsvWriter(Writer):
    """For spreadsheets: one row a label, one row a failure; see docs/output.md for its columns."""

    format_name = "csv"
    COLUMNS = (
        "file",
        "rank",
        "label",
        "probability",
        "similarity",
        "unsure",
        "start",
        "end",
        "of",
        "model",
        "weights",
        "variant",
        "provider",
        "ms",
        "warnings",
        "error",
    )

    def begin(self) -> None:
        """Write the names of the columns."""
        self._rows = csv.DictWriter(self.stream, self.COLUMNS, restval="", lineterminator="\n")
        self._rows.writeheader()

    def write(self, result: Result) -> None:
        """Write one row a label."""
        shared = {
            "file": result.file,
            "unsure": str(result.unsure).lower(),
            **asdict(result.heard),
            "model": result.model,
            "weights": result.weights,
            "variant": result.variant,
            "provider": result.provider,
            "ms": result.ms.total if result.ms else "",
            "warnings": " | ".join(result.warnings),
        }
        for rank, score in enumerate(result.labels[: self.top_k], 1):
            row = {"rank": rank, "label": score.name, "probability": score.probability, "similarity": score.similarity}
            self._rows.writerow(shared | row)
        self.stream.flush()

    def fail(self, file: str, error: str) -> None:
        """Write a row with the error."""
        self._rows.writerow({"file": file, "error": error})


WRITERS = {writer.format_name: writer for writer in (TableWriter, JsonWriter, JsonLinesWriter, CsvWriter)}
"""Every output format by its name."""


@contextmanager
def open_writer(format_name: str, stream: TextIO, *, top_k: int | None = None) -> Iterator[Writer]:
    """Yield the writer of a format, begun, and end it whatever happens between.

    Args:
        format_name: a key of `WRITERS`.
        stream: where the text goes.
        top_k: how many labels of a result are written; None writes all.
    """
    writer = WRITERS[format_name](stream, top_k=top_k)
    writer.begin()
    try:
        yield writer
    finally:
        writer.end()


def record(result: Result, top_k: int | None = None) -> dict[str, Any]:
    """Return the JSON record of a result: its fields, of the labels the `top_k` best."""
    return asdict(replace(result, labels=result.labels[:top_k]))


def _columns(text: str) -> int:
    """Return how many terminal columns a text fills: East Asian wide characters fill two, combining ones none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _bar(fraction: float) -> str:
    """Draw a fraction of 0..1 as a bar."""
    full, rest = divmod(round(fraction * BAR_WIDTH * 8), 8)
    return EIGHTHS[8] * full + EIGHTHS[rest].strip()
