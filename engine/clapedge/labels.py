"""Words to a label set, and a label set to embeddings.

A label is what the user reads, a prompt what the text tower reads; a label with several prompts is their average.
"""

import os
import re
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgspec
import numpy as np

from clapedge.errors import BundleError, LabelError
from clapedge.mel import Float32Array

TextEncoder: TypeAlias = Callable[[Sequence[str]], Float32Array]

DEFAULT_TEMPLATE = "This is a sound of {}."
"""The hypothesis template of transformers' zero-shot audio classification pipeline."""

SEPARATORS = re.compile("[,，]")
"""What parts labels that are given as one string; the full-width comma is what a Chinese keyboard types."""


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
        seen: set[str] = set()
        for label in self.labels:
            if not label.name.strip() or not label.prompts or not all(prompt.strip() for prompt in label.prompts):
                raise LabelError(f"label {label.name!r} has no words; give it a name and at least one prompt")
            if not all(_is_text(words) for words in (label.name, *label.prompts)):
                raise LabelError(f"label {label.name!r} holds bytes that are no UTF-8 text; write it as UTF-8")
            if label.name in seen:
                raise LabelError(f"label {label.name!r} stands twice; remove one of the two")
            seen.add(label.name)
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
    def parse(cls, texts: Iterable[str], *, template: str = DEFAULT_TEMPLATE) -> "LabelSet":
        """Make a label set of what a user types: each text is split at `,` and at the full-width comma."""
        words = (word.strip() for text in texts for word in SEPARATORS.split(text))
        return cls.of([word for word in words if word], template=template)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> "LabelSet":
        """Read a label set: TOML (`.toml`), or text with one label a line (`#` begins a comment).

        Raises:
            LabelError: the file is missing or not understood; the message names the place.
        """
        source = Path(path)
        try:
            text = source.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise LabelError(f"label file {source} does not exist; check the path") from None
        except (OSError, UnicodeDecodeError) as error:
            raise LabelError(f"label file {source} cannot be read as UTF-8 text ({error}); save it as UTF-8") from error
        try:
            if source.suffix.lower() == ".toml":
                return msgspec.toml.decode(text, type=_LabelFile).label_set()
            lines = (line.split("#", 1)[0].strip() for line in text.splitlines())
            return cls.of([line for line in lines if line])
        except (msgspec.MsgspecError, LabelError) as error:
            raise LabelError(f"label file {source}: {error}") from error

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
    """

    label_set: LabelSet
    embeddings: Float32Array
    text_tower: str

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
        """Write an `.npz` without pickles; it appears whole or not at all."""
        labels = self.label_set.labels
        thresholds = [np.nan if label.threshold is None else label.threshold for label in labels]
        target = Path(path)
        temporary = target.with_name(target.name + ".tmp")
        with temporary.open("wb") as stream:
            np.savez(
                stream,
                names=np.array([label.name for label in labels], np.str_),
                prompts=np.array(self.label_set.prompts, np.str_),
                prompt_counts=np.array([len(label.prompts) for label in labels], np.int64),
                thresholds=np.array(thresholds, np.float64),
                hidden=np.array([label.hidden for label in labels], np.bool_),
                embeddings=self.embeddings,
                text_tower=np.array(self.text_tower, np.str_),
            )
        temporary.replace(target)

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
                return cls(LabelSet(labels), data["embeddings"], str(data["text_tower"]))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise BundleError(
                f"{path} is no label set with embeddings ({error}); make it again: clapedge labels embed"
            ) from error


def fill(template: str, word: str) -> str:
    """Put a word into a template.

    Raises:
        LabelError: the template has no `{}`.
    """
    if "{}" not in template:
        raise LabelError(f"template {template!r} has no {{}} where the label goes; for example: {DEFAULT_TEMPLATE!r}")
    return template.replace("{}", word)


def _is_text(words: str) -> bool:
    """Tell whether words can be encoded; an undecodable byte of a command line arrives as a lone surrogate."""
    return not any("\ud800" <= character <= "\udfff" for character in words)


class _LabelTable(msgspec.Struct, forbid_unknown_fields=True):
    """One `[[label]]` of a TOML file; without prompts, its name goes into the template."""

    name: str
    prompts: tuple[str, ...] = ()
    threshold: float | None = None
    hidden: bool = False


class _LabelFile(msgspec.Struct, forbid_unknown_fields=True):
    """The TOML layout of a label set."""

    template: str = DEFAULT_TEMPLATE
    label: tuple[_LabelTable, ...] = ()

    def label_set(self) -> LabelSet:
        """Make the label set that the file describes."""
        return LabelSet(
            tuple(
                Label(entry.name, entry.prompts or (fill(self.template, entry.name),), entry.threshold, entry.hidden)
                for entry in self.label
            )
        )
