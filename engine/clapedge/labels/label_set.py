"""Label sets: the labels that share the probability of a recording."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from clapedge.errors import LabelError
from clapedge.labels.files import naming, read_labels
from clapedge.labels.label import DEFAULT_TEMPLATE, Label, fill, refuse_unclear

SEPARATORS = re.compile("[,，]")
"""What parts labels that are given as one string; the full-width comma is what a Chinese keyboard types."""


@dataclass(frozen=True)
class LabelSet:
    """Labels that share the probability of a recording, in the user's order."""

    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        """Refuse what cannot be scored: no label, a label twice, a label without words."""
        if not self.labels:
            raise LabelError("there are no labels; name at least one, for example: -l 'dog barking' -l rain")
        refuse_unclear(self.labels)
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
        if not isinstance(words, Iterable):
            raise LabelError(f"expected a list of labels, found {words!r:.60}; give words")
        labels = []
        for word in words:
            if not isinstance(word, str):
                raise LabelError(f"label {word!r:.60} is no word; give a list of strings")
            labels.append(Label(word.strip(), (fill(template, word.strip()),)))
        return cls(tuple(labels))

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
        labels = read_labels(source, ())
        with naming(source):
            return cls(labels)

    @property
    def prompts(self) -> tuple[str, ...]:
        """Every prompt of every label, in order."""
        return tuple(prompt for label in self.labels for prompt in label.prompts)
