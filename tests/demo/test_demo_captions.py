"""Captions: what training reads and what only tests read never meet."""

import numpy as np
import pytest

from clapedge.labels import DEFAULT_TEMPLATE
from clapedge_demo import captions
from clapedge_demo.wordings import RECORDED, WORDINGS

LEAST_PHRASES, LEAST_HELD_OUT = 12, 3


def plain(text: str) -> str:
    """Return a text as far as its wording goes: case and full stop aside."""
    return text.lower().strip(" .")


@pytest.mark.parametrize("kind", WORDINGS)
def test_held_out_phrases_are_not_among_those_to_train_with(kind: str) -> None:
    train, held_out = (set(map(plain, phrases)) for phrases in (WORDINGS[kind].train, WORDINGS[kind].held_out))
    assert len(train) >= LEAST_PHRASES
    assert len(held_out) >= LEAST_HELD_OUT
    assert train.isdisjoint(held_out)


def test_held_out_templates_are_not_among_those_to_train_with() -> None:
    assert set(captions.HELD_OUT_TEMPLATES).isdisjoint((*captions.PLAIN, *captions.TEMPLATES))


def test_no_phrase_belongs_to_two_kinds() -> None:
    owners: dict[str, set[str]] = {}
    for kind, wordings in WORDINGS.items():
        for phrase in (*wordings.train, *wordings.held_out):
            owners.setdefault(plain(phrase), set()).add(kind)
    assert {phrase: kinds for phrase, kinds in owners.items() if len(kinds) > 1} == {}


def test_training_never_draws_a_held_out_wording() -> None:
    rng = np.random.default_rng(0)
    for kind in WORDINGS:
        drawn = {plain(captions.sample(kind, rng)) for _ in range(300)}
        assert drawn.isdisjoint(map(plain, captions.held_out(kind)))


def test_drawing_is_a_function_of_the_generator() -> None:
    first, again = (
        [captions.sample(kind, np.random.default_rng(5)) for kind in WORDINGS]
        + [captions.sample_unknown(np.random.default_rng(6))]
        for _ in range(2)
    )
    assert first == again


def test_the_template_of_the_engine_is_one_of_the_plain_forms() -> None:
    assert DEFAULT_TEMPLATE in captions.PLAIN


def test_the_names_of_the_recorded_classes_are_those_of_the_data_set() -> None:
    assert all(wordings.train[0] == name for name, wordings in RECORDED.items())
