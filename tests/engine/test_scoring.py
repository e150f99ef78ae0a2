"""Scores: similarities, probabilities, order, and when a result is unsure."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from clapedge.arrays import Float32Array
from clapedge.labels import EmbeddedLabels, Label, LabelSet
from clapedge.scoring.decision import UNSURE_MARGIN, Score
from clapedge.scoring.similarity import Scorer, is_unsure, mean_embedding, probabilities

f32 = partial(np.array, dtype=np.float32)
unit = hnp.arrays(np.float32, (3, 8), elements=st.floats(-1, 1, width=32)).filter(
    lambda rows: bool((np.linalg.norm(rows, axis=1) > 0.1).all())
)


def rank(audio: Float32Array, rows: Float32Array, labels: LabelSet, scale: float) -> tuple[Score, ...]:
    """Rank labels for one embedding (E,)."""
    return Scorer(EmbeddedLabels(labels, rows, "tower"), scale).rank(audio[None])[0]


@given(hnp.arrays(np.float64, st.integers(1, 9), elements=st.floats(-1, 1)), st.floats(0.1, 100))
def test_probabilities_sum_to_one_and_keep_the_order(similarity: np.ndarray, scale: float) -> None:
    probability = probabilities(similarity, scale)
    assert probability.sum() == pytest.approx(1.0)
    assert (np.diff(probability[np.argsort(similarity)]) >= 0).all()


def test_probabilities_are_the_softmax_of_scaled_similarities() -> None:
    expected = np.exp([2.0, 4.0]) / np.exp([2.0, 4.0]).sum()
    np.testing.assert_allclose(probabilities(np.array([0.2, 0.4]), 10.0), expected)


def test_huge_logits_do_not_overflow() -> None:
    assert probabilities(np.array([1.0, -1.0]), 1e6).tolist() == [1.0, 0.0]


@given(unit)
def test_the_mean_embedding_has_unit_norm(rows: np.ndarray) -> None:
    rows = np.abs(rows)
    assert np.linalg.norm(mean_embedding(rows)) == pytest.approx(1.0, abs=1e-5)


def test_hidden_labels_take_probability_and_are_not_reported() -> None:
    labels = LabelSet((Label("rain", ("r",)), Label("background", ("b",), hidden=True), Label("dog", ("d",))))
    scores = rank(f32([1, 0]), f32([[0, 1], [1, 0], [0.6, 0.8]]), labels, 1.0)
    assert [score.name for score in scores] == ["dog", "rain"]
    assert sum(score.probability for score in scores) < 1.0


def test_equal_labels_keep_the_users_order() -> None:
    labels = LabelSet.of(["b", "a", "c"])
    scores = rank(f32([1, 0]), f32([[1, 0]] * 3), labels, 10.0)
    assert [score.name for score in scores] == ["b", "a", "c"]


def test_a_result_is_unsure_when_its_two_best_are_close() -> None:
    assert is_unsure((Score("a", 0.5, 0.2), Score("b", 0.45, 0.19)), UNSURE_MARGIN)
    assert not is_unsure((Score("a", 0.9, 0.4), Score("b", 0.1, 0.1)), UNSURE_MARGIN)
    assert not is_unsure((Score("a", 1.0, 0.4),), UNSURE_MARGIN)
