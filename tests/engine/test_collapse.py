"""Embeddings that nearly coincide are noticed: which, when, and once."""

import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from tests.engine.conftest import Done

from clapedge import Engine, LabelSet
from clapedge.arrays import Float32Array
from clapedge.errors import ClapEdgeWarning
from clapedge.labels import EmbeddedLabels
from clapedge.labels.label import Label
from clapedge.model.collapse import HIGHEST_COSINE, likeness
from clapedge.model.towers import TextTower


def unit(rows: object) -> Float32Array:
    """Return rows of unit norm."""
    array = np.asarray(rows, np.float64)
    return np.asarray(array / np.linalg.norm(array, axis=1, keepdims=True), np.float32)


def around(count: int, spread: float) -> Float32Array:
    """Return rows that lie about one direction, `spread` away from it."""
    random = np.random.default_rng(0)
    return unit(unit(random.normal(size=(1, 64))) + spread * unit(random.normal(size=(count, 64))))


def test_the_most_alike_pair_and_the_median_are_found() -> None:
    alike = likeness(unit([[1, 0, 0], [0, 1, 0], [1, 0.01, 0]]))
    assert (alike.valid, alike.count, alike.nearest, alike.fault) == (True, 3, (0, 2), None)
    assert alike.highest == pytest.approx(1 / np.sqrt(1 + 0.01**2))
    assert alike.median == pytest.approx(0.01, abs=1e-4)


@pytest.mark.parametrize(("spread", "collapsed"), [(0.01, True), (0.1, False)])
def test_rows_about_one_direction_have_collapsed(spread: float, *, collapsed: bool) -> None:
    alike = likeness(around(5, spread))
    assert (alike.median > HIGHEST_COSINE) == collapsed
    assert (alike.fault is not None) == collapsed


@pytest.mark.parametrize("row", [[np.nan, 0.0], [0.0, 0.0], [np.inf, 0.0]])
def test_rows_that_are_no_unit_vectors_are_a_fault(row: list[float]) -> None:
    assert likeness(np.array([[1.0, 0.0], row], np.float32)).fault == "gives no numbers of unit norm"


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_rows_are_no_fault(count: int) -> None:
    assert likeness(unit(np.eye(3)[:count] if count else np.empty((0, 3)))).fault is None


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Open the demo model, whose words are encoded anew."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClapEdgeWarning)
        opened = Engine.load(prompt_cache=False)
    with opened:
        yield opened


@pytest.fixture
def collapsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the text tower give nearly the same for whatever it is given."""
    original = TextTower.embed

    def embed(tower: TextTower, prompts: Sequence[str]) -> Float32Array:
        rows = original(tower, prompts)
        return unit(np.eye(1, rows.shape[1]) + 0.001 * rows)

    monkeypatch.setattr(TextTower, "embed", embed)


@pytest.mark.usefixtures("collapsed")
def test_labels_of_a_collapsed_tower_are_warned_of_once(engine: Engine) -> None:
    with pytest.warns(ClapEdgeWarning, match="the 3 labels have nearly the same embedding"):
        engine.scorer(["rain", "siren", "dog"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.scorer(["rain", "siren", "dog"])


def test_two_labels_that_coincide_are_named(engine: Engine) -> None:
    rows = unit([[1.0, 0, 0], [0, 1.0, 0], [1.0, 0.001, 0]])
    embedded = EmbeddedLabels(LabelSet.of(["rain", "siren", "drizzle"]), rows, engine.bundle.manifest.text_tower or "")
    for expected in (1, 0):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            engine.embed_labels(embedded)
        assert len(found) == expected
        assert all("the labels 'rain' and 'drizzle' have nearly the same" in str(one.message) for one in found)


def test_labels_of_the_same_prompts_are_the_users_own(engine: Engine) -> None:
    labels = LabelSet((Label("one", ("rain",)), Label("other", ("rain",)), Label("siren", ("a siren",))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.scorer(labels)


def test_the_doctor_reports_that_towers_distinguish(run: Callable[..., Done]) -> None:
    done = run("doctor")
    assert done.code == 0
    assert "ok  audio tower            distinguishes 3 inputs: their highest cosine is 0." in done.out
    assert "ok  text tower             distinguishes 3 inputs: their highest cosine is " in done.out


@pytest.mark.usefixtures("collapsed")
def test_the_doctor_ends_with_3_for_a_collapsed_tower(run: Callable[..., Done]) -> None:
    done = run("doctor")
    assert done.code == 3
    assert "bad text tower             has collapsed: it gives nearly the same embedding" in done.out
