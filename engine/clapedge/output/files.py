"""A file of results in the format of its name, which appears whole or not at all."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from clapedge.atomic_file import atomic_write
from clapedge.errors import MissingExtraError
from clapedge.output.columns import ResultTable
from clapedge.output.results import CsvWriter, JsonLinesWriter, Writer, begun
from clapedge.scoring.decision import Decision
from clapedge.scoring.result import Result

ROW_GROUP = 2**17
"""Rows of a Parquet file that are held in memory and written together: some 10 MB."""


class ParquetWriter(Writer):
    """Writes the columns of the CSV format as Parquet, through pyarrow (extra `parquet`)."""

    format_name = "parquet"

    def begin(self) -> None:
        """Open the file for its bytes.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError as error:
            raise MissingExtraError("writing Parquet", "parquet") from error
        self._table = ResultTable(multi=self.decision.multi, top_k=self.top_k)
        self._arrow_table = pa.table
        self._schema = pa.schema([(column.name, pa.type_for_alias(column.type)) for column in self._table.columns])
        self._file = parquet.ParquetWriter(self.stream.buffer, self._schema, compression="zstd")
        self._rows: list[tuple[object, ...]] = []

    def write(self, result: Result) -> None:
        """Write one row a label."""
        self._rows.extend(self._table.rows(result))
        if len(self._rows) >= ROW_GROUP:
            self._flush()

    def fail(self, file: str, error: str) -> None:
        """Write a row with the error."""
        self._rows.append(self._table.failed_row(file, error))

    def end(self) -> None:
        """Write what is left, and the footer."""
        try:
            self._flush()
            self._file.close()
        finally:
            self._file.is_open = False  # otherwise it tries again when it is collected, and complains

    def _flush(self) -> None:
        """Write the rows that are held as one row group."""
        if self._rows:
            values = [list(column) for column in zip(*self._rows, strict=True)]
            self._file.write_table(self._arrow_table(values, schema=self._schema))
            self._rows.clear()


FILE_WRITERS: Mapping[str, type[Writer]] = {".csv": CsvWriter, ".jsonl": JsonLinesWriter, ".parquet": ParquetWriter}
"""The formats of a file of results by the ending of its name."""


@contextmanager
def open_output(path: Path, *, top_k: int | None = None, decision: Decision | None = None) -> Iterator[Writer]:
    """Open a file of results; it takes its name when everything is written, and nothing is left of it after an error.

    Args:
        path: ending in a key of `FILE_WRITERS`, see `check_target`; a file of that name is replaced.
        top_k: how many labels of a result are written; None writes all.
        decision: how the results are decided.

    Raises:
        StorageError: it cannot be written.
        MissingExtraError: Parquet is asked for without pyarrow.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        with begun(FILE_WRITERS[path.suffix.lower()](stream, top_k=top_k, decision=decision)) as writer:
            yield writer
        stream.flush()
        os.fsync(stream.fileno())
