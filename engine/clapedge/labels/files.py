"""Files of labels: TOML, CSV or text, and the sets that come with clapedge."""

import csv
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import msgspec

from clapedge.csv_table import decode_text, read_flag, read_table
from clapedge.errors import ClapEdgeWarning, LabelError
from clapedge.labels.label import DEFAULT_TEMPLATE, Label, check_labels, fill
from clapedge.validation import describe_mismatch

MAX_FILE_BYTES = 10_000_000
"""A longer file is a recording or an endless device, named by mistake."""

CSV_COLUMNS = ("name", "prompts", "threshold", "hidden")
"""Columns of a label set as CSV, in any case of letters; all but the first are optional."""

PROMPT_SEPARATOR = "|"
"""Between the prompts in a cell of a CSV file; a comma separates the cells."""


LANGUAGE_VARIABLE = "CLAPEDGE_LANGUAGE"
"""Environment variable: in which language labels that have several names are shown, such as `zh`."""

_Names: TypeAlias = dict[str, dict[str, str]]
"""Names of labels in other languages, by language, by their own name."""


def shipped_sets() -> dict[str, Path]:
    """Return the label sets that come with clapedge: their files by name."""
    installed = Path(__file__).parents[1] / "label_sets"
    checkout = Path(__file__).parents[3] / "labels"  # an editable installation has them beside its packages
    directory = installed if installed.is_dir() else checkout
    return {path.stem: path for path in sorted(directory.glob("*.toml"))}


def find_file(name: str | os.PathLike[str]) -> Path:
    """Return the path of a label file: the file, else the shipped set of that name.

    Raises:
        LabelError: there is neither; the message names the shipped ones.
    """
    path, shipped = Path(name), shipped_sets()
    if path.is_dir() or not path.exists():
        if os.fspath(name) in shipped:
            return shipped[os.fspath(name)]
        found = "is a directory" if path.is_dir() else "does not exist"
        raise LabelError(f"label file {path} {found}; check the path, or name a shipped set: {', '.join(shipped)}")
    return path


class _LabelTable(msgspec.Struct, forbid_unknown_fields=True):
    """One `[[label]]` of a TOML file, or a row of a CSV file; its default prompt is its name in the template."""

    name: str
    names: dict[str, str] = {}
    prompts: tuple[str, ...] = ()
    threshold: float | None = None
    hidden: bool = False

    def label(self, template: str) -> Label:
        """Return the label."""
        return Label(self.name, self.prompts or (fill(template, self.name),), self.threshold, self.hidden)


class _LabelFile(msgspec.Struct, forbid_unknown_fields=True):
    """The TOML layout of a label set."""

    extends: str | None = None
    template: str = DEFAULT_TEMPLATE
    label: tuple[_LabelTable, ...] = ()


def read_labels(source: Path, language: str | None = None) -> tuple[Label, ...]:
    """Read the labels of a file and of those that it extends, each under one name.

    Args:
        source: the file.
        language: which of the `names` of a label is taken, such as `zh`; None means `CLAPEDGE_LANGUAGE`, if it is set.
            A label without a name in it keeps its `name`.
    """
    names: _Names = {}
    labels = _read(source, (), names)
    language = language or os.environ.get(LANGUAGE_VARIABLE, "").strip()
    if not language or not names:
        return labels
    known = sorted({one for own in names.values() for one in own})
    if language not in known:
        warnings.warn(
            f"label file {source} has no names in the language {language!r} (it has: {', '.join(known)}); "
            "its labels keep their own",
            ClapEdgeWarning,
            stacklevel=3,
        )
    return tuple(replace(label, name=names.get(label.name, {}).get(language, label.name)) for label in labels)


def _read(source: Path, extended_by: tuple[Path, ...], names: _Names) -> tuple[Label, ...]:
    """Read the labels of a file and of those that it extends.

    Args:
        source: the file.
        extended_by: the files that extend it, from the first on.
        names: the names in other languages, by the label's own, are added here.
    """
    if any(source.resolve() == other.resolve() for other in extended_by):
        circle = " extends ".join(str(path) for path in (*extended_by, source))
        raise LabelError(f"label files extend each other in a circle ({circle}); remove one `extends`")
    if source.suffix.lower() == ".npz":
        from clapedge.labels.embedded import EmbeddedLabels  # which is made of label sets, and they are read here

        return EmbeddedLabels.load(source).label_set.labels
    try:
        with source.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise LabelError(f"label file {source} is longer than {MAX_FILE_BYTES} bytes; name a file of labels")
    except FileNotFoundError:
        wanted_by = f", which {extended_by[-1]} extends," if extended_by else ""
        raise LabelError(f"label file {source}{wanted_by} does not exist; check the path") from None
    except OSError as error:
        raise LabelError(f"label file {source} cannot be read ({error.strerror}); check the path") from error
    with errors_with_name(source):
        text = decode_text(raw)
    if source.suffix.lower() == ".toml":
        return _read_toml(source, text, extended_by, names)
    with errors_with_name(source):
        if source.suffix.lower() == ".csv":
            labels = tuple(table.label(DEFAULT_TEMPLATE) for table in _csv_tables(text))
        else:
            lines = (line.split("#", 1)[0].strip() for line in text.splitlines())
            labels = tuple(Label(line, (fill(DEFAULT_TEMPLATE, line),)) for line in lines if line)
        check_labels(labels)
    return labels


def _read_toml(source: Path, text: str, extended_by: tuple[Path, ...], names: _Names) -> tuple[Label, ...]:
    """Read the labels of a TOML file and of the file that it extends."""
    with errors_with_name(source):
        tables = msgspec.toml.decode(text, type=_LabelFile)
        own = tuple(table.label(tables.template) for table in tables.label)
        check_labels(own)
    if tables.extends is None:
        names.update({table.name: table.names for table in tables.label if table.names})
        return own
    path, shipped = source.parent / tables.extends, shipped_sets()
    if tables.extends in shipped and not path.is_file():
        path = shipped[tables.extends]
    inherited = _read(path, (*extended_by, source), names)
    names.update({table.name: table.names for table in tables.label if table.names})
    return tuple({label.name: label for label in (*inherited, *own)}.values())


@contextmanager
def errors_with_name(source: Path) -> Iterator[None]:
    """Turn errors about the content of a file into `LabelError`s with its name."""
    try:
        yield
    except msgspec.ValidationError as error:
        raise LabelError(
            f"label file {source}: {describe_mismatch(error)}; "
            f"a label has a name, and may have {', '.join(CSV_COLUMNS[1:])}; "
            "beside its labels a file may have template and extends"
        ) from error
    except RecursionError as error:
        raise LabelError(f"label file {source}: it is nested too deeply; a label set is a list of labels") from error
    except (msgspec.MsgspecError, csv.Error, ValueError) as error:  # as of an integer of thousands of digits
        raise LabelError(f"label file {source}: {error}") from error


def _csv_tables(text: str) -> list[_LabelTable]:
    """Read the rows of a CSV file; empty ones are skipped.

    Raises:
        LabelError: a column or a value is not understood; the message names the line.
    """
    table = read_table(text)
    columns = [column.lower() for column in table.columns]
    if "name" not in columns or not set(columns) <= set(CSV_COLUMNS) or len(set(columns)) < len(columns):
        raise LabelError(
            f"the first line names the columns {table.described}; "
            f"name is needed, and known are {', '.join(CSV_COLUMNS)}, each once"
        )
    tables = []
    for line, row in table.rows:
        try:
            tables.append(msgspec.convert(_values(row), _LabelTable, strict=False))
        except msgspec.ValidationError as error:
            raise LabelError(f"line {line}: {describe_mismatch(error)}") from error
    return tables


def _values(row: Mapping[str, str]) -> dict[str, object]:
    """Return the fields of a label from the cells of its row, written in whichever language."""
    cells = {column.lower(): cell for column, cell in row.items()}
    values: dict[str, object] = {column: cell for column, cell in cells.items() if cell or column == "name"}
    values["prompts"] = [words for part in cells.get("prompts", "").split(PROMPT_SEPARATOR) if (words := part.strip())]
    if "threshold" in values:
        values["threshold"] = cells["threshold"].replace(",", ".")  # a decimal comma
    if "hidden" in values:
        values["hidden"] = read_flag(cells["hidden"])
    return values
