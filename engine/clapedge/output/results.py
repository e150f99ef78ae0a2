"""Results to text: one class an output format, each a way to write a result and a way to write a failure."""

import csv
import shutil
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar, TextIO

import msgspec

from clapedge.scoring.decision import DecidedScore, Decision, Score
from clapedge.scoring.explain import explain
from clapedge.scoring.result import Result
from clapedge.terminal import printable

BAR_WIDTH = 24
EIGHTHS = " ▏▎▍▌▋▊▉█"
"""Blocks of zero to eight eighths: a bar as fine as a terminal can draw it."""

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
"""Columns of a table with a row a label: CSV and Parquet. New ones are put at the end."""

DECIDED_COLUMNS = ("threshold", "present")
"""Columns that follow where labels are decided apart."""


class Writer:
    """Writes results to a stream, one call each."""

    format_name: ClassVar[str]

    def __init__(self, stream: TextIO, *, top_k: int | None = None, decision: Decision | None = None) -> None:
        """Write to `stream`, only the `top_k` best labels of each result if given, as the decision made them."""
        self.stream = stream
        self.top_k = top_k
        self.decision = decision or Decision()

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
        covered = result.coverage
        span = f"{covered.start:g}-{covered.end:g} s of {covered.duration:g} s"
        print(f"{printable(result.file)}  {span}", file=self.stream)
        scores = result.labels[: self.top_k]
        names = [printable(score.name) for score in scores]
        width = min(max(map(_columns, names)), max(20, shutil.get_terminal_size().columns - 50))
        for name, score in zip(names, scores, strict=True):
            name += " " * (width - _columns(name))  # noqa: PLW2901 - filled up
            print(f"  {name}  {_figures(score)}", file=self.stream)
        if result.unsure:
            close = "a label is close to its threshold" if self.decision.multi else "the two best labels are close"
            print(f"  unsure: {close}", file=self.stream)
        self._explain(result)
        made = result.provenance
        took = f"{result.timing.total:.0f} ms · " if result.timing else ""
        made_by = f"{printable(made.model)} {made.variant} on {made.provider} · {made.weights} weights"
        print(f"  {took}{made_by}\n", file=self.stream, flush=True)

    def fail(self, file: str, error: str) -> None:
        """Write nothing: the error stands on stderr."""

    def _explain(self, result: Result) -> None:
        """Write why the result is what it is: here nothing."""


class ExplainingTableWriter(TableWriter):
    """For people who ask why: the table with what decided each result, what was heard, and what to mind."""

    format_name = "explained"

    def _explain(self, result: Result) -> None:
        """Write one line a reason."""
        for sentence in explain(result, self.decision):
            print(f"  · {printable(sentence)}", file=self.stream)


class JsonLinesWriter(Writer):
    """For programs: one record a line; see docs/output.md for its fields."""

    format_name = "jsonl"

    def write(self, result: Result) -> None:
        """Write one record."""
        self._line(result.to_dict(top_k=self.top_k))

    def fail(self, file: str, error: str) -> None:
        """Write a record of the failure."""
        self._line({"file": file, "error": error})

    def _line(self, entry: Mapping[str, object]) -> None:
        print(msgspec.json.encode(entry).decode(), file=self.stream, flush=True)


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

    def _line(self, entry: Mapping[str, object]) -> None:
        self.stream.write(f"{self._separator}\n{msgspec.json.format(msgspec.json.encode(entry), indent=2).decode()}")
        self._separator = ","


class CsvWriter(Writer):
    """For spreadsheets: one row a label, one row a failure; see docs/output.md for its columns."""

    format_name = "csv"

    def begin(self) -> None:
        """Write the names of the columns."""
        self._rows = csv.writer(self.stream, lineterminator="\n")
        self._rows.writerow(columns(self.decision))

    def write(self, result: Result) -> None:
        """Write one row a label."""
        self._rows.writerows(rows(result, self.top_k, truth=("false", "true")))
        self.stream.flush()

    def fail(self, file: str, error: str) -> None:
        """Write a row with the error."""
        self._rows.writerow(failed_row(file, error, self.decision))


WRITER_CLASSES = (TableWriter, ExplainingTableWriter, JsonWriter, JsonLinesWriter, CsvWriter)
WRITERS = {writer.format_name: writer for writer in WRITER_CLASSES}
"""Every output format by its name."""


@contextmanager
def open_writer(
    format_name: str, stream: TextIO, *, top_k: int | None = None, decision: Decision | None = None
) -> Iterator[Writer]:
    """Yield the writer of a format, begun, and end it whatever happens between.

    Args:
        format_name: a key of `WRITERS`.
        stream: where the text goes.
        top_k: how many labels of a result are written; None writes all.
        decision: how the results were decided.
    """
    writer = WRITERS[format_name](stream, top_k=top_k, decision=decision)
    writer.begin()
    try:
        yield writer
    finally:
        writer.end()


def columns(decision: Decision) -> tuple[str, ...]:
    """Return the columns of a table of results that were decided in this way."""
    return (*COLUMNS, *DECIDED_COLUMNS) if decision.multi else COLUMNS


def rows(
    result: Result, top_k: int | None = None, *, truth: tuple[object, object] = (False, True)
) -> Iterator[tuple[object, ...]]:
    """Yield a row of `columns` for each label of a result, of which the `top_k` best; `truth` stands for no and yes."""
    covered = result.coverage
    about = (
        *(truth[result.unsure], covered.start, covered.end, covered.duration),
        *result.provenance.to_dict().values(),
        *(result.timing.total if result.timing else None, " | ".join(result.warnings), None),
    )
    for rank, score in enumerate(result.labels[:top_k], 1):
        decided = (score.threshold, truth[score.present]) if isinstance(score, DecidedScore) else ()
        yield (result.file, rank, score.name, score.probability, score.similarity, *about, *decided)


def failed_row(file: str, error: str, decision: Decision) -> tuple[object, ...]:
    """Return the row of `columns` for a recording that failed."""
    known = {"file": file, "error": error}
    return tuple(map(known.get, columns(decision)))


def _figures(score: Score) -> str:
    """Return what a table says of a label: its share with a bar, or on which side of its threshold it lies."""
    if isinstance(score, DecidedScore):
        sign, side = (">=", "present") if score.present else ("< ", "absent")
        return f"{score.similarity:+.3f} {sign} {score.threshold:.3f}  {side}"
    return f"{score.probability:7.1%}  {score.similarity:+.3f}  {_bar(score.probability)}".rstrip()


def _columns(text: str) -> int:
    """Return how many terminal columns a text fills: East Asian wide characters fill two, combining ones none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _bar(fraction: float) -> str:
    """Draw a fraction of 0..1 as a bar."""
    full, rest = divmod(round(fraction * BAR_WIDTH * 8), 8)
    return EIGHTHS[8] * full + EIGHTHS[rest].strip()
