"""A file of results, in the format that its name says, which appears whole or not at all."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, ClassVar, Protocol

from clapedge.atomic_file import atomic_write
from clapedge.errors import MissingExtraError, UsageError
from clapedge.output.results import CsvWriter, JsonLinesWriter, Writer, columns, failed_row, rows
from clapedge.scoring.decision import Decision
from clapedge.scoring.result import Result

ROW_GROUP = 2**17
"""Rows of a Parquet file that are held in memory and written together: some 10 MB."""


class Sink(Protocol):
    """Takes results, one call each."""

    def write(self, result: Result) -> None:
        """Write one result."""

    def fail(self, file: str, error: str) -> None:
        """Write that a recording could not be scored."""


class ParquetSink:
    """Writes the columns of the CSV format as Parquet, through pyarrow (extra `parquet`)."""

    TYPES: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("probability", "start", "end", "of", "ms", "threshold"), "float64"),
        "rank": "int32",
        "similarity": "float32",
        "unsure": "bool",
        "present": "bool",
    }
    """Types of the columns that are no strings."""

    def __init__(self, file: BinaryIO, *, top_k: int | None, decision: Decision) -> None:
        """Write to a binary file.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError as error:
            raise MissingExtraError("writing Parquet", "parquet") from error
        self._table = pa.table
        fields = [(name, pa.type_for_alias(self.TYPES.get(name, "string"))) for name in columns(decision)]
        self._schema = pa.schema(fields)
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[tuple[object, ...]] = []
        self._top_k = top_k
        self._decision = decision

    def write(self, result: Result) -> None:
        """Write one row a label."""
        self._rows.extend(rows(result, self._top_k))
        if len(self._rows) >= ROW_GROUP:
            self._flush()

    def fail(self, file: str, error: str) -> None:
        """Write a row with the error."""
        self._rows.append(failed_row(file, error, self._decision))

    def close(self) -> None:
        """Write what is left, and the footer."""
        try:
            self._flush()
            self._writer.close()
        finally:
            self._writer.is_open = False  # else it tries again when it is collected, and complains

    def _flush(self) -> None:
        """Write the rows that are held as one row group."""
        if self._rows:
            values = [list(column) for column in zip(*self._rows, strict=True)]
            self._writer.write_table(self._table(values, schema=self._schema))
            self._rows.clear()


TEXT_WRITERS: dict[str, Callable[..., Writer]] = {".csv": CsvWriter, ".jsonl": JsonLinesWriter}


@contextmanager
def open_output(path: Path, *, top_k: int | None = None, decision: Decision | None = None) -> Iterator[Sink]:
    """Open a file of results; it takes its name when everything is written, and nothing is left of it after an error.

    Args:
        path: ending in `.csv`, `.jsonl` or `.parquet`; a file of that name is replaced.
        top_k: how many labels of a result are written; None writes all.
        decision: how the results are decided.

    Raises:
        UsageError: its name ends in something else, or belongs to something that is no file.
        StorageError: it cannot be written.
        MissingExtraError: Parquet is asked for without pyarrow.
    """
    check_output(path)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        yield from _sink(file, path.suffix.lower(), top_k, decision or Decision())
        os.fsync(file.fileno())


def check_output(path: Path) -> None:
    """Refuse an output that no format is known for, or whose name belongs to a folder or a device.

    Raises:
        UsageError: the reason.
    """
    known = (*TEXT_WRITERS, ".parquet")
    if path.suffix.lower() not in known:
        raise UsageError(f"{path} ends in none of {', '.join(known)}; the name says which format is written")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no regular file; name a file for the results")


def _sink(file: BinaryIO, suffix: str, top_k: int | None, decision: Decision) -> Iterator[Sink]:
    """Yield what writes results to a file, once, and write what belongs at its end."""
    if suffix == ".parquet":
        sink = ParquetSink(file, top_k=top_k, decision=decision)
        try:
            yield sink
        finally:
            sink.close()
        return
    text = TextIOWrapper(file, encoding="utf-8", newline="")
    writer = TEXT_WRITERS[suffix](text, top_k=top_k, decision=decision)
    writer.begin()
    yield writer
    writer.end()
    text.flush()
    text.detach()
