"""Label sets: the labels that share the probability of a recording."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from clapedge.errors import LabelError
from clapedge.labels.files import errors_with_name, read_labels
from clapedge.labels.label import DEFAULT_TEMPLATE, Label, check_labels, fill

SEPARATORS = re.compile("[,，]")
"""Separators of labels in one string; the full-width comma is that of a Chinese keyboard."""


@dataclass(frozen=True)
class LabelSet:
    """Labels that share the probability of a recording, in the user's order."""

    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        """Raise `LabelError` if the labels cannot be scored."""
        if not self.labels:
            raise LabelError("there are no labels; name at least one, for example: -l 'dog barking' -l rain")
        check_labels(self.labels)
        if all(label.hidden for label in self.labels):
            raise LabelError("every label is hidden, so there is nothing to report; show at least one")

    @classmethod
    def of(cls, words: Iterable[str], *, template: str = DEFAULT_TEMPLATE) -> "LabelSet":
        """Make a label set from plain words.

        Args:
            words: one label each; they are not split.
            template: the prompt, with `{}` for the word.
        """
        if isinstance(words, str):
            raise LabelError(f"expected a list of labels, found the string {words!r}; use LabelSet.parse to split it")
        if not isinstance(words, Iterable):
            raise LabelError(f"expected a list of labels, found {words!r:.60}; give words")
        labels = []
        for word in words:
            if not isinstance(word, str):
                raise LabelError(f"label {word!r:.60} is not a string; give a list of strings")
            labels.append(Label(word.strip(), (fill(template, word.strip()),)))
        return cls(tuple(labels))

    @classmethod
    def parse(cls, texts: str | Iterable[str], *, template: str = DEFAULT_TEMPLATE) -> "LabelSet":
        """Make a label set from what a user types: one text or several, split at `,` and at the full-width comma."""
        given = [texts] if isinstance(texts, str) else texts
        words = (word.strip() for text in given for word in SEPARATORS.split(text))
        return cls.of([word for word in words if word], template=template)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, language: str | None = None) -> "LabelSet":
        """Read a label set: TOML (`.toml`), CSV (`.csv`), embedded (`.npz`), else text with one label a line.

        `#` begins a comment in text. Of an `.npz` the labels are read, not their embeddings, see `load_labels`.
        A TOML file may extend another label file: its labels replace those of the same name or follow them.

        Args:
            path: the file.
            language: of the names that a label has in several, such as `zh`; None means `CLAPEDGE_LANGUAGE`, else the
                label's `name`.

        Raises:
            LabelError: the file is missing or not understood; the message names the position.
        """
        source = Path(path)
        labels = read_labels(source, language)
        with errors_with_name(source):
            return cls(labels)

    @property
    def prompts(self) -> tuple[str, ...]:
        """Every prompt of every label, in order."""
        return tuple(prompt for label in self.labels for prompt in label.prompts)
