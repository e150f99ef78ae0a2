"""What is wrong with the words of a prompt: rules that need no model.

CLAP has learned from captions that people wrote for what they heard: short English sentences about concrete, audible
things. Words of other kinds get embeddings as well, which are then near nothing or near everything.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from clapedge.labels.label import Label

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
"""Judgements about a thing, which are inaudible and in no caption of a sound."""

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

SHOWN_CHARACTERS = 60
"""Characters of a prompt that a message repeats."""


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


@dataclass(frozen=True)
class PromptRule:
    """A rule about single prompts.

    Attributes:
        name: see `Advice.rule`.
        find: takes a prompt and returns what is wrong, as the end of a sentence about it, or None.
        reason: see `Advice.reason`.
        better: see `Advice.better`.
    """

    name: str
    find: Callable[[str], str | None]
    reason: str
    better: str


def check_prompt(label: Label, prompt: str) -> Iterator[Advice]:
    """Yield the advice on one prompt of a label."""
    for rule in PROMPT_RULES:
        found = rule.find(prompt)
        if found:
            yield Advice(rule.name, (label.name,), f"prompt {shortened(prompt)} {found}", rule.reason, rule.better)


def shortened(prompt: str) -> str:
    """Return a prompt as a message repeats it."""
    return repr(prompt) if len(prompt) <= SHOWN_CHARACTERS else f"{prompt[:SHOWN_CHARACTERS]!r}…"


def _language(prompt: str) -> str | None:
    """Find prompts that are not English."""
    letters = "".join(sorted({letter for letter in prompt if letter.isalpha() and not letter.isascii()}))
    if letters:
        return f"is not English: it has the letters {letters[:12]}"
    return _first(FOREIGN_WORD, "is not English: it has the word")(prompt)


def _code(prompt: str) -> str | None:
    """Find codes and abbreviations."""
    codes = (word for word in re.findall(r"\w+", prompt) if _is_code(word))
    return next((f"has the code or abbreviation {word!r}" for word in codes), None)


def _is_code(word: str) -> bool:
    """Return whether a word is a code or an abbreviation."""
    if word in EXEMPT_CAPITALS or SPELT_SOUND.fullmatch(word) or QUANTITY.fullmatch(word):
        return False
    return bool(CODE.fullmatch(word)) or bool(CODE.fullmatch(word.lower()))


def _vague(prompt: str) -> str | None:
    """Find prompts that name no source and no action."""
    return "names nothing that sounds" if VAGUE.fullmatch(prompt) else None


def _first(pattern: re.Pattern[str], beginning: str) -> Callable[[str], str | None]:
    """Return what finds the first match of a pattern, and quotes it after the beginning of a sentence."""

    def find(prompt: str) -> str | None:
        found = pattern.search(prompt)
        return f"{beginning} {found[0]!r}" if found else None

    return find


PROMPT_RULES = (
    PromptRule(
        "language",
        _language,
        "the model was trained on English captions, and reads other languages letter by letter",
        'keep your words as the name and describe the sound in English: name = "犬吠", prompts = ["a dog barking"]',
    ),
    PromptRule(
        "code",
        _code,
        "captions hold neither, so the model reads it as letters without a sound",
        "write the word out, or what it sounds like: not 'BPFO E42' but 'a rapid clicking of a bearing'",
    ),
    PromptRule(
        "state",
        _first(STATE, "names a state:"),
        "a state is a judgement; the model knows only what can be heard",
        "describe the sound by which you notice it: not 'normal fan' but 'the steady smooth hum of a fan', "
        "not 'bearing fault' but 'a bearing grinding and squealing'",
    ),
    PromptRule(
        "vague",
        _vague,
        "the model has no notion of 'the rest': it looks for the words as they are",
        "name what is audible when nothing else is: 'quiet room tone', 'distant traffic hum', 'wind'",
    ),
    PromptRule(
        "negation",
        _first(NEGATION, "negates:"),
        "captions name what is there, so the model overlooks the negation and finds the thing itself",
        "name what is audible instead: not 'no alarm' but 'quiet room tone'",
    ),
)
