"""Advice on a label set: what keeps a model of sound from distinguishing its labels, and better words."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from clapedge.arrays import Float32Array
from clapedge.labels.embedded import EmbeddedLabels
from clapedge.labels.label import Label
from clapedge.labels.label_set import LabelSet
from clapedge.labels.prompt_rules import Advice, check_prompt, shortened
from clapedge.model.bundle import Bundle
from clapedge.terminal import counted

__all__ = ["Advice", "TextModel", "check", "check_with", "embed_parts"]

FEWEST_LABELS, MOST_LABELS = 3, 7
"""Fewer labels leave no room for "none of these"; among more, probability spreads and neighbours are confused."""

CLOSE_COSINE = 0.9
"""Cosine from which two labels nearly coincide. At 0.9 their embeddings are 0.45 apart, and a recording's embedding has
a cosine of about 0.5 with its own caption: the similarities of the two to any recording differ by 0.2 at most and by a
few hundredths as a rule, which is what microphone, room and padding move them as well. Wordings of one sound lie above
(0.98 and more in the demo model), different sounds far below."""

CLOSE_NAMED = 30
"""Pairs that are named, the nearest first; the others are counted. Seven labels have 21 pairs."""

ROWS_AT_ONCE = 256
"""Embeddings that are compared with all others at once: among 10,000 labels, 10 MB of cosines."""

LABELS_AT_ONCE = 64
"""Labels that are read at once: a second of a full-size text tower's work."""

LONGEST_PROMPT_TOKENS = 77
"""The captions that CLAP was trained on were cut at 77 tokens."""

TOKENS_PER_WORD = 1.5
"""Tokens of a word and its punctuation in English prose, on the generous side, without a tokenizer."""


class TextModel(Protocol):
    """What `check_with` needs of an engine."""

    bundle: Bundle

    def embed_labels(self, labels: LabelSet, /) -> EmbeddedLabels:
        """Embed a label set."""

    def count_tokens(self, prompt: str, /) -> int:
        """Return the length of a prompt in tokens."""


def check(
    label_set: LabelSet,
    *,
    embeddings: Float32Array | None = None,
    weights: str = "pretrained",
    count_tokens: Callable[[str], int] | None = None,
    max_tokens: int = LONGEST_PROMPT_TOKENS,
    calibrated: bool = False,
) -> tuple[Advice, ...]:
    """Look for what keeps labels from being distinguished; a set without advice is good as far as words go.

    Args:
        label_set: the labels.
        embeddings: (labels, E) unit embeddings of the labels; None leaves out whether they nearly coincide.
        weights: `pretrained`, `random` or `demo`: what made the embeddings.
        count_tokens: tokens of a prompt; None estimates them from its words.
        max_tokens: most tokens that the text tower reads.
        calibrated: whether the labels decide "none of these" by thresholds of their own, so that few are enough.
    """
    longest = min(max_tokens, LONGEST_PROMPT_TOKENS)
    duplicates, repeating = _duplicates(label_set.labels)
    found = [*_count(label_set.labels, fewest=1 if calibrated else FEWEST_LABELS), *duplicates]
    if embeddings is not None:
        # clips, not prompts, say what is alike in taught labels: see `teaching.advice`
        others = [at for at, label in enumerate(label_set.labels) if at not in repeating and label.prompts]
        found += _close([label_set.labels[at] for at in others], embeddings[others], weights)
    for label in label_set.labels:
        for prompt in dict.fromkeys(label.prompts):
            found += check_prompt(label, prompt)
            found += _long(label, prompt, count_tokens or _estimated_tokens, longest)
    return tuple(found)


def check_with(
    model: TextModel, label_set: LabelSet, *, embeddings: Sequence[Float32Array] | None = None
) -> tuple[Advice, ...]:
    """Check a label set with the embeddings and the tokens of a text tower, see `check`.

    Args:
        model: an engine, whose text tower reads the prompts.
        label_set: the labels.
        embeddings: what `embed_parts` yielded; None embeds the labels here.

    Raises:
        BundleError: the bundle has no text tower.
    """
    return check(
        label_set,
        embeddings=np.concatenate(embeddings or list(embed_parts(model, label_set))),
        weights=model.bundle.manifest.weights,
        count_tokens=model.count_tokens,
        max_tokens=model.bundle.manifest.max_tokens,
    )


def embed_parts(model: TextModel, label_set: LabelSet) -> Iterator[Float32Array]:
    """Yield the embeddings (n, E) of a few labels after the other, which may take minutes for thousands."""
    labels = [replace(label, hidden=False) for label in label_set.labels]  # a part of a set may be all hidden
    for first in range(0, len(labels), LABELS_AT_ONCE):
        yield model.embed_labels(LabelSet(tuple(labels[first : first + LABELS_AT_ONCE]))).embeddings


def _count(labels: Sequence[Label], *, fewest: int) -> Iterator[Advice]:
    """Find too few or too many labels; hidden ones count, since they take their share."""
    if len(labels) < fewest:
        yield Advice(
            "count",
            (),
            f"{counted(len(labels), 'label')} in all",
            "probability is shared among the labels alone, so a sound that is none of them is given to one of them",
            "add what else may sound there, hidden if it is of no interest: "
            'name = "background", prompts = ["quiet room tone", "wind"], hidden = true',
        )
    if len(labels) > MOST_LABELS:
        yield Advice(
            "count",
            (),
            f"{len(labels)} labels in all",
            f"{FEWEST_LABELS} to {MOST_LABELS} labels are distinguished best; among more, neighbours share probability",
            "merge labels that you treat alike into one with several prompts, or make one set for each question",
        )


def _duplicates(labels: Sequence[Label]) -> tuple[list[Advice], set[int]]:
    """Find names that differ in case or spaces alone, and the same prompt twice.

    Of many labels of the same words, each is named beside the first of them.

    Returns:
        The advice, and the places of the labels that repeat an earlier one.
    """
    found: dict[tuple[int, int], str] = {}
    names: dict[str, int] = {}
    prompts: dict[str, int] = {}
    within = []
    for at, label in enumerate(labels):
        own = {_plain(prompt) for prompt in label.prompts}
        for prompt in sorted(own):
            first = prompts.setdefault(prompt, at)
            if first < at:
                found.setdefault((first, at), f"both have the prompt {prompt!r}")
        first = names.setdefault(_plain(label.name), at)
        if first < at:
            found.setdefault((first, at), "the names are the same word")
        if len(own) < len(label.prompts):
            better = "remove it, or describe the same sound in other words"
            reason = "prompts are averaged, so it only weighs more"
            within.append(Advice("duplicate", (label.name,), "it has a prompt twice", reason, better))
    pairs = [_duplicate(labels[one], labels[other], what) for (one, other), what in sorted(found.items())]
    return pairs + within, {other for _, other in found}


def _duplicate(one: Label, other: Label, what: str) -> Advice:
    """Advise on two labels of the same words."""
    return Advice(
        "duplicate",
        (one.name, other.name),
        what,
        "two labels of the same words halve each other's probability",
        f"remove one of the two, or write what distinguishes them, as in {'a small dog yapping'!r} and "
        f"{'a large dog barking deeply'!r}",
    )


def _close(labels: Sequence[Label], embeddings: Float32Array, weights: str) -> Iterator[Advice]:
    """Find pairs whose embeddings nearly coincide, the nearest first."""
    pairs, others = _nearest(embeddings)
    doubt = "" if weights == "pretrained" else f" (but these are {weights} weights, whose cosines of words mean little)"
    for cosine, i, j in pairs:
        one, other = labels[i], labels[j]
        yield Advice(
            "close",
            (one.name, other.name),
            f"their embeddings have a cosine of {cosine:.2f}{doubt}",
            "a recording of either is as near to the other, so their order is chance",
            f"rewrite {shortened(one.prompts[0])} and {shortened(other.prompts[0])} by what only one has (source, "
            "material, rhythm, pitch), as in 'a steady low hum of an electric motor' and 'a rattling metal panel'; "
            "or make them one label with both prompts",
        )
    if others:
        yield Advice(
            "close",
            (),
            f"{others} more pairs have a cosine of {CLOSE_COSINE} or more{doubt}",
            "among so many labels that nearly coincide, the order is chance",
            "make one set for each question, of labels such as 'a dog barking', 'rain on a roof', 'a church bell'",
        )


def _nearest(embeddings: Float32Array) -> tuple[list[tuple[float, int, int]], int]:
    """Return the `CLOSE_NAMED` nearest pairs (cosine, row, row) that nearly coincide, and how many others do.

    Rows are compared a block at a time, so that 10,000 of them need a few megabytes.
    """
    best: list[tuple[float, int, int]] = []
    found = 0
    for first in range(0, len(embeddings), ROWS_AT_ONCE):
        cosines = np.triu(embeddings[first : first + ROWS_AT_ONCE] @ embeddings[first:].T, 1)
        rows, columns = np.nonzero(cosines >= CLOSE_COSINE)
        found += len(rows)
        values = cosines[rows, columns]
        nearest = np.argsort(-values, kind="stable")[:CLOSE_NAMED]
        pairs = zip(values[nearest].tolist(), rows[nearest].tolist(), columns[nearest].tolist(), strict=True)
        best += ((cosine, first + row, first + column) for cosine, row, column in pairs)
        best = sorted(best, key=lambda pair: -pair[0])[:CLOSE_NAMED]
    return best, found - len(best)


def _long(label: Label, prompt: str, count_tokens: Callable[[str], int], longest: int) -> Iterator[Advice]:
    """Find prompts of which the model reads or knows only the beginning."""
    tokens = count_tokens(prompt)
    if tokens > longest:
        yield Advice(
            "long",
            (label.name,),
            f"prompt {shortened(prompt)} has about {tokens} tokens, more than {longest}",
            "captions are one sentence long; what follows is not read, or weighs nothing",
            "keep what is audible, in one sentence of 3 to 12 words, and put variants into prompts of their own",
        )


def _plain(text: str) -> str:
    """Return a text as it is compared: without case, punctuation and runs of spaces."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _estimated_tokens(prompt: str) -> int:
    """Guess the tokens of a prompt."""
    return round(len(prompt.split()) * TOKENS_PER_WORD)
