"""Tables as spreadsheets of any language save them: Excel's separators, encodings, marks and words."""

import csv
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clapedge.csv_table import decode_text, read_flag, read_table
from clapedge.errors import LabelError
from clapedge.labels import Label, LabelSet

ROWS = (
    ("name", "prompts", "threshold", "hidden"),
    ("轴承异响", "a grinding squeal | metal, screeching", "0,3", "FALSCH"),
    ("Tür", "a door; it slams", "", ""),
    ("background", "quiet room tone", "", "WAHR"),
    ("", "", "", ""),
)
"""A label set as a spreadsheet set to German holds it, with an empty row at its end."""

LABELS = (
    Label("轴承异响", ("a grinding squeal", "metal, screeching"), threshold=0.3),
    Label("Tür", ("a door; it slams",)),
    Label("background", ("quiet room tone",), hidden=True),
)


def saved(separator: str, *, first: str = "", line_end: str = "\r\n") -> str:
    """Return the rows as a spreadsheet saves them."""
    lines = []
    for row in ROWS:
        cells = [f'"{cell}"' if separator in cell else cell for cell in row]
        lines.append(separator.join(cells) + line_end)
    return first + "".join(lines)


@pytest.mark.parametrize("line_end", ["\r\n", "\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(("separator", "first"), [(",", ""), (";", ""), ("\t", ""), (";", "sep=;\r\n"), ("，", "")])
def test_a_label_set_is_read_however_a_spreadsheet_saved_it(
    tmp_path: Path, separator: str, first: str, encoding: str, line_end: str
) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(saved(separator, first=first, line_end=line_end).encode(encoding))
    assert LabelSet.from_file(path).labels == LABELS


def test_a_text_file_of_labels_may_be_utf_16(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("rain\r\n雨\r\n".encode("utf-16"))
    assert [label.name for label in LabelSet.from_file(path).labels] == ["rain", "雨"]


@pytest.mark.parametrize("encoding", ["cp1252", "gb18030"])
def test_an_encoding_that_cannot_be_recognised_is_named_with_its_line(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes("name;prompts\nrain;rain\nTür;a door\n".encode(encoding))
    expected = r"labels\.csv: line 3 is not UTF-8 text, .*save it as UTF-8 \(Excel: CSV UTF-8\)"
    with pytest.raises(LabelError, match=expected):
        LabelSet.from_file(path)


@pytest.mark.parametrize("begins", [b"PK\x03\x04\x14\x00", b"\xd0\xcf\x11\xe0\xa1\xb1"])
def test_a_workbook_is_named_with_what_to_save_instead(tmp_path: Path, begins: bytes) -> None:
    path = tmp_path / "labels.xlsx"
    path.write_bytes(begins + bytes(100))
    with pytest.raises(LabelError, match=r"labels\.xlsx: it is the workbook of a spreadsheet; save it as CSV UTF-8"):
        LabelSet.from_file(path)


@pytest.mark.parametrize(("separator", "named"), [(",", "commas"), (";", "semicolons"), ("\t", "tabs")])
def test_an_error_about_columns_names_what_separated_them(tmp_path: Path, separator: str, named: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"name{separator}colour\nrain{separator}blue\n", encoding="utf-8")
    with pytest.raises(LabelError, match=rf"columns name, colour \(cells separated by {named}\)"):
        LabelSet.from_file(path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("a;b\n1;2;3\n", "line 2 has more cells"), ("sep=;\na;b\n\n1;2;3\n", "line 4 has more cells")],
)
def test_a_row_with_more_cells_than_columns_is_named(text: str, complaint: str) -> None:
    with pytest.raises(csv.Error, match=complaint):
        read_table(text)


def test_columns_and_rows_that_are_empty_are_left_out() -> None:
    table = read_table("\nfile , label,,\na.wav,rain,,\n,,,\nb.wav\n")
    assert table.columns == ("file", "label")
    assert table.rows == ((3, {"file": "a.wav", "label": "rain"}), (5, {"file": "b.wav", "label": ""}))


@pytest.mark.parametrize("word", ["WAHR", "Vrai", "ИСТИНА", "DOĞRU", "ja", "是", "X"])
def test_truth_is_read_in_the_languages_of_spreadsheets(word: str) -> None:
    assert read_flag(word) is True


@pytest.mark.parametrize("word", ["FALSCH", "Faux", "ЛОЖЬ", "YANLIŞ", "nein", "否"])
def test_falsehood_is_read_in_the_languages_of_spreadsheets(word: str) -> None:
    assert read_flag(word) is False


def test_other_words_stay_as_they_are() -> None:
    assert read_flag("perhaps") == "perhaps"


@given(st.binary(max_size=200))
def test_any_bytes_are_text_or_a_value_error(raw: bytes) -> None:
    with suppress(ValueError):
        decode_text(raw)


@given(st.text(max_size=200))
def test_any_text_is_a_table_or_an_error_of_csv(text: str) -> None:
    try:
        table = read_table(text)
    except csv.Error:
        return
    assert all(tuple(row) == table.columns or len(set(table.columns)) < len(table.columns) for _, row in table.rows)
