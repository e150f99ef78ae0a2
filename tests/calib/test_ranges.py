import numpy as np
import pytest

from clapedge.errors import UsageError
from clapedge_calib.ranges import BINS, FloatArray, Histogram, Method, Range, check_percentile, choose

METHODS: tuple[Method, ...] = ("minmax", "entropy", "percentile", "mse")


def histogram(values: FloatArray) -> Histogram:
    counts, edges = np.histogram(values, BINS)
    return Histogram(float(edges[0]), float(edges[-1]), counts.astype(np.float64))


def rounding_error(values: FloatArray, found: Range) -> float:
    step = (found.high - found.low) / 255
    rounded = np.clip(np.rint((values - found.low) / step), 0, 255) * step + found.low
    return float(((rounded - values) ** 2).mean())


@pytest.fixture(scope="module")
def outliers() -> FloatArray:
    generator = np.random.default_rng(0)
    return np.concatenate([generator.normal(size=100_000), [60.0]])


def test_minmax_covers_every_value() -> None:
    found = choose(histogram(np.array([-3.0, 1.0, 7.0])), "minmax")
    assert (found.low, found.high) == (-3.0, 7.0)


def test_a_range_holds_zero_even_where_no_value_comes_near_it() -> None:
    for method in METHODS:
        found = choose(histogram(np.linspace(2.0, 3.0, 1000)), method)
        assert found.low <= 0.0 < found.high


@pytest.mark.parametrize("method", METHODS)
def test_a_symmetric_range_lies_around_zero(method: Method) -> None:
    found = choose(histogram(np.random.default_rng(1).normal(1.0, 1.0, 10_000)), method, symmetric=True)
    assert found.low == -found.high


def test_a_percentile_leaves_out_the_same_share_at_both_ends() -> None:
    found = choose(histogram(np.linspace(-1.0, 1.0, 100_001)), "percentile", percentile=90)
    assert found.low == pytest.approx(-0.9, abs=2e-3)
    assert found.high == pytest.approx(0.9, abs=2e-3)


def test_mse_loses_less_than_minmax_where_a_single_value_lies_far_out(
    outliers: FloatArray,
) -> None:
    counted = histogram(outliers)
    usual = outliers[:-1]
    found = choose(counted, "mse")
    assert rounding_error(outliers, found) <= rounding_error(outliers, choose(counted, "minmax"))
    assert rounding_error(usual, choose(counted, "entropy")) < rounding_error(usual, choose(counted, "minmax"))


def test_mse_keeps_the_whole_range_of_an_even_distribution() -> None:
    found = choose(histogram(np.linspace(-1.0, 1.0, 100_001)), "mse")
    assert found.low == pytest.approx(-1.0, abs=0.03)
    assert found.high == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("percentile", [0.0, 50.0, 100.1, float("nan")])
def test_a_percentile_that_covers_nothing_or_more_than_all_is_refused(percentile: float) -> None:
    with pytest.raises(UsageError, match="percentile"):
        check_percentile(percentile)
