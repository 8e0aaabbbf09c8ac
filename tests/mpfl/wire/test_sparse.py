"""Sparse, sign and level codecs: round trips, sizes, and what they refuse."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpfl.wire.entropy.levels import decode_levels, encode_levels, levels_bound_bytes
from mpfl.wire.errors import WireError
from mpfl.wire.values import decode_values, encode_values, values_bound_bytes

SEGMENTS = st.lists(st.integers(1, 60), min_size=1, max_size=4)


@settings(max_examples=40)
@given(SEGMENTS, st.floats(0.01, 1.0), st.integers(0, 2**32 - 1))
def test_sparse_keeps_exactly_the_largest(segments, share, seed):
    values = np.random.default_rng(seed).normal(size=sum(segments)).astype(np.float32)
    values[::7] = 0
    codec = f"sparse({share})"
    decoded = decode_values(encode_values(values, codec, segments), codec, segments)
    count = max(1, int(np.floor(share * values.size + 0.5)))
    order = np.argsort(-np.abs(values), kind="stable")[:count]
    wanted = np.zeros_like(values)
    wanted[order] = values[order]
    assert np.array_equal(decoded, wanted)


@settings(max_examples=40)
@given(SEGMENTS, st.integers(0, 2**32 - 1))
def test_sign_keeps_signs_and_the_mean_magnitude(segments, seed):
    values = np.random.default_rng(seed).normal(size=sum(segments)).astype(np.float32)
    decoded = decode_values(encode_values(values, "sign", segments), "sign", segments)
    assert np.array_equal(decoded > 0, values >= 0)
    np.testing.assert_allclose(np.abs(decoded), np.abs(values).mean(), rtol=1e-6)


@settings(max_examples=40)
@given(SEGMENTS, st.integers(1, 255), st.integers(0, 2**32 - 1))
def test_levels_come_back_as_they_were(segments, top, seed):
    rng = np.random.default_rng(seed)
    levels = rng.binomial(top, rng.random(), sum(segments)).astype(np.uint8)
    got, got_top = decode_levels(encode_levels(levels, top, segments), segments)
    assert got_top == top
    assert np.array_equal(got, levels)


def test_sizes_stay_close_to_the_entropy():
    rng = np.random.default_rng(0)
    levels = rng.binomial(10, 0.3, 100_000).astype(np.uint8)
    size = len(encode_levels(levels, 10, [60_000, 40_000]))
    assert size < 1.01 * levels_bound_bytes(levels, [60_000, 40_000])
    values = rng.normal(size=100_000).astype(np.float32)
    for codec in ("sparse(0.05)", "sign"):
        payload = encode_values(values, codec, [100_000])
        assert len(payload) < 1.02 * values_bound_bytes(payload, codec, [100_000])


@pytest.mark.parametrize("codec", ["sparse(0.1)", "sign"])
def test_damaged_payloads_raise_wire_errors_only(codec):
    rng = np.random.default_rng(1)
    values = rng.normal(size=300).astype(np.float32)
    payload = encode_values(values, codec, [200, 100])
    for end in range(len(payload)):
        with pytest.raises(WireError):
            decode_values(payload[:end], codec, [200, 100])
    for _ in range(300):
        damaged = bytearray(payload)
        damaged[rng.integers(len(payload))] ^= 1 << int(rng.integers(8))
        with contextlib.suppress(WireError):
            decode_values(bytes(damaged), codec, [200, 100])


def test_damaged_levels_raise_wire_errors_only():
    rng = np.random.default_rng(2)
    payload = encode_levels(rng.integers(0, 6, 300).astype(np.uint8), 5, [200, 100])
    for end in range(len(payload)):
        with pytest.raises(WireError):
            decode_levels(payload[:end], [200, 100])
    for _ in range(300):
        damaged = bytearray(payload)
        damaged[rng.integers(len(payload))] ^= 1 << int(rng.integers(8))
        try:
            levels, top = decode_levels(bytes(damaged), [200, 100])
            assert levels.max() <= top
        except WireError:
            pass
