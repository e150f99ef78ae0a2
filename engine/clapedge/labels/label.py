"""One label: what the user reads, and the prompts that the text tower reads."""

from collections.abc import Sequence
from dataclasses import dataclass

from clapedge.errors import LabelError

DEFAULT_TEMPLATE = "This is a sound of {}."
"""The hypothesis template of transformers' zero-shot audio classification pipeline."""

NOVELTY = "novelty"
"""Name of the label of what is unlike the background of a site, see `clapedge.teaching.novelty`."""

LONGEST_PROMPT = 2000
"""Characters of a prompt that a template makes, several times what a text tower reads: one that repeats its
placeholder a thousand times would make gigabytes of a long word."""


@dataclass(frozen=True)
class Label:
    """A sound to look for.

    Attributes:
        name: what is shown, in any language.
        prompts: what the text tower reads; their embeddings are averaged.
        threshold: similarity from which the label is present, or None.
        hidden: whether it shares in the probability without being reported.
        examples: clips that teach it; one with examples needs no prompts.
    """

    name: str
    prompts: tuple[str, ...]
    threshold: float | None = None
    hidden: bool = False
    examples: int = 0


def fill(template: str, word: str) -> str:
    """Put a word into a template.

    Raises:
        LabelError: the template has no `{}`, or would make a prompt that is far too long.
    """
    places = template.count("{}")
    if not places:
        raise LabelError(f"template {template!r:.60} has no {{}} for the label; write it like {DEFAULT_TEMPLATE!r}")
    length = len(template) + places * (len(word) - len("{}"))
    if length > LONGEST_PROMPT:
        raise LabelError(f"the prompt of {word!r:.60} would have {length} characters; shorten it, or the template")
    return template.replace("{}", word)


def check_labels(labels: Sequence[Label]) -> None:
    """Raise if a label is repeated or has no words, or if its threshold is not a similarity.

    Raises:
        LabelError: the message names the label.
    """
    seen: set[str] = set()
    for label in labels:
        has_words = label.prompts or label.examples
        if not label.name.strip() or not has_words or not all(prompt.strip() for prompt in label.prompts):
            raise LabelError(f"label {label.name!r} has no words; give it a name and at least one prompt")
        if not all(_is_text(words) for words in (label.name, *label.prompts)):
            raise LabelError(f"label {label.name!r} has bytes that are not UTF-8; write it as UTF-8")
        if label.name in seen:
            raise LabelError(f"label {label.name!r} is given twice; remove one of the two")
        if label.threshold is not None and not -1 <= label.threshold <= 1:
            raise LabelError(f"label {label.name!r} has the threshold {label.threshold}; give one from -1 to 1")
        seen.add(label.name)


def _is_text(words: str) -> bool:
    """Return whether words can be encoded; an undecodable byte of a command line arrives as a lone surrogate."""
    return not any("\ud800" <= character <= "\udfff" for character in words)
