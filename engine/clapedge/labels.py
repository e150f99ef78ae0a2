"""Words to a label set, and a label set to embeddings.

A label is what the user reads, a prompt what the text tower reads; a label with several prompts is their average.
"""

import csv
import io
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from clapedge.errors import BundleError, LabelError, StorageError
from clapedge.mel import Float32Array

TextEncoder: TypeAlias = Callable[[Sequence[str]], Float32Array]

LARGEST_FILE = 10_000_000
"""Bytes of a label file; whoever names a recording or an endless device by mistake is told, not kept waiting."""

DEFAULT_TEMPLATE = "This is a sound of {}."
"""The hypothesis template of transformers' zero-shot audio classification pipeline."""

SEPARATORS = re.compile("[,，]")
"""What parts labels that are given as one string; the full-width comma is what a Chinese keyboard types."""

CSV_COLUMNS = ("name", "prompts", "threshold", "hidden")
"""Columns of a label set as CSV; all but the first may be left out."""

PROMPT_SEPARATOR = "|"
"""What parts the prompts in a cell of a CSV file, where a comma parts the cells."""

UNIT_TOLERANCE = 1e-3
"""How far the norm of a stored embedding may be from 1: a float16 tower's rounding is below it."""

DAMAGES = (
    *(OSError, EOFError, KeyError, TypeError, ValueError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
"""What NumPy and zipfile raise for a damaged `.npz`, by the field that is hit."""


@dataclass(frozen=True)
class Label:
    """A sound that matters to the user.

    Attributes:
        name: what is shown, in any language.
        prompts: what the text tower reads; their embeddings are averaged.
        threshold: similarity from which the label counts as heard, or None.
        hidden: whether it takes its share of probability without being reported.
    """

    name: str
    prompts: tuple[str, ...]
    threshold: float | None = None
    hidden: bool = False


@dataclass(frozen=True)
class LabelSet:
    """Labels that share the probability of a recording, in the user's order."""

    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        """Refuse what cannot be scored: no label, a label twice, a label without words."""
        if not self.labels:
            raise LabelError("there are no labels; name at least one, for example: -l 'dog barking' -l rain")
        _refuse_unclear(self.labels)
        if all(label.hidden for label in self.labels):
            raise LabelError("every label is hidden, so there is nothing to report; show at least one")

    @classmethod
    def of(cls, words: Iterable[str], *, template: str = DEFAULT_TEMPLATE) -> "LabelSet":
        """Make a label set of plain words.

        Args:
            words: one label each; it is not split any further.
            template: the prompt, with `{}` where the word goes.
        """
        if isinstance(words, str):
            raise LabelError(f"expected a list of labels, found the string {words!r}; use LabelSet.parse to split it")
        stripped = (word.strip() for word in words)
        return cls(tuple(Label(word, (fill(template, word),)) for word in stripped))

    @classmethod
    def parse(cls, texts: str | Iterable[str], *, template: str = DEFAULT_TEMPLATE) -> "LabelSet":
        """Make a label set of what a user types: one text or several, split at `,` and at the full-width comma."""
        given = [texts] if isinstance(texts, str) else texts
        words = (word.strip() for text in given for word in SEPARATORS.split(text))
        return cls.of([word for word in words if word], template=template)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> "LabelSet":
        """Read a label set: TOML (`.toml`), CSV (`.csv`), or text with one label a line (`#` begins a comment).

        A TOML file may extend another label file: it begins with that one's labels, and its own replace those of the
        same name or follow them.

        Raises:
            LabelError: the file is missing or not understood; the message names the place.
        """
        source = Path(path)
        labels = _read_labels(source, ())
        with _naming(source):
            return cls(labels)

    @property
    def prompts(self) -> tuple[str, ...]:
        """Every prompt of every label, in order."""
        return tuple(prompt for label in self.labels for prompt in label.prompts)


@dataclass(frozen=True, eq=False)
class EmbeddedLabels:
    """A label set with the embeddings of its labels, ready to be scored against.

    Attributes:
        label_set: the labels.
        embeddings: (labels, E) float32, rows of unit norm.
        text_tower: SHA-256 of the text tower's FP32 file, which names the space in which the embeddings lie.
        temperature: what logits are divided by before the softmax, fitted to labelled clips; 1 changes nothing.
    """

    label_set: LabelSet
    embeddings: Float32Array
    text_tower: str
    temperature: float = 1.0

    @classmethod
    def embed(cls, label_set: LabelSet, encode: TextEncoder, text_tower: str) -> "EmbeddedLabels":
        """Embed a label set: the prompts of a label are encoded, averaged and normalised again.

        Args:
            label_set: the labels.
            encode: prompts to (prompts, E) float32 of unit norm.
            text_tower: SHA-256 of the text tower's FP32 file.
        """
        rows = encode(label_set.prompts)
        ends = np.cumsum([len(label.prompts) for label in label_set.labels])
        means = np.stack([part.mean(axis=0) for part in np.split(rows, ends[:-1])])
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return cls(label_set, means.astype(np.float32), text_tower)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an `.npz` without pickles; it appears whole or not at all.

        Raises:
            StorageError: it cannot be written.
        """
        target = Path(path)
        temporary = target.with_name(target.name + ".tmp")
        try:
            with temporary.open("wb") as stream:
                np.savez(stream, **self._arrays())
            temporary.replace(target)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            reason = error.strerror or str(error)
            raise StorageError(f"{target} cannot be written ({reason}); make room, or name another place") from error

    def _arrays(self) -> dict[str, Any]:
        """Return what is stored, by name."""
        labels = self.label_set.labels
        thresholds = [np.nan if label.threshold is None else label.threshold for label in labels]
        return {
            "names": np.array([label.name for label in labels], np.str_),
            "prompts": np.array(self.label_set.prompts, np.str_),
            "prompt_counts": np.array([len(label.prompts) for label in labels], np.int64),
            "thresholds": np.array(thresholds, np.float64),
            "hidden": np.array([label.hidden for label in labels], np.bool_),
            "embeddings": self.embeddings,
            "text_tower": np.array(self.text_tower, np.str_),
            "temperature": np.array(self.temperature, np.float64),
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "EmbeddedLabels":
        """Read what `save` wrote.

        Raises:
            BundleError: the file is missing or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as data:
                counts = iter(np.split(data["prompts"], np.cumsum(data["prompt_counts"])[:-1]))
                rows = zip(data["names"], data["thresholds"], data["hidden"], counts, strict=True)
                labels = tuple(
                    Label(str(name), tuple(map(str, prompts)), None if np.isnan(limit) else float(limit), bool(hidden))
                    for name, limit, hidden, prompts in rows
                )
                _check_rows(data["embeddings"], len(labels))
                temperature = float(data["temperature"]) if "temperature" in data else 1.0
                if not 0 < temperature < np.inf:
                    raise ValueError(f"its temperature is {temperature}")
                return cls(LabelSet(labels), data["embeddings"], str(data["text_tower"]), temperature)
        except DAMAGES as error:
            raise BundleError(
                f"{path} is no label set with embeddings ({error}); make it again: clapedge labels embed"
            ) from error


def _check_rows(embeddings: npt.NDArray[np.generic], count: int) -> None:
    """Refuse embeddings that are not `count` unit rows of float32.

    Raises:
        ValueError: what they are.
    """
    if embeddings.dtype != np.float32 or embeddings.ndim != 2 or len(embeddings) != count:  # noqa: PLR2004 - two axes
        raise ValueError(f"embeddings of {count} labels are {embeddings.dtype} of shape {embeddings.shape}")
    if not (np.abs(np.linalg.norm(embeddings, axis=1) - 1) <= UNIT_TOLERANCE).all():
        raise ValueError("its embeddings are not of unit norm")


def shipped_sets() -> dict[str, Path]:
    """Return the label sets that come with clapedge: their files by name."""
    installed = Path(__file__).parent / "label_sets"
    checkout = Path(__file__).parents[2] / "labels"  # an editable installation has them beside its packages
    directory = installed if installed.is_dir() else checkout
    return {path.stem: path for path in sorted(directory.glob("*.toml"))}


def find_file(name: str | os.PathLike[str]) -> Path:
    """Return the label file that a user names: a file, else the shipped set of that name.

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


def fill(template: str, word: str) -> str:
    """Put a word into a template.

    Raises:
        LabelError: the template has no `{}`.
    """
    if "{}" not in template:
        raise LabelError(f"template {template!r} has no {{}} where the label goes; for example: {DEFAULT_TEMPLATE!r}")
    return template.replace("{}", word)


def _refuse_unclear(labels: Sequence[Label]) -> None:
    """Refuse a label twice, a label without words, and a threshold that no similarity can reach or miss.

    Raises:
        LabelError: the message names the label.
    """
    seen: set[str] = set()
    for label in labels:
        if not label.name.strip() or not label.prompts or not all(prompt.strip() for prompt in label.prompts):
            raise LabelError(f"label {label.name!r} has no words; give it a name and at least one prompt")
        if not all(_is_text(words) for words in (label.name, *label.prompts)):
            raise LabelError(f"label {label.name!r} holds bytes that are no UTF-8 text; write it as UTF-8")
        if label.name in seen:
            raise LabelError(f"label {label.name!r} stands twice; remove one of the two")
        if label.threshold is not None and not -1 <= label.threshold <= 1:
            raise LabelError(f"label {label.name!r} has the threshold {label.threshold}; give one from -1 to 1")
        seen.add(label.name)


def _is_text(words: str) -> bool:
    """Tell whether words can be encoded; an undecodable byte of a command line arrives as a lone surrogate."""
    return not any("\ud800" <= character <= "\udfff" for character in words)


class _LabelTable(msgspec.Struct, forbid_unknown_fields=True):
    """One `[[label]]` of a TOML file, or a row of a CSV file; without prompts, its name goes into the template."""

    name: str
    prompts: tuple[str, ...] = ()
    threshold: float | None = None
    hidden: bool = False

    def label(self, template: str) -> Label:
        """Make the label that the table describes."""
        return Label(self.name, self.prompts or (fill(template, self.name),), self.threshold, self.hidden)


class _LabelFile(msgspec.Struct, forbid_unknown_fields=True):
    """The TOML layout of a label set."""

    extends: str | None = None
    template: str = DEFAULT_TEMPLATE
    label: tuple[_LabelTable, ...] = ()


def _read_labels(source: Path, extended_by: tuple[Path, ...]) -> tuple[Label, ...]:
    """Read the labels of a file and of those that it extends.

    Args:
        source: the file.
        extended_by: the files that led to it, the first one first.
    """
    if any(source.resolve() == other.resolve() for other in extended_by):
        circle = " extends ".join(str(path) for path in (*extended_by, source))
        raise LabelError(f"label files extend each other in a circle ({circle}); remove one `extends`")
    try:
        with source.open("rb") as stream:
            raw = stream.read(LARGEST_FILE + 1)
        if len(raw) > LARGEST_FILE:
            raise LabelError(f"label file {source} is longer than {LARGEST_FILE} bytes; name a file of labels")
        text = raw.decode("utf-8-sig")
    except FileNotFoundError:
        wanted_by = f", which {extended_by[-1]} extends," if extended_by else ""
        raise LabelError(f"label file {source}{wanted_by} does not exist; check the path") from None
    except UnicodeDecodeError as error:
        raise LabelError(f"label file {source} cannot be read as UTF-8 text ({error}); save it as UTF-8") from error
    except OSError as error:
        raise LabelError(f"label file {source} cannot be read ({error.strerror}); check the path") from error
    if source.suffix.lower() == ".toml":
        return _read_toml(source, text, extended_by)
    with _naming(source):
        if source.suffix.lower() == ".csv":
            labels = tuple(table.label(DEFAULT_TEMPLATE) for table in _csv_tables(text))
        else:
            lines = (line.split("#", 1)[0].strip() for line in text.splitlines())
            labels = tuple(Label(line, (fill(DEFAULT_TEMPLATE, line),)) for line in lines if line)
        _refuse_unclear(labels)
    return labels


def _read_toml(source: Path, text: str, extended_by: tuple[Path, ...]) -> tuple[Label, ...]:
    """Read the labels of a TOML file, upon those of the file that it extends."""
    with _naming(source):
        tables = msgspec.toml.decode(text, type=_LabelFile)
        own = tuple(table.label(tables.template) for table in tables.label)
        _refuse_unclear(own)
    if tables.extends is None:
        return own
    inherited = _read_labels(source.parent / tables.extends, (*extended_by, source))
    return tuple({label.name: label for label in (*inherited, *own)}.values())


@contextmanager
def _naming(source: Path) -> Iterator[None]:
    """Let what is wrong with a file's content name the file."""
    try:
        yield
    except (msgspec.MsgspecError, csv.Error, LabelError) as error:
        raise LabelError(f"label file {source}: {error}") from error


def _csv_tables(text: str) -> list[_LabelTable]:
    """Read the rows of a CSV file; empty lines are passed over.

    Raises:
        LabelError: a column or a value is not understood; the message names the line.
    """
    rows = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    columns = [(column or "").strip() for column in rows.fieldnames or ()]
    if "name" not in columns or not set(columns) <= set(CSV_COLUMNS) or len(set(columns)) < len(columns):
        raise LabelError(
            f"the first line names the columns {', '.join(columns) or 'nothing'}; "
            f"name is needed, and known are {', '.join(CSV_COLUMNS)}, each once"
        )
    rows.fieldnames = columns
    tables = []
    for row in rows:
        if None in row:
            raise LabelError(f"line {rows.line_num} has more cells than columns; put a text with commas into quotes")
        cells = {column: (cell or "").strip() for column, cell in row.items()}
        prompts = [prompt.strip() for prompt in cells.pop("prompts", "").split(PROMPT_SEPARATOR) if prompt.strip()]
        given = {column: cell for column, cell in cells.items() if cell or column == "name"}
        try:
            tables.append(msgspec.convert({**given, "prompts": prompts}, _LabelTable, strict=False))
        except msgspec.ValidationError as error:
            raise LabelError(f"line {rows.line_num}: {error}") from error
    return tables
