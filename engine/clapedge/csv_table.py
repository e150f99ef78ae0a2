"""Tables that people save from spreadsheets: separators, encodings and words of the language that Excel was set to."""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "，": "full-width commas"}
"""What may separate cells, in words; of the first line's, the most frequent one counts. A spreadsheet writes semicolons
where the comma is the decimal mark, and tabs as "Unicode text"; the full-width comma is that of a Chinese keyboard."""

ENCODINGS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
"""Encodings by the bytes that a file of them begins with."""

WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""How the files begin that spreadsheets keep for themselves: .xlsx and .ods, and .xls."""

TRUE = re.compile(
    "true|wahr|vrai|verdadero|vero|verdadeiro|waar|prawda|истина|sant|sand|sann|tosi|pravda|igaz|doğru|adevărat"
    "|yes|ja|oui|sí|si|sì|sim|tak|да|是|真|x"
)
FALSE = re.compile(
    "false|falsch|faux|falso|onwaar|fałsz|ложь|falskt|falsk|usann|epätosi|nepravda|hamis|yanl[iı]ş|fals"  # noqa: RUF001
    "|no|nein|non|não|nee|nej|nie|нет|否|假"
)
"""How spreadsheets show the values TRUE and FALSE in their languages (Chinese and Japanese ones write English), and
what people type, in lower case."""


@dataclass(frozen=True)
class CsvTable:
    """Rows under named columns.

    Attributes:
        columns: their names, without spaces around them.
        rows: the number of the line that each row ends in, and its cells by column, without spaces around them.
        separator: the character between the cells.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[int, Mapping[str, str]], ...]
    separator: str

    @property
    def described(self) -> str:
        """The columns with what separates them, for messages."""
        return f"{', '.join(self.columns) or 'nothing'} (cells separated by {SEPARATORS[self.separator]})"


def decode_text(raw: bytes) -> str:
    """Return the text of a file: UTF-8, or UTF-16 as editors and Excel save "Unicode".

    Raises:
        ValueError: it is a workbook, or in another encoding, which cannot be recognised; the message names the line.
    """
    if raw.startswith(WORKBOOKS):
        raise ValueError("it is the workbook of a spreadsheet; save it as CSV UTF-8, and name that file")
    encoding = next((name for mark, name in ENCODINGS if raw.startswith(mark)), None)
    if encoding is None and b"\0" in raw[:2]:  # UTF-16 without a mark: Latin letters have an empty half
        encoding = "utf-16-be" if raw[:1] == b"\0" else "utf-16-le"
    try:
        return raw.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"line {line} is not UTF-8 text, nor UTF-16 with a mark; save it as UTF-8 (Excel: CSV UTF-8)"
        ) from error


def read_table(text: str) -> CsvTable:
    """Read a table; empty rows, empty columns at its end, and a first line `sep=;` as Excel knows it are left out.

    Raises:
        csv.Error: it is not CSV, or a row has more cells than there are columns; the message names the line.
    """
    declared, _, rest = text.partition("\n")
    begins = 0
    if declared.lower().startswith("sep=") and len(declared.rstrip("\r")) == len("sep=;"):
        separator, text, begins = declared[len("sep=")], rest, 1
    else:
        first = text.lstrip().partition("\n")[0]
        separator = max(SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    filled = ((reader.line_num + begins, cells) for cells in _stripped(reader) if any(cells))
    _, columns = next(filled, (0, []))
    while columns and not columns[-1]:
        columns.pop()
    return CsvTable(tuple(columns), tuple(_rows(filled, columns)), separator)


def read_flag(cell: str) -> bool | str:
    """Return the truth that a cell states in one of the languages of spreadsheets, else the cell as it is."""
    word = cell.casefold()
    return True if TRUE.fullmatch(word) else False if FALSE.fullmatch(word) else cell


def _stripped(lines: Iterator[list[str]]) -> Iterator[list[str]]:
    """Yield rows without spaces around their cells."""
    for cells in lines:
        yield [cell.strip() for cell in cells]


def _rows(filled: Iterator[tuple[int, list[str]]], columns: list[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield rows by column; missing cells are empty."""
    for line, cells in filled:
        if any(cells[len(columns) :]):
            raise csv.Error(f"line {line} has more cells than columns; put a text with separators into quotes")
        padded = cells[: len(columns)] + [""] * (len(columns) - len(cells))
        yield line, dict(zip(columns, padded, strict=True))
