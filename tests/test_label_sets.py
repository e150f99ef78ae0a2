"""The label sets that come with clapedge."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from clapedge import Engine
from clapedge.errors import ClapEdgeWarning
from clapedge.labels import LabelSet, shipped_sets
from clapedge.labels.lint import check, check_with

SHIPPED = list(shipped_sets().values())


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Open the demo model, which knows words of its own sounds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClapEdgeWarning)
        with Engine.load() as opened:
            yield opened


def test_sets_are_shipped_for_four_places() -> None:
    assert list(shipped_sets()) == ["city", "home", "industrial", "wildlife"]
    assert all(path.is_file() for path in SHIPPED)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_label_has_one_name_in_english_and_one_in_chinese(path: Path) -> None:
    english, chinese = LabelSet.from_file(path), LabelSet.from_file(path, language="zh")
    assert all(label.name.isascii() for label in english.labels)
    assert not any(character.isascii() for label in chinese.labels for character in label.name)
    assert english.prompts == chinese.prompts


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_words_of_a_shipped_set_need_no_advice(path: Path) -> None:
    assert check(LabelSet.from_file(path)) == ()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_set_needs_no_advice_from_the_demo_model(engine: Engine, path: Path) -> None:
    assert check_with(engine, LabelSet.from_file(path)) == ()
