"""`grid`: steps that are powers of two, and sums of what several messages said."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mpfl.wire import ValueContext, decode_values, encode_values
from mpfl.wire.values.grid import EXACT_BELOW, FINEST, grid, on_grid

SEGMENTS = (700, 0, 300)
MOST = int(EXACT_BELOW / FINEST) - 1


def decoded(payload, segments=SEGMENTS):
    return decode_values(payload, "grid", segments)


def normal(seed, scale=0.01):
    return np.random.default_rng(seed).normal(size=1000).astype(np.float32) * np.float32(scale)


@pytest.mark.parametrize("factor", [0.3, 1.0, 2.0, 5.0])
def test_values_are_the_nearest_integers_times_the_nearest_power_of_two(factor):
    values = normal(0)
    payload = encode_values(values, f"grid({factor})", SEGMENTS)
    for part in (slice(0, 700), slice(700, 1000)):
        root = np.sqrt(np.square(values[part].astype(np.float64)).mean())
        step = 2.0 ** round(np.log2(factor * root))
        expected = step * np.round(values[part] / step)
        np.testing.assert_array_equal(decoded(payload)[part], expected)


def test_the_dead_zone_is_that_of_step():
    values = np.array([0.59, 0.61, 1.59, 1.61, -0.61, 1.0], np.float32)  # a step is near 1
    payload = encode_values(values, "grid(1, 0.6)", (6,))
    assert decoded(payload, (6,)).tolist() == [0, 1, 1, 2, -1, 1]


def test_no_step_is_finer_than_the_grid():
    values = np.array([FINEST / 8, FINEST, 3.2 * FINEST], np.float32)
    payload = encode_values(values, "grid(0.02)", (3,))
    assert (decoded(payload, (3,)) / FINEST).tolist() == [0, 1, 3]


@given(
    hnp.arrays(np.int32, 60, elements=st.integers(-MOST, MOST)),
    st.integers(0, 20),
    st.booleans(),
)
def test_any_multiples_below_the_limit_are_said_exactly(units, shift, in_classes):
    values = ((units >> shift) << shift).astype(np.float32) * np.float32(FINEST)
    classes = np.arange(60).astype(np.uint8) % 3 if in_classes else None
    known, segments = ValueContext(classes), (20, 0, 40)
    payloads = grid().exact(values, segments, known)
    parts = [decode_values(payload, "grid", segments, context=known) for payload in payloads]
    np.testing.assert_array_equal(sum(parts), values)
    assert len(payloads) <= 4


def test_integers_that_fit_are_one_payload_in_the_largest_step():
    values = np.array([6, -250, 0, 4], np.float32) * np.float32(FINEST)
    (payload,) = grid().exact(values, (4,), ValueContext())
    assert np.frombuffer(payload[:2], "<u2")[0] == np.float32(2 * FINEST).view(np.uint32) >> 16


def test_outliers_are_a_second_payload_that_says_nothing_else():
    values = np.ones(5000, np.float32)
    values[17] = 1000
    first, second = grid().exact(values, (5000,), ValueContext())
    rest = decoded(second, (5000,))
    assert np.flatnonzero(rest).tolist() == [17]
    assert rest[17] % 128 == 0
    assert len(second) < 40
    assert decoded(first, (5000,))[17] == 1000 - rest[17]


def test_a_sum_is_exact_in_any_order_and_little_longer_than_one():
    payloads = [encode_values(normal(seed), "grid(1, 0.6)", SEGMENTS) for seed in range(16)]
    moves = [decoded(payload) for payload in payloads]
    total = np.asarray(np.sum(moves, axis=0, dtype=np.float32))
    np.testing.assert_array_equal(total, np.sum(moves[::-1], axis=0, dtype=np.float32))
    assert total.tolist() == np.sum(moves, axis=0, dtype=np.float64).tolist()
    start = on_grid(normal(99, 1.0))
    on_the_way = start
    for move in moves:
        on_the_way = on_the_way + move
    np.testing.assert_array_equal(on_the_way, start + total)
    (one,) = grid().exact(total, SEGMENTS, ValueContext())
    # log2(16) / 2 = 2 bits a value more than one of them, instead of 16 times as long
    mean = sum(map(len, payloads)) / 16
    assert len(one) < mean + 2.3 * 1000 / 8
    assert len(one) < 0.2 * sum(map(len, payloads))


def test_huge_values_are_read_by_whom_they_were_written_for():
    values = np.array([1e37, 3e38, 0.0], np.float32)
    for factor in (1, 100):
        payload = encode_values(values, f"grid({factor})", (3,))
        assert np.isfinite(decode_values(payload, f"grid({factor})", (3,))).all()


def test_what_is_on_the_grid_stays():
    values = on_grid(normal(3))
    np.testing.assert_array_equal(values, on_grid(values))
    assert np.abs(values - normal(3)).max() <= FINEST / 2
    assert not np.signbit(on_grid(np.array([-FINEST / 4], np.float32)))[0]
    huge = np.array([1e30, -123456.789], np.float32)
    np.testing.assert_array_equal(on_grid(huge), huge)
