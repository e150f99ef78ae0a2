"""CSV for spreadsheets: it opens with its letters and numbers, and computes nothing; other CSV stays as it is."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clapedge.output.csv_rows import CsvRows, DecimalMark

Run = Callable[..., Any]
"""The fixture `run`: gives what `conftest.Done` describes."""

FORMULA = '=HYPERLINK("http://127.0.0.1/","雨")'

MARKS: tuple[DecimalMark, ...] = ("point", "comma")


def rows(text: str, mark: DecimalMark) -> list[dict[str, str]]:
    """Return the rows of CSV as a spreadsheet with a decimal mark splits them."""
    assert text.startswith("\ufeff")
    return list(csv.DictReader(io.StringIO(text[1:]), delimiter=";" if mark == "comma" else ","))


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Make a label set of names that a spreadsheet would compute."""
    path = tmp_path / "labels.txt"
    path.write_text(f"{FORMULA}\n+1\n雨\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("mark", MARKS)
def test_scores_open_in_a_spreadsheet_and_compute_nothing(run: Run, noise: Path, labels: Path, mark: str) -> None:
    plain = run("score", noise, "none.wav", "--labels", labels, "--format", "csv")
    done = run("score", noise, "none.wav", "--labels", labels, "--format", "csv", "--spreadsheet", mark)
    assert done.code == plain.code == 1
    assert not plain.out.startswith("\ufeff")
    shown, known = rows(done.out, mark), list(csv.DictReader(io.StringIO(plain.out)))  # type: ignore[arg-type]
    assert {row["label"] for row in shown} == {f"'{FORMULA}", "'+1", "雨", ""}
    decimal = "," if mark == "comma" else "."
    assert [row["similarity"] for row in shown] == [row["similarity"].replace(".", decimal) for row in known]


@pytest.mark.parametrize("mark", MARKS)
def test_batches_and_events_open_in_a_spreadsheet(
    run: Run, noise: Path, labels: Path, tmp_path: Path, mark: DecimalMark
) -> None:
    output, events = tmp_path / "results.csv", tmp_path / "events.csv"
    done = run("batch", noise, "--labels", labels, "-o", output, "--spreadsheet", mark)
    assert done.code == 0, done.err
    assert {row["label"] for row in rows(output.read_text("utf-8"), mark)} == {f"'{FORMULA}", "'+1", "雨"}
    given = ("--labels", labels, "--multi", "--on", "-0.99", "--off", "-1", "--format", "csv", "--spreadsheet", mark)
    done = run("timeline", noise, *given, "-o", events)
    assert done.code == 0, done.err
    found = rows(events.read_text("utf-8"), mark)
    assert {row["label"] for row in found} == {f"'{FORMULA}", "'+1", "雨"}
    assert {row["start"] for row in found} == {"0,0" if mark == "comma" else "0.0"}


@pytest.mark.parametrize(
    "arguments",
    [("score", "a.wav"), ("timeline", "a.wav", "--format", "raven"), ("batch", "a.wav", "-o", "out.jsonl")],
)
def test_a_spreadsheet_without_csv_is_an_error(run: Run, arguments: tuple[str, ...]) -> None:
    done = run(*arguments, "-l", "rain,siren", "--spreadsheet", "comma")
    assert done.code == 2
    assert "--spreadsheet goes with CSV" in done.err


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@a", "＝1"])  # noqa: RUF001
def test_text_that_begins_like_a_formula_gets_an_apostrophe(text: str) -> None:
    stream = io.StringIO()
    CsvRows(stream, spreadsheet="point").write([text, -1.5, "a=1", None, "\r=1"])
    assert next(csv.reader(io.StringIO(stream.getvalue()[1:]))) == [f"'{text}", "-1.5", "a=1", "", r"\r=1"]
