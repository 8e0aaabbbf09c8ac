"""PowerSGD: exact where the rank is low, warm starts, and what does not become factors."""

import numpy as np
import pytest

from mpfl.wire import ValueContext, decode_values, encode_values, value_codec, values_bound_bytes
from mpfl.wire.values import formula_bits

SHAPES = ((40, 30), (30,), (8, 5, 3, 3), None)
SEGMENTS = (1200, 30, 360, 77)


def through(values, spec, seed=0, segments=SEGMENTS, **known):
    context = ValueContext(shapes=known.pop("shapes", SHAPES), **known)
    payload = encode_values(values, spec, segments, np.random.default_rng(seed), context=context)
    return payload, decode_values(payload, spec, segments, context=context)


def matrix_of_rank(rank, rows=40, columns=30, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, columns))


def update(rank, seed=0):
    rng = np.random.default_rng(seed)
    parts = [matrix_of_rank(rank, seed=seed), rng.standard_normal(30),
             matrix_of_rank(rank, 8, 45, seed + 1), rng.standard_normal(77)]  # fmt: skip
    return np.concatenate([part.ravel() for part in parts]).astype(np.float32)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_what_is_of_that_rank_is_exact(rank):
    values = update(rank)
    for seed in range(3):
        payload, decoded = through(values, f"lowrank({rank})", seed)
        np.testing.assert_allclose(decoded, values, atol=1e-4)
    numbers = rank * (40 + 30) + 30 + rank * (8 + 45) + 77
    assert len(payload) == 4 * numbers
    assert (
        formula_bits(f"lowrank({rank})", SEGMENTS, context=ValueContext(shapes=SHAPES))
        == 32 * numbers
    )


def test_a_lower_rank_than_allowed_is_exact_too():
    values = update(2)
    np.testing.assert_allclose(through(values, "lowrank(4)")[1], values, atol=1e-4)


def test_it_is_one_step_of_the_power_iteration():
    values = np.random.default_rng(3).standard_normal(1200).astype(np.float32)
    matrix = values.reshape(40, 30).astype(np.float64)
    start = np.random.default_rng(0).standard_normal((3, 30)).T
    left, _ = np.linalg.qr(matrix @ start)
    _, decoded = through(values, "lowrank(3)", segments=(1200,), shapes=((40, 30),))
    np.testing.assert_allclose(decoded.reshape(40, 30), left @ left.T @ matrix, atol=1e-5)


def test_warm_starts_lead_to_the_best_approximation():
    values = np.random.default_rng(4).standard_normal(1200).astype(np.float32)
    u, s, v = np.linalg.svd(values.reshape(40, 30).astype(np.float64), full_matrices=False)
    best = float(np.square(s[3:]).sum())
    previous, errors = b"", []
    for seed in range(60):
        previous, decoded = through(
            values, "lowrank(3)", seed, segments=(1200,), shapes=((40, 30),), previous=previous
        )
        errors.append(float(np.square(decoded - values).sum()))
    assert errors[0] > 1.05 * best
    assert errors[-1] == pytest.approx(best, rel=0.005)
    np.testing.assert_allclose(decoded.reshape(40, 30), (u[:, :3] * s[:3]) @ v[:3], atol=0.2)


def test_a_warm_start_needs_no_stream_and_a_cold_one_does():
    values, context = update(4), ValueContext(shapes=SHAPES)
    with pytest.raises(ValueError, match="stream"):
        encode_values(values, "lowrank(4)", SEGMENTS, context=context)
    first, _ = through(values, "lowrank(4)")
    warm = ValueContext(shapes=SHAPES, previous=first)
    assert encode_values(values, "lowrank(4)", SEGMENTS, context=warm)


def test_a_last_payload_of_other_segments_is_no_start():
    values = update(4)
    plain, _ = through(values, "lowrank(4)")
    assert through(values, "lowrank(4)", previous=b"of another mask")[0] == plain


def test_directions_that_were_zero_are_drawn_anew():
    nothing, _ = through(np.zeros(1667, np.float32), "lowrank(4)")
    values = update(4)
    assert nothing == bytes(len(nothing))
    np.testing.assert_allclose(
        through(values, "lowrank(4)", previous=nothing)[1], values, atol=2e-5
    )


def test_with_error_feedback_a_full_matrix_arrives_over_time():
    rng = np.random.default_rng(7)
    target = rng.standard_normal(1200).astype(np.float32)
    residual, sent, previous = target.copy(), np.zeros_like(target), b""
    for seed in range(120):
        previous, arrived = through(
            residual, "lowrank(2)", seed, segments=(1200,), shapes=((40, 30),), previous=previous
        )
        sent, residual = sent + arrived, residual - arrived
    np.testing.assert_allclose(sent + residual, target, atol=1e-4)
    assert np.abs(residual).max() < 0.02 * np.abs(target).max()


def test_what_is_no_matrix_or_would_not_shrink_goes_through_the_inner_codec_as_it_is():
    values = np.random.default_rng(1).standard_normal(sum(SEGMENTS)).astype(np.float32)
    for shapes in (None, (None,) * 4, ((1200,), (30,), (), None)):
        payload, _ = through(values, "lowrank(4)", shapes=shapes)
        assert payload == values.tobytes()
    payload, _ = through(values[:12], "lowrank(2)", segments=(12,), shapes=((3, 4),))
    assert payload == values[:12].tobytes()


@pytest.mark.parametrize("inner", ["int8", "int8(nearest)", "step(0.1)", "float16", "eden(4)"])
def test_factors_go_through_the_codec_behind_the_bar(inner):
    values = update(2)
    spec = f"lowrank(2) | {inner}"
    payload, decoded = through(values, spec)
    assert np.square(decoded - values).sum() < 0.05 * np.square(values).sum()
    assert len(payload) < 0.6 * len(through(values, "lowrank(2)")[0])
    context = ValueContext(shapes=SHAPES)
    assert values_bound_bytes(payload, spec, SEGMENTS, context=context) <= len(payload)
    numbers = 2 * (40 + 30) + 30 + 2 * (8 + 45) + 77
    wanted = value_codec(inner).bits_each * numbers
    assert formula_bits(spec, SEGMENTS, context=context) == wanted


def test_the_schedule_of_a_step_reaches_the_inner_codec():
    values = update(2)
    fine, _ = through(values, "lowrank(2)|step(0.2, 0.6, 4)", progress=0)
    coarse, _ = through(values, "lowrank(2)|step(0.2, 0.6, 4)", progress=1)
    assert len(coarse) < 0.7 * len(fine)


@pytest.mark.parametrize("size", [1e-44, 1e-30, 1e30, 3.4e38])
def test_extreme_values_come_back_finite(size):
    values = np.random.default_rng(0).choice([-size, size], sum(SEGMENTS)).astype(np.float32)
    assert np.isfinite(through(values, "lowrank(2)")[1]).all()


def test_no_values_and_empty_segments_are_fine():
    assert through(np.zeros(0, np.float32), "lowrank(2)", segments=(), shapes=())[0] == b""
    payload, decoded = through(
        np.ones(30, np.float32), "lowrank(1)", segments=(0, 30), shapes=((), (5, 6))
    )
    assert len(payload) == 4 * 11
    np.testing.assert_allclose(decoded, 1, rtol=1e-6)
