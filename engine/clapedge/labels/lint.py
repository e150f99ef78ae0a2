"""Advice on a label set: what keeps a model of sound from telling its labels apart, and better words.

CLAP has learned from captions that people wrote for what they heard: English, a short sentence, concrete, audible.
Words of other kinds get embeddings as well, which are then near nothing or near everything. Each rule finds one kind.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from clapedge.arrays import Float32Array
from clapedge.labels import Label, LabelSet
from clapedge.terminal import counted

if TYPE_CHECKING:
    from clapedge.engine import Engine

FEWEST_LABELS, MOST_LABELS = 3, 7
"""Fewer labels leave no room for "none of these"; among more, probability spreads and neighbours are confused."""

CLOSE_COSINE = 0.9
"""Cosine from which two labels nearly coincide. At 0.9 their embeddings are 0.45 apart, and a recording's embedding has
a cosine of about 0.5 with its own caption: the similarities of the two to any recording differ by 0.2 at most and by a
few hundredths as a rule, which is what microphone, room and padding move them as well. Wordings of one sound lie above
(0.98 and more in the demo model), different sounds far below."""

CLOSE_NAMED = 30
"""Pairs that are named, the nearest ones; the others are counted. Seven labels have 21 pairs."""

ROWS_AT_ONCE = 256
"""Embeddings that are compared with all others at once: among 10,000 labels, 10 MB of cosines."""

LABELS_AT_ONCE = 64
"""Labels that are read at once: a second of a full-size text tower's work."""

LONGEST_PROMPT_TOKENS = 77
"""The captions that CLAP was trained on were cut at 77 tokens."""

TOKENS_PER_WORD = 1.5
"""Tokens of a word and its punctuation in English prose, on the generous side, where no tokenizer is at hand."""

EXEMPT_CAPITALS = frozenset({"TV", "DJ", "CD", "PC", "SUV", "ATM", "UFO", "USA", "OK"})
"""Written in capitals in captions too. OK is judged as a state."""

FOREIGN_WORD = re.compile(
    r"\b(?:aux|avec|beim|che|dans|das|dei|dell?a|delle|der|des|eine[mnrs]?|el|gli|las|les|los|mit|nella?|ou|por|sur|und|"
    r"una|une|uno|vo[mn]|zu[mr])\b",
    re.IGNORECASE,
)
"""Small words of German, French, Spanish and Italian that no English caption holds, except as a name."""

NEGATION = re.compile(
    r"\b(?:no|not|non|never|none|nothing|without|except|neither|nor|absen(?:t|ce)|lack of|free of|cannot|"
    r"\w+n['\u2019]t)\b",
    re.IGNORECASE,
)

STATE = re.compile(
    r"\b(?:(?:ab)?normal(?:ly|ity)?|anomal(?:y|ous)|compliant|conditions?|damaged|defect(?:s|ive)?|degraded|errors?|"
    r"fail(?:ed|ing|ures?)|fault(?:s|y)?|function(?:al|ing)|(?:un)?healthy|irregularity|issues?|maintenance|"
    r"malfunction(?:ing)?|ok|okay|optimal|problems?|quality|status|suspicious|unsafe|unusual|worn)\b",
    re.IGNORECASE,
)
"""Judgements about a thing, which nobody hears and no caption of a sound names."""

VAGUE = re.compile(
    r"\W*(?:(?:an?|the|and|any|background|class(?:es)?|else|events?|everything|general|it|is|kind|misc|miscellaneous|"
    r"noises?|of|others?|random|rest|something|sounds?|that|there|this|unknown|various)\b\W*)+",
    re.IGNORECASE,
)
"""A prompt of these words alone names no source and no action."""

CODE = re.compile(r"(?=\w*\d)(?=\w*[A-Za-z])\w{2,}|\w+_\w+|[A-Z]{2,}s?|[a-z]+[A-Z]\w*|[bcdfghjklmnpqrstvwxz]{3,}")
"""Letters mixed with digits, underscores, capitals, camel case, a word without a vowel."""

QUANTITY = re.compile(r"\d+(?:st|nd|rd|th|s|hz|khz|db|ms|am|pm|x|cm|mm|m|km|kg|rpm)", re.IGNORECASE)
"""Digits and letters that are a number with its unit."""

SPELT_SOUND = re.compile(r"br+|gr+|hm+|s+h+|pf+t|ps+t|tch|tsk|z+|khz|mph|rpm", re.IGNORECASE)
"""Words without a vowel that name sounds or units."""

SHOWN = 60
"""Characters of a prompt that a sentence repeats."""


@dataclass(frozen=True)
class Advice:
    """One thing that a label set could do better.

    Attributes:
        rule: which rule found it: `duplicate`, `close`, `count`, `language`, `code`, `long`, `state`, `vague` or
            `negation`.
        labels: names of the labels concerned; none if it is the whole set.
        found: what was found.
        reason: why it matters.
        better: what to write instead, with an example.
    """

    rule: str
    labels: tuple[str, ...]
    found: str
    reason: str
    better: str


def check(
    label_set: LabelSet,
    *,
    embeddings: Float32Array | None = None,
    weights: str = "pretrained",
    count_tokens: Callable[[str], int] | None = None,
    max_tokens: int = LONGEST_PROMPT_TOKENS,
) -> tuple[Advice, ...]:
    """Look for what keeps labels from being told apart; a set without advice is a good one as far as words go.

    Args:
        label_set: the labels.
        embeddings: (labels, E) unit embeddings of the labels; None leaves out whether they nearly coincide.
        weights: `pretrained`, `random` or `demo`: what made the embeddings.
        count_tokens: tokens of a prompt; None estimates them from its words.
        max_tokens: most tokens that the text tower reads.
    """
    longest = min(max_tokens, LONGEST_PROMPT_TOKENS)
    duplicates, repeating = _duplicates(label_set.labels)
    found = [*_count(label_set.labels), *duplicates]
    if embeddings is not None:
        others = [at for at in range(len(label_set.labels)) if at not in repeating]
        found += _close([label_set.labels[at] for at in others], embeddings[others], weights)
    for label in label_set.labels:
        for prompt in dict.fromkeys(label.prompts):
            found += (advice for rule in _PROMPT_RULES if (advice := rule(label, prompt)))
            found += _long(label, prompt, count_tokens or _estimated_tokens, longest)
    return tuple(found)


def check_with(
    engine: "Engine", label_set: LabelSet, *, told: Callable[[int, int], None] | None = None
) -> tuple[Advice, ...]:
    """Check a label set with the embeddings and the tokens of an engine's text tower, see `check`.

    Args:
        engine: whose text tower reads the prompts, some labels at a time.
        label_set: the labels.
        told: is told after each step how many labels of how many were read.

    Raises:
        BundleError: the bundle has no text tower.
    """
    labels = [replace(label, hidden=False) for label in label_set.labels]  # a part of a set may be all hidden
    rows = []
    for first in range(0, len(labels), LABELS_AT_ONCE):
        part = tuple(labels[first : first + LABELS_AT_ONCE])
        rows.append(engine.embed_labels(LabelSet(part)).embeddings)
        if told:
            told(first + len(part), len(labels))
    return check(
        label_set,
        embeddings=np.concatenate(rows),
        weights=engine.bundle.manifest.weights,
        count_tokens=engine.count_tokens,
        max_tokens=engine.bundle.manifest.max_tokens,
    )


def _count(labels: Sequence[Label]) -> Iterator[Advice]:
    """Find too few or too many labels; hidden ones count, since they take their share."""
    if len(labels) < FEWEST_LABELS:
        yield Advice(
            "count",
            (),
            f"{counted(len(labels), 'label')} in all",
            "probability is shared among the labels alone, so a sound that is none of them is given to one of them",
            "add what else may be heard there, hidden if it does not interest: "
            'name = "background", prompts = ["quiet room tone", "wind"], hidden = true',
        )
    if len(labels) > MOST_LABELS:
        yield Advice(
            "count",
            (),
            f"{len(labels)} labels in all",
            f"{FEWEST_LABELS} to {MOST_LABELS} labels are told apart best; among more, neighbours share probability",
            "merge labels that you treat alike into one with several prompts, or make one set for each question",
        )


def _duplicates(labels: Sequence[Label]) -> tuple[list[Advice], set[int]]:
    """Find names that differ in case or spaces alone, and the same prompt twice.

    Of many labels of the same words, each is told of beside the first of them.

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
                found.setdefault((first, at), f"the prompt {prompt!r} stands under both")
        first = names.setdefault(_plain(label.name), at)
        if first < at:
            found.setdefault((first, at), "the names are the same word")
        if len(own) < len(label.prompts):
            within.append(_repeated(label))
    pairs = [_duplicate(labels[one], labels[other], what) for (one, other), what in sorted(found.items())]
    return pairs + within, {other for _, other in found}


def _duplicate(one: Label, other: Label, what: str) -> Advice:
    """Advise on two labels of the same words."""
    return Advice(
        "duplicate",
        (one.name, other.name),
        what,
        "two labels of the same words halve each other's probability",
        f"remove one of the two, or say what tells them apart, as in {'a small dog yapping'!r} and "
        f"{'a large dog barking deeply'!r}",
    )


def _repeated(label: Label) -> Advice:
    """Advise on a label that holds a prompt twice."""
    return Advice(
        "duplicate",
        (label.name,),
        "a prompt stands twice in it",
        "prompts are averaged, so it only weighs more",
        "remove it, or describe the same sound in other words",
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
            "what is heard of either is as near to the other, so their order is chance",
            f"rewrite {_shown(one.prompts[0])} and {_shown(other.prompts[0])} by what only one of them has (source, "
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


def _language(label: Label, prompt: str) -> Advice | None:
    """Find prompts that are not English."""
    letters = "".join(sorted({letter for letter in prompt if letter.isalpha() and not letter.isascii()}))
    foreign = FOREIGN_WORD.search(prompt)
    if not letters and not foreign:
        return None
    seen = f"the letters {letters[:12]}" if letters else f"the word {foreign[0]!r}" if foreign else ""
    return Advice(
        "language",
        (label.name,),
        f"prompt {_shown(prompt)} is not English: it has {seen}",
        "the model was trained on English captions, and reads other languages letter by letter",
        'keep your words as the name and describe the sound in English: name = "犬吠", prompts = ["a dog barking"]',
    )


def _code(label: Label, prompt: str) -> Advice | None:
    """Find codes and abbreviations."""
    codes = [word for word in re.findall(r"\w+", prompt) if _is_code(word)]
    if not codes:
        return None
    return Advice(
        "code",
        (label.name,),
        f"prompt {_shown(prompt)} has the code or abbreviation {codes[0]!r}",
        "captions hold neither, so the model reads it as letters without a sound",
        "write the word out, or what it sounds like: not 'BPFO E42' but 'a rapid clicking of a bearing'",
    )


def _is_code(word: str) -> bool:
    """Tell whether a word is a code or an abbreviation."""
    if word in EXEMPT_CAPITALS or SPELT_SOUND.fullmatch(word) or QUANTITY.fullmatch(word):
        return False
    return bool(CODE.fullmatch(word)) or bool(CODE.fullmatch(word.lower()))


def _state(label: Label, prompt: str) -> Advice | None:
    """Find states of a thing in place of what is heard of it."""
    found = STATE.search(prompt)
    if not found:
        return None
    return Advice(
        "state",
        (label.name,),
        f"prompt {_shown(prompt)} names a state: {found[0]!r}",
        "a state is a judgement; the model knows only what can be heard",
        "describe the sound by which you tell it: not 'normal fan' but 'the steady smooth hum of a fan', "
        "not 'bearing fault' but 'a bearing grinding and squealing'",
    )


def _vague(label: Label, prompt: str) -> Advice | None:
    """Find prompts that name no source and no action."""
    if not VAGUE.fullmatch(prompt):
        return None
    return Advice(
        "vague",
        (label.name,),
        f"prompt {_shown(prompt)} names nothing that sounds",
        "the model has no idea of 'the rest': it looks for the words that stand there",
        "name what is heard when nothing else is: 'quiet room tone', 'distant traffic hum', 'wind'",
    )


def _negation(label: Label, prompt: str) -> Advice | None:
    """Find negations."""
    found = NEGATION.search(prompt)
    if not found:
        return None
    return Advice(
        "negation",
        (label.name,),
        f"prompt {_shown(prompt)} negates: {found[0]!r}",
        "captions tell what is there, so the model overlooks the negation and hears the thing itself",
        "name what is heard instead: not 'no alarm' but 'quiet room tone'",
    )


def _long(label: Label, prompt: str, count_tokens: Callable[[str], int], longest: int) -> Iterator[Advice]:
    """Find prompts of which the model reads or knows only the beginning."""
    tokens = count_tokens(prompt)
    if tokens > longest:
        yield Advice(
            "long",
            (label.name,),
            f"prompt {_shown(prompt)} has about {tokens} tokens, more than {longest}",
            "captions are one sentence long; what stands behind is not read, or weighs nothing",
            "keep what is heard, in one sentence of 3 to 12 words, and put variants into prompts of their own",
        )


_PROMPT_RULES = (_language, _code, _state, _vague, _negation)


def _shown(prompt: str) -> str:
    """Return a prompt as a sentence repeats it."""
    return repr(prompt) if len(prompt) <= SHOWN else f"{prompt[:SHOWN]!r}…"


def _plain(text: str) -> str:
    """Return a text as it is compared: without case, punctuation and runs of spaces."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _estimated_tokens(prompt: str) -> int:
    """Guess the tokens of a prompt."""
    return round(len(prompt.split()) * TOKENS_PER_WORD)
