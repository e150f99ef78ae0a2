"""Captions: phrases put into templates, as text towers meet them in training and as users type them."""

import numpy as np

from clapedge_demo.wordings import FILLERS, UNKNOWN, WORDINGS

PLAIN = ("This is a sound of {}.", "{}")
"""The template of the engine and the bare label: the two forms that users meet."""

TEMPLATES = (
    "the sound of {}",
    "a sound of {}",
    "this is the sound of {}",
    "a recording of {}",
    "an audio clip of {}",
    "I can hear {}",
    "I hear {}.",
    "there is {} in the recording",
    "{} can be heard",
    "{} in the background",
    "{} in the distance",
    "{} nearby",
    "{} outside",
    "loud {}",
    "faint {}",
    "{}, recorded with a phone",
    "somewhere, {}",
    "a noisy recording of {}",
    "sound effect: {}",
    "listen: {}",
    "it sounds like {}",
    "sounds like {}",
)
"""Other forms to train with."""

HELD_OUT_TEMPLATES = (
    "This is {}.",
    "one hears {}",
    "in this clip we hear {}",
    "a microphone picked up {}",
    "the recorder caught {}",
    "my neighbour thinks it was {}",
)
"""Forms that only tests may use."""

FILLED_SHARE = 0.25
"""Share of training captions that stand among fillers."""

PLAIN_SHARE = 0.6
"""Share of training captions in a plain form."""
LETTER_CASES = (str.lower, str.upper, str.title, str.capitalize)
CASE_SHARE = 0.15
"""Share of training captions written in another case: the tokenizer distinguishes cases, users do not."""


def sample(kind: str, rng: np.random.Generator) -> str:
    """Draw a training caption of a kind."""
    phrases = WORDINGS[kind].train
    templates = PLAIN if rng.random() < PLAIN_SHARE else TEMPLATES
    caption = templates[rng.integers(len(templates))].format(phrases[rng.integers(len(phrases))])
    if rng.random() < FILLED_SHARE:
        before, after = (" ".join(rng.choice(FILLERS, rng.integers(0, most))) for most in (5, 4))
        caption = f"{before} {caption} {after}".strip()
    if rng.random() < CASE_SHARE:
        return LETTER_CASES[rng.integers(len(LETTER_CASES))](caption)
    if rng.random() < CASE_SHARE:
        return caption.rstrip(".") if caption.endswith(".") else caption + "."
    return caption


def sample_unknown(rng: np.random.Generator) -> str:
    """Draw a caption that names no kind: an unknown sound, fillers alone, or letters at random."""
    dice = rng.random()
    if dice < 0.4:
        templates = (*PLAIN, *TEMPLATES)
        return templates[rng.integers(len(templates))].format(UNKNOWN[rng.integers(len(UNKNOWN))])
    if dice < 0.6:
        return " ".join(rng.choice(FILLERS, rng.integers(1, 8)))
    letters = list("abcdefghijklmnopqrstuvwxyz")
    words = ("".join(rng.choice(letters, rng.integers(2, 9))) for _ in range(rng.integers(1, 4)))
    return PLAIN[rng.integers(2)].format(" ".join(words))


def training_texts() -> list[str]:
    """Return every phrase in every training form, for the tokenizer to learn from."""
    phrases = [phrase for wordings in WORDINGS.values() for phrase in wordings.train]
    texts = [template.format(phrase) for phrase in phrases for template in (*PLAIN, *TEMPLATES)]
    texts += [" ".join(FILLERS), " ".join(UNKNOWN)] * 2
    return texts + [case(phrase) for phrase in phrases for case in LETTER_CASES]


def held_out(kind: str) -> list[str]:
    """Return wordings of a kind that training never saw: held-out phrases, plain and in held-out templates."""
    phrases = WORDINGS[kind].held_out
    return [form.format(phrase) for phrase in phrases for form in (PLAIN[0], *HELD_OUT_TEMPLATES)]
