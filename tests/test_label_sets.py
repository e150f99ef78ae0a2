"""The label sets of the project, which are beside its packages and in none of them."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from clapedge import Engine
from clapedge.errors import ClapEdgeWarning
from clapedge.label_check import check, check_with
from clapedge.labels import LabelSet

SHIPPED = sorted((Path(__file__).parents[1] / "labels").glob("*.toml"))


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Open the demo model, which knows words of its own sounds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClapEdgeWarning)
        with Engine.load() as opened:
            yield opened


def test_sets_are_shipped_for_four_places() -> None:
    assert [path.stem for path in SHIPPED] == ["city", "home", "industrial", "wildlife"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_words_of_a_shipped_set_need_no_advice(path: Path) -> None:
    assert check(LabelSet.from_file(path)) == ()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_set_needs_no_advice_from_the_demo_model(engine: Engine, path: Path) -> None:
    assert check_with(engine, LabelSet.from_file(path)) == ()
