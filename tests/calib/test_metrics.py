import math

import numpy as np
import pytest
from scipy import stats

from clapedge_calib import metrics


def test_wilson_intervals_are_those_of_the_textbook() -> None:
    found = metrics.share(8, 10)
    assert found.low == pytest.approx(0.4902, abs=1e-4)
    assert found.high == pytest.approx(0.9433, abs=1e-4)
    assert metrics.share(0, 8).low == 0.0
    assert metrics.share(8, 8).high == 1.0
    assert math.isnan(metrics.share(0, 0).value)


def test_the_rank_is_the_place_of_the_true_label() -> None:
    similarity = np.array([[0.1, 0.9, 0.5], [0.3, 0.2, 0.1]], np.float32)
    assert metrics.ranks(similarity, np.array([2, 0])).tolist() == [1, 0]


def test_average_precision_is_the_mean_precision_at_each_hit() -> None:
    score = np.array([0.9, 0.8, 0.7, 0.6])
    assert metrics.average_precision(score, np.array([True, False, True, False])) == pytest.approx((1 + 2 / 3) / 2)
    assert math.isnan(metrics.average_precision(score, np.zeros(4, bool)))


def test_average_precision_does_not_depend_on_the_order_of_equal_scores() -> None:
    score, relevant = np.array([0.5, 0.5, 0.5]), np.array([True, False, False])
    found = [metrics.average_precision(score, np.roll(relevant, turn)) for turn in range(3)]
    assert found == pytest.approx([1 / 3] * 3)


def test_confusion_counts_the_truth_by_row() -> None:
    assert metrics.confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist() == [[1, 1], [0, 1]]


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    probability = np.array([[0.8, 0.2]] * 4)
    assert metrics.calibration_error(probability, np.array([0, 0, 0, 1])) == pytest.approx(0.05)
    assert metrics.calibration_error(probability, np.array([1, 1, 1, 1])) == pytest.approx(0.8)


def test_agreement_of_orders_is_one_for_the_same_and_minus_one_for_the_reverse() -> None:
    order = np.array([[0.1, 0.2, 0.3]], np.float32)
    assert metrics.rank_agreement(order, order) == 1.0
    assert metrics.rank_agreement(order, -order) == -1.0
    assert metrics.rank_agreement(order[:, :1], order[:, :1]) == 1.0


def test_cosines_are_taken_row_by_row() -> None:
    rows = np.array([[1, 0], [1, 1]], np.float32)
    assert metrics.cosines(rows, np.array([[0, 2], [3, 3]], np.float32)).tolist() == pytest.approx([0, 1])


@pytest.mark.parametrize("of", [1, 7, 80, 2000])
def test_intervals_are_those_of_scipy(of: int) -> None:
    for hits in {0, 1, of // 3, of}:
        expected = stats.binomtest(hits, of).proportion_ci(method="wilson")
        found = metrics.share(hits, of)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-7)


def test_agreement_of_orders_is_the_spearman_correlation_of_scipy() -> None:
    one, other = np.random.default_rng(0).normal(size=(2, 20, 7)).astype(np.float32)
    expected = np.mean([stats.spearmanr(*rows).statistic for rows in zip(one, other, strict=True)])
    assert metrics.rank_agreement(one, other) == pytest.approx(expected)


@pytest.mark.parametrize("digits", [1, 6])
def test_average_precision_is_its_definition_over_every_threshold(digits: int) -> None:
    generator = np.random.default_rng(digits)
    score, relevant = np.round(generator.random(60), digits), generator.random(60) < 0.3
    expected = known = 0.0
    for threshold in sorted(set(score), reverse=True):  # one digit makes ties, six make none
        heard = score >= threshold
        recall = (relevant & heard).sum() / relevant.sum()
        expected += (recall - known) * (relevant & heard).sum() / heard.sum()
        known = recall
    assert metrics.average_precision(score, relevant) == pytest.approx(expected)


def test_calibration_error_is_its_definition_bin_by_bin() -> None:
    generator = np.random.default_rng(0)
    probability, truth = generator.dirichlet(np.ones(4), 300), generator.integers(0, 4, 300)
    confidence, right = probability.max(axis=1), probability.argmax(axis=1) == truth
    expected = 0.0
    for bin_ in range(15):
        inside = (confidence > bin_ / 15) & (confidence <= (bin_ + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert metrics.calibration_error(probability, truth) == pytest.approx(expected)
