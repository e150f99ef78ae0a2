"""A file of results in the format of its name, which appears whole or not at all."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from clapedge.atomic_file import atomic_write
from clapedge.errors import MissingExtraError
from clapedge.output.columns import Column
from clapedge.output.csv_rows import DecimalMark
from clapedge.output.results import CsvWriter, JsonLinesWriter, RowWriter, Writer, begun
from clapedge.scoring.decision import Decision

ROW_GROUP = 2**17
"""Rows of a Parquet file that are held in memory and written together: some 10 MB."""


class ParquetWriter(RowWriter):
    """Writes the columns of the CSV format as Parquet, through pyarrow (extra `parquet`)."""

    format_name = "parquet"

    def begin(self) -> None:
        """Raise early if the file could not be written.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        try:
            import pyarrow as pa  # noqa: F401 - the columns are known later
        except ImportError as error:
            raise MissingExtraError("writing Parquet", "parquet") from error
        self._rows: list[tuple[object, ...]] = []
        super().begin()

    def end(self) -> None:
        """Write what is left, and the footer."""
        super().end()
        try:
            self._flush()
            self._file.close()
        finally:
            self._file.is_open = False  # otherwise it tries again when it is collected, and complains

    def _put_columns(self, columns: Sequence[Column]) -> None:
        """Open the file for its bytes."""
        import pyarrow as pa
        from pyarrow import parquet

        self._arrow_table = pa.table
        self._schema = pa.schema([(column.name, pa.type_for_alias(column.type)) for column in columns])
        self._file = parquet.ParquetWriter(self.stream.buffer, self._schema, compression="zstd")

    def _put(self, rows: Sequence[tuple[object, ...]]) -> None:
        """Hold rows until there are enough for a row group."""
        self._rows.extend(rows)
        if len(self._rows) >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        """Write the rows that are held as one row group."""
        if self._rows:
            values = [list(column) for column in zip(*self._rows, strict=True)]
            self._file.write_table(self._arrow_table(values, schema=self._schema))
            self._rows.clear()


FILE_WRITERS: Mapping[str, type[Writer]] = {".csv": CsvWriter, ".jsonl": JsonLinesWriter, ".parquet": ParquetWriter}
"""The formats of a file of results by the ending of its name."""


@contextmanager
def open_output(
    path: Path,
    *,
    top_k: int | None = None,
    decision: Decision | None = None,
    spreadsheet: DecimalMark | None = None,
) -> Iterator[Writer]:
    """Open a file of results; it takes its name when everything is written, and nothing is left of it after an error.

    Args:
        path: ending in a key of `FILE_WRITERS`, see `check_target`; a file of that name is replaced.
        top_k: how many labels of a result are written; None writes all.
        decision: how the results are decided.
        spreadsheet: the decimal mark of the spreadsheet that opens CSV, see `CsvRows`.

    Raises:
        StorageError: it cannot be written.
        MissingExtraError: Parquet is asked for without pyarrow.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer_class = FILE_WRITERS[path.suffix.lower()]
        with begun(writer_class(stream, top_k=top_k, decision=decision, spreadsheet=spreadsheet)) as writer:
            yield writer
        stream.flush()
        os.fsync(stream.fileno())
