"""Rows of CSV: as programs read them, or as a spreadsheet does."""

import csv
import re
from collections.abc import Iterable
from typing import Literal, TextIO, TypeAlias

from clapedge.terminal import printable

DecimalMark: TypeAlias = Literal["point", "comma"]
"""What a spreadsheet takes for the decimal mark: its language's."""

BYTE_ORDER_MARK = "\ufeff"
"""At the beginning it makes Excel read UTF-8, instead of the encoding of its Windows."""

FORMULA = re.compile("[=+\\-@＝＋－＠]")  # noqa: RUF001 - East Asian keyboards type the full-width ones
"""How a cell begins that a spreadsheet would compute (OWASP, "CSV Injection")."""


class CsvRows:
    """Writes rows of cells."""

    def __init__(self, stream: TextIO, *, spreadsheet: DecimalMark | None = None) -> None:
        """Begin.

        Args:
            stream: where the rows go.
            spreadsheet: the decimal mark of the spreadsheet that will open the file: it gets a byte order mark, cells
                separated by commas or, where the comma is the decimal mark, by semicolons, and an apostrophe before a
                text that would be a formula. None writes the same bytes for every program.
        """
        self._spreadsheet = spreadsheet
        self._rows = csv.writer(stream, delimiter=";" if spreadsheet == "comma" else ",", lineterminator="\n")
        if spreadsheet:
            stream.write(BYTE_ORDER_MARK)

    def write(self, cells: Iterable[object]) -> None:
        """Write a row."""
        self._rows.writerow(map(self._shown, cells) if self._spreadsheet else cells)

    def _shown(self, cell: object) -> object:
        """Return a cell as a spreadsheet shows it."""
        if isinstance(cell, float) and self._spreadsheet == "comma":
            return repr(float(cell)).replace(".", ",")
        if isinstance(cell, str):
            text = printable(cell)  # a line break or a tab may begin another cell
            return f"'{text}" if FORMULA.match(text) else text
        return cell
