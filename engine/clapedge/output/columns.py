"""Columns of tabular output as data: one list for results and one for events, which every format iterates."""

from operator import attrgetter
from typing import Any, NamedTuple

from clapedge.events.event import Event
from clapedge.scoring.decision import Score
from clapedge.scoring.result import Provenance, Result


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        name: its heading.
        type: Arrow's name of the type of its values.
        path: the attribute of a row that is its value, such as `score.name`.
    """

    name: str
    type: str
    path: str


class ResultRow(NamedTuple):
    """One label of a result."""

    result: Result
    provenance: Provenance
    rank: int
    score: Score
    ms: float | None
    warnings: str
    error: str | None = None


class EventRow(NamedTuple):
    """One event of a recording."""

    file: str
    event: Event
    provenance: Provenance


PROVENANCE_COLUMNS = tuple(
    Column(name, "string", f"provenance.{name}") for name in ("model", "weights", "variant", "provider")
)

SPACE_COLUMN = Column("space", "string", "provenance.space")

_FIRST_COLUMNS = (
    Column("file", "string", "result.file"),
    Column("rank", "int32", "rank"),
    Column("label", "string", "score.name"),
    Column("probability", "float64", "score.probability"),
    Column("similarity", "float32", "score.similarity"),
    Column("unsure", "bool", "result.unsure"),
    Column("start", "float64", "result.coverage.start"),
    Column("end", "float64", "result.coverage.end"),
    Column("of", "float64", "result.coverage.duration"),
    *PROVENANCE_COLUMNS,
    Column("ms", "float64", "ms"),
    Column("warnings", "string", "warnings"),
    Column("error", "string", "error"),
)

RESULT_COLUMNS = (*_FIRST_COLUMNS, SPACE_COLUMN)
"""Of a table with a row a label. New columns are put at the end."""

DECIDED_COLUMNS = (
    *_FIRST_COLUMNS,
    Column("threshold", "float64", "score.threshold"),
    Column("present", "bool", "score.present"),
    SPACE_COLUMN,
)
"""Of the same table where each label has its own threshold."""

FIT_COLUMNS = (Column("fit", "float64", "result.fit"), Column("unknown", "bool", "result.unknown"))
"""After those of either table, where the label set was calibrated with background."""

EVENT_COLUMNS = (
    Column("file", "string", "file"),
    Column("label", "string", "event.label"),
    Column("start", "float64", "event.start"),
    Column("end", "float64", "event.end"),
    Column("peak", "float64", "event.peak"),
    Column("probability", "float64", "event.probability"),
    Column("similarity", "float32", "event.similarity"),
    *PROVENANCE_COLUMNS,
    SPACE_COLUMN,
)
"""Of a table with a row an event."""


class ResultTable:
    """Results as rows of columns."""

    def __init__(self, *, multi: bool, top_k: int | None = None, fit: bool = False) -> None:
        """Choose the columns.

        Args:
            multi: whether each label has its own threshold.
            top_k: how many labels of a result have a row; None means all.
            fit: whether results say how well the best label fits.
        """
        self.columns = (DECIDED_COLUMNS if multi else RESULT_COLUMNS) + (FIT_COLUMNS if fit else ())
        self._values = attrgetter(*(column.path for column in self.columns))
        self._top_k = top_k

    def rows(self, result: Result) -> list[tuple[object, ...]]:
        """Return a row a label, best first."""
        about = result.timing.total if result.timing else None, " | ".join(result.warnings)
        return [
            self._values(ResultRow(result, result.provenance, rank, score, *about))
            for rank, score in enumerate(result.labels[: self._top_k], 1)
        ]

    def failed_row(self, file: str, error: str) -> tuple[object, ...]:
        """Return the row of a recording that failed."""
        known = {"file": file, "error": error}
        return tuple(known.get(column.name) for column in self.columns)


_event_values = attrgetter(*(column.path for column in EVENT_COLUMNS))


def event_record(file: str, event: Event, provenance: Provenance) -> dict[str, Any]:
    """Return the record of an event, a field a column, and `tower` where it was a short one."""
    names = (column.name for column in EVENT_COLUMNS)
    record = dict(zip(names, _event_values(EventRow(file, event, provenance)), strict=True))
    return record if provenance.tower == "whole" else {**record, "tower": provenance.tower}
