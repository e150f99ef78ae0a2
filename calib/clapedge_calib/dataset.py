"""Labelled recordings: a folder per class, a CSV, or the layouts of ESC-50 and UrbanSound8K."""

import csv
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clapedge.audio.discovery import find_recordings
from clapedge.csv_table import CsvTable, decode_text, read_table
from clapedge.errors import ClapEdgeWarning, UsageError
from clapedge.terminal import record_name

KNOWN_MANIFESTS = ("meta/esc50.csv", "metadata/UrbanSound8K.csv", "clips.csv")
"""CSV files that identify the layout of a data set: ESC-50's, UrbanSound8K's, and this project's own."""


@dataclass(frozen=True)
class Example:
    """One recording of a data set.

    Attributes:
        name: shown to the user, relative to the data set.
        path: of the file.
        label: its class, or None if the data set names none.
        fold: the part of the data set that it belongs to, or an empty string.
        start: where the example begins in a long recording, in seconds.
        seconds: how long it is; None means the whole recording.
    """

    name: str
    path: Path
    label: str | None
    fold: str = ""
    start: float = 0.0
    seconds: float | None = None


def read_dataset(
    audio: Path | None = None,
    manifest: Path | None = None,
    *,
    folds: Iterable[str] = (),
    where: Iterable[tuple[str, str]] = (),
) -> tuple[Example, ...]:
    """List the recordings of a data set, sorted by name.

    Args:
        audio: its folder, which holds a known CSV or a folder per class (or none).
        manifest: a CSV with the columns file and label, or that of ESC-50 or UrbanSound8K; its files are
            relative to `audio`, or to itself.
        folds: keep only these folds.
        where: keep only rows of the CSV in which a column has a value.

    Raises:
        UsageError: nothing is found, or the CSV is not understood.
    """
    if audio is not None and not audio.is_dir():
        raise UsageError(f"{audio} is not a folder; name the folder that holds the recordings")
    known = [audio / name for name in KNOWN_MANIFESTS if (audio / name).is_file()] if audio else []
    table = manifest or (known[0] if known else None)
    wanted, conditions = set(folds), dict(where)
    if table is not None:
        examples = _from_csv(table, audio, conditions)
    elif audio is None:
        raise UsageError('no recordings are named; use audio="DIR" or manifest="FILE"')
    else:
        if wanted or conditions:
            raise UsageError(f'{audio} holds no CSV with folds or columns; use manifest="FILE"')
        examples = _from_folders(audio)
    kept = sorted((each for each in examples if not wanted or each.fold in wanted), key=lambda each: each.name)
    if not kept:
        among = f" in fold {', '.join(sorted(wanted))}" if wanted else ""
        raise UsageError(f"{table or audio} names no recordings{among}; check the path and the folds")
    return tuple(kept)


def classes_of(examples: Sequence[Example]) -> list[str]:
    """Return the class of each recording.

    Raises:
        UsageError: a recording has none.
    """
    if nameless := [each.name for each in examples if each.label is None]:
        raise UsageError(f"{nameless[0]} has no label; put it into a folder named like its class, or into a CSV")
    return [each.label or "" for each in examples]


def class_name(label: str) -> str:
    """Return a class in words: data sets write underscores for spaces."""
    return " ".join(label.replace("_", " ").split())


def recordings_in(folder: Path) -> tuple[str, ...]:
    """Return the recordings in a folder and those beneath it, and warn of what is passed over."""
    found = find_recordings([folder], recursive=True)
    for sentence in found.notes():
        warnings.warn(sentence, ClapEdgeWarning, stacklevel=4)
    return found.files


def _from_folders(audio: Path) -> list[Example]:
    """List a folder: the first folder beneath it is the class; files beside the folders have none."""
    examples = []
    for path in map(Path, recordings_in(audio)):
        parts = path.relative_to(os.path.normpath(audio)).parts
        label = class_name(record_name(parts[0])) if len(parts) > 1 else None
        examples.append(Example(record_name("/".join(parts)), path, label))
    return examples


def _from_csv(table: Path, audio: Path | None, conditions: dict[str, str]) -> list[Example]:
    """Read a CSV of one of the known layouts."""
    try:
        read = read_table(decode_text(table.read_bytes()))
    except FileNotFoundError:
        raise UsageError(f"{table} does not exist; check the path") from None
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{table} cannot be read as CSV ({error}); correct it, or save it again") from error
    for column in conditions:
        if column not in read.columns:
            raise UsageError(f"{table} has no column {column!r}; it has {read.described}")
    found: dict[Path, int] = {}
    examples = []
    for line, row in read.rows:
        if all(row[column] == value for column, value in conditions.items()):
            example = _example(row, table, audio, read, line)
            if example.path in found:
                raise UsageError(
                    f"{table} names {example.name} in line {found[example.path]} and in line {line}; remove one, since "
                    "a recording has one class, and calibrates or evaluates"
                )
            found[example.path] = line
            examples.append(example)
    return examples


def _example(row: Mapping[str, str], table: Path, audio: Path | None, read: CsvTable, line: int) -> Example:
    """Make an example of one row."""
    fold = row.get("fold") or ""
    if {"filename", "category"} <= set(read.columns):
        name, label, below = row["filename"], row["category"] or "", "audio"
    elif {"slice_file_name", "class", "fold"} <= set(read.columns):
        name, label, below = row["slice_file_name"], row["class"] or "", f"audio/fold{fold}"
    elif "file" in read.columns:
        name, label, below = row["file"], row.get("label") or "", ""
    else:
        raise UsageError(
            f"{table} has the columns {read.described}; expected file and label (and fold), or those of "
            "ESC-50 or UrbanSound8K"
        )
    if not name:
        raise UsageError(f"{table} names no file in line {line}; fill it in, or remove the line")
    root = (table.parent.parent if below else table.parent) if audio is None else audio
    folder = root / below if (root / below).is_dir() else root
    return Example(name, folder / name, class_name(label) or None, fold)
