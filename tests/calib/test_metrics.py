import math

import numpy as np
import pytest

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
