"""The fixed-point mean: the same bits in any order, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from mpfl.average import FixedPointMean, OverlapMean

RNG = np.random.default_rng(5)
VECTORS = RNG.normal(0, 1, (7, 50)).astype(np.float32)
WEIGHTS = [3, 600, 1, 59, 1000, 77, 12]


def mean_of(order, **options):
    mean = FixedPointMean(50, 2000, **options)
    for number in order:
        mean.add(VECTORS[number], WEIGHTS[number])
    return mean.mean()


@pytest.mark.parametrize("options", [{}, {"limit_log2": 3}, {"buffers": 20}, {"buffers": 50}])
def test_the_mean_is_that_of_float64_in_any_order(options):
    expected = np.average(VECTORS.astype(np.float64), axis=0, weights=WEIGHTS)
    forwards = mean_of(range(7), **options)
    np.testing.assert_allclose(forwards, expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(forwards, mean_of(reversed(range(7)), **options))
    np.testing.assert_array_equal(forwards, mean_of(RNG.permutation(7), **options))


@pytest.mark.parametrize("value", [256.0, -300.0, np.inf, np.nan])
def test_values_beyond_the_limit_are_refused_and_change_nothing(value):
    mean = FixedPointMean(3, 10)
    mean.add(np.array([1, 2, 3], np.float32), 2)
    with pytest.raises(ValueError, match="not below 256"):
        mean.add(np.array([0, value, 0], np.float32), 1)
    np.testing.assert_array_equal(mean.mean(), np.array([1, 2, 3], np.float32))
    assert mean.weight == 2


def test_running_statistics_may_be_large():
    mean = FixedPointMean(3, 10, buffers=1)
    mean.add(np.array([1, 255, 40_000], np.float32), 1)
    mean.add(np.array([3, 255, 20_000], np.float32), 1)
    np.testing.assert_array_equal(mean.mean(), np.array([2, 255, 30_000], np.float32))
    with pytest.raises(ValueError, match="not below 65536"):
        mean.add(np.array([1, 1, 70_000], np.float32), 1)
    with pytest.raises(ValueError, match="not below 256"):
        mean.add(np.array([1, 300, 1], np.float32), 1)
    overlap = OverlapMean(3, 10, buffers=1)
    overlap.add(np.array([1, 255, 40_000], np.float32), np.array([True, False, True]), 1)
    np.testing.assert_array_equal(overlap.mean(np.zeros(3, np.float32)), [1, 0, 40_000])


@pytest.mark.parametrize(("values", "weight"), [(4, 1), (3, 0), (3, 11)])
def test_wrong_shapes_and_weights_are_refused(values, weight):
    with pytest.raises(ValueError, match=r"values|weight"):
        FixedPointMean(3, 10).add(np.zeros(values, np.float32), weight)


def test_the_mean_of_nothing_is_not_defined():
    with pytest.raises(ValueError, match="no vectors"):
        FixedPointMean(3, 10).mean()
