"""Results to text: one class an output format, each with a method for a result and one for a failure."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar, TextIO

import msgspec

from clapedge.output.columns import Column, ResultTable
from clapedge.output.csv_rows import CsvRows, DecimalMark
from clapedge.scoring.decision import DecidedScore, Decision, Score
from clapedge.scoring.explain import explain
from clapedge.scoring.result import Result
from clapedge.terminal import display_width, printable

BAR_WIDTH = 24
EIGHTHS = " ▏▎▍▌▋▊▉█"
"""Blocks of zero to eight eighths: a bar as fine as a terminal can draw it."""


class Writer:
    """Writes results to a stream, one call each."""

    format_name: ClassVar[str]

    def __init__(
        self,
        stream: TextIO,
        *,
        top_k: int | None = None,
        decision: Decision | None = None,
        spreadsheet: DecimalMark | None = None,
    ) -> None:
        """Prepare to write.

        Args:
            stream: where the results go.
            top_k: how many labels of a result are written; None writes all.
            decision: how the results were decided.
            spreadsheet: the decimal mark of the spreadsheet that opens CSV, see `CsvRows`.
        """
        self.stream = stream
        self.top_k = top_k
        self.decision = decision or Decision()
        self.spreadsheet = spreadsheet

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
    """For people: a ranked table with bars. Failures go to stderr alone."""

    format_name = "table"

    def write(self, result: Result) -> None:
        """Write a heading and one line a label."""
        covered = result.coverage
        span = f"{covered.start:g}-{covered.end:g} s of {covered.duration:g} s"
        print(f"{printable(result.file)}  {span}", file=self.stream)
        scores = result.labels[: self.top_k]
        names = [printable(score.name) for score in scores]
        width = min(max(map(display_width, names)), max(20, shutil.get_terminal_size().columns - 50))
        for name, score in zip(names, scores, strict=True):
            name += " " * (width - display_width(name))  # noqa: PLW2901 - filled up
            print(f"  {name}  {_figures(score)}", file=self.stream)
        if result.unknown:
            print(f"  none of these: the best label fits {result.fit:.2f}, below its threshold", file=self.stream)
        if result.unsure:
            close = "a label is close to its threshold" if self.decision.multi else "the two best labels are close"
            print(f"  unsure: {close}", file=self.stream)
        self._explain(result)
        made = result.provenance
        took = f"{result.timing.total:.0f} ms · " if result.timing else ""
        made_by = f"{printable(made.model)} {made.variant} on {made.provider} · {made.weights} weights"
        print(f"  {took}{made_by}\n", file=self.stream, flush=True)

    def fail(self, file: str, error: str) -> None:
        """Write nothing: the error is on stderr."""

    def _explain(self, result: Result) -> None:
        """Write why the result is what it is: nothing here."""


class ExplainingTableWriter(TableWriter):
    """For people who ask why: the table, and under it what decided the result, its span and its warnings."""

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


class RowWriter(Writer):
    """Writes rows of columns; the first result decides whether those of the fit are among them."""

    def begin(self) -> None:
        """Wait for the first result."""
        self._table: ResultTable | None = None
        self._failed: list[tuple[str, str]] = []

    def write(self, result: Result) -> None:
        """Write one row a label."""
        self._put(self._opened(fit=result.fit is not None).rows(result))

    def fail(self, file: str, error: str) -> None:
        """Write a row with the error, after the first result has decided the columns."""
        if self._table is None:
            self._failed.append((file, error))
        else:
            self._put([self._table.failed_row(file, error)])

    def end(self) -> None:
        """Write what waits for a result that did not come."""
        self._opened(fit=False)

    def _opened(self, *, fit: bool) -> ResultTable:
        """Return the table, and write what comes before its first row if there was none."""
        if self._table is None:
            self._table = ResultTable(multi=self.decision.multi, top_k=self.top_k, fit=fit)
            self._put_columns(self._table.columns)
            self._put([self._table.failed_row(*failure) for failure in self._failed])
        return self._table

    def _put_columns(self, columns: Sequence[Column]) -> None:
        """Write the names of the columns."""
        raise NotImplementedError

    def _put(self, rows: Sequence[tuple[object, ...]]) -> None:
        """Write rows."""
        raise NotImplementedError


class CsvWriter(RowWriter):
    """Tables for programs and spreadsheets: one row a label, one row a failure; see docs/output.md for its columns."""

    format_name = "csv"

    def _put_columns(self, columns: Sequence[Column]) -> None:
        """Write the names of the columns."""
        self._csv = CsvRows(self.stream, spreadsheet=self.spreadsheet)
        self._csv.write(column.name for column in columns)

    def _put(self, rows: Sequence[tuple[object, ...]]) -> None:
        """Write rows, truths in the small letters of JSON."""
        for row in rows:
            self._csv.write(str(one).lower() if isinstance(one, bool) else one for one in row)
        self.stream.flush()


WRITERS = {
    writer.format_name: writer
    for writer in (TableWriter, ExplainingTableWriter, JsonWriter, JsonLinesWriter, CsvWriter)
}
"""Every text format by its name."""


@contextmanager
def begun(writer: Writer) -> Iterator[Writer]:
    """Yield a writer, begun, and end it whatever happens between."""
    writer.begin()
    try:
        yield writer
    finally:
        writer.end()


def _figures(score: Score) -> str:
    """Return the cell of a label: its probability with a bar, or the side of its threshold on which it lies."""
    if isinstance(score, DecidedScore):
        sign, side = (">=", "present") if score.present else ("< ", "absent")
        return f"{score.similarity:+.3f} {sign} {score.threshold:.3f}  {side}"
    return f"{score.probability:7.1%}  {score.similarity:+.3f}  {_bar(score.probability)}".rstrip()


def _bar(fraction: float) -> str:
    """Draw a fraction of 0..1 as a bar."""
    full, rest = divmod(round(fraction * BAR_WIDTH * 8), 8)
    return EIGHTHS[8] * full + EIGHTHS[rest].strip()
