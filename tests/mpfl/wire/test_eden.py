"""EDEN: levels, rotation and scale against explicit matrices; no bias, and the published error."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpfl.wire import WireError, decode_values, encode_values, value_codec
from mpfl.wire.entropy.levels import decode_levels
from mpfl.wire.values.eden import normal_levels
from mpfl.wire.values.rotation import Rotation, blocks, transform

# Max 1960, table 1: the squared error of N(0, 1) rounded to the best levels.
MAX_1960 = {2: 0.3634, 3: 0.1902, 4: 0.1175, 5: 0.07994, 8: 0.03454, 16: 0.009497}


def through(values, spec, seed):
    payload = encode_values(values, spec, (values.size,), np.random.default_rng(seed))
    return decode_values(payload, spec, (values.size,))


def hadamard(size):
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


@pytest.mark.parametrize(("count", "error"), MAX_1960.items())
def test_levels_have_the_error_of_maxs_table(count, error):
    levels = normal_levels(count)
    grid = np.linspace(-9, 9, 200_001)
    density = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi) * (grid[1] - grid[0])
    distance = np.abs(grid[:, None] - levels).min(axis=1)
    assert density @ distance**2 == pytest.approx(error, abs=6e-5)
    np.testing.assert_array_equal(levels, -levels[::-1])


@pytest.mark.parametrize("log", range(8))
def test_the_transform_is_hadamards_matrix(log):
    values = np.random.default_rng(log).integers(-99, 99, 1 << log).astype(np.float32)
    np.testing.assert_array_equal(transform(values), hadamard(1 << log) @ values)


def random_bytes(seed, number, count):
    key = seed.to_bytes(4, "little") + number.to_bytes(4, "little")
    return np.frombuffer(hashlib.shake_128(key).digest(count), np.uint8)


def signs(seed, number, size):
    bits = np.unpackbits(random_bytes(seed, number, size // 4), bitorder="little")
    return (1.0 - 2.0 * bits).reshape(2, size)


def test_a_turn_is_two_transforms_with_the_signs_of_the_seed_and_turning_back_undoes_it():
    values = np.random.default_rng(0).standard_normal(256).astype(np.float32)
    rotation = Rotation(7, 3, 256)
    first, second = signs(7, 3, 256)
    turned = hadamard(256) @ (second * (hadamard(256) @ (first * values))) / 256
    np.testing.assert_allclose(rotation.turn(values), turned, atol=1e-5)
    np.testing.assert_allclose(rotation.turn_back(rotation.turn(values)), 256 * values, atol=1e-3)


def read(payload, count, bits):
    """Decode a payload of up to 65536 values by matrices alone."""
    table = normal_levels(round(2 ** max(bits, 1)))
    sizes = [size for _, size in blocks((count,))]
    seed = int.from_bytes(payload[:4], "little")
    scales = np.frombuffer(payload[4 : 4 + 4 * len(sizes)], "<f4")
    share = round(min(bits, 1) * 65536)
    kept = [
        random_bytes(seed, i, size // 4 + 2 * size)[size // 4 :].view("<u2") < share
        for i, size in enumerate(sizes)
    ]
    used = [mask for mask, scale in zip(kept, scales, strict=True) if scale]
    sent = sum(int(mask.sum()) for mask in used)
    levels = decode_levels(payload[4 + 4 * len(sizes) :], (sent,))[0] if sent else np.zeros(0, int)
    out, begin = [], 0
    for i, (size, scale) in enumerate(zip(sizes, scales, strict=True)):
        rotated = np.zeros(size)
        if scale:
            some = int(kept[i].sum())
            rotated[kept[i]] = table[levels[begin : begin + some]]
            begin += some
        first, second = signs(seed, i, size)
        out.append(first * (hadamard(size) @ (second * (hadamard(size) @ rotated))) * scale / size)
    return np.concatenate(out)[:count]


@settings(max_examples=30)
@given(
    st.integers(1, 700), st.sampled_from([0.1, 0.6, 1.0, 1.5, 2.0, 4.0]), st.integers(0, 2**32 - 1)
)
def test_values_arrive_as_matrices_would_have_it(count, bits, seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(count).astype(np.float32)
    values[: rng.integers(0, count + 1)] = 0
    spec = f"eden({bits})"
    payload = encode_values(values, spec, (count,), rng)
    wanted = read(payload, count, bits)
    decoded = decode_values(payload, spec, (count,))
    np.testing.assert_allclose(decoded, wanted, atol=1e-5 * (1 + np.abs(wanted).max()))


@pytest.mark.parametrize("bits", [0.3, 1, 1.6, 3])
@pytest.mark.parametrize("kind", ["normal", "few are large"])
def test_there_is_no_bias(bits, kind):
    rng = np.random.default_rng(2)
    values = rng.standard_normal(300).astype(np.float32)
    if kind == "few are large":
        values *= 0.05
        values[:3] = 3, -2, 1
    rounds = 1500
    found = np.stack([through(values, f"eden({bits})", seed) for seed in range(rounds)])
    errors = found.astype(np.float64) - values
    scores = errors.mean(axis=0) / errors.std(axis=0) * np.sqrt(rounds)
    # 300 normal scores are all below 4.7 but for once in a thousand.
    assert np.abs(scores).max() < 4.7
    assert np.square(scores).mean() < 1.4


@pytest.mark.parametrize(
    ("bits", "error"),
    [
        (1, np.pi / 2 - 1),
        (0.5, np.pi / 2 / 0.5 - 1),
        (0.1, np.pi / 2 / 0.1 - 1),
        *((np.log2(n), 1 / (1 - error) - 1) for n, error in MAX_1960.items() if n > 2),
    ],
)
def test_the_error_is_the_published_one(bits, error):
    values = np.random.default_rng(3).laplace(size=100_000).astype(np.float32)
    values[:70_000] *= 10  # blocks of different size
    errors = [
        np.square(through(values, f"eden({bits})", seed) - values).sum() / np.square(values).sum()
        for seed in range(3)
    ]
    assert np.mean(errors) == pytest.approx(error, rel=0.03)


def test_bits_are_those_that_were_asked_for():
    values = np.random.default_rng(4).standard_normal(65536 + 30_000).astype(np.float32)
    for bits in (0.1, 0.5, 1, 2, 4):
        payload = encode_values(values, f"eden({bits})", (values.size,), np.random.default_rng(0))
        assert value_codec(f"eden({bits})").bits_each == bits
        assert 0.93 * bits < 8 * len(payload) / values.size < 1.02 * bits + 0.01


def test_the_error_of_a_segment_stays_there():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=3000), 0.001 * rng.normal(size=50)])
    values = values.astype(np.float32)
    payload = encode_values(values, "eden", (3000, 50), rng)
    errors = np.square(decode_values(payload, "eden", (3000, 50)) - values)
    assert errors[3000:].sum() < 2 * np.square(values[3000:]).sum()


def test_the_seed_travels_and_comes_from_the_stream():
    values = np.random.default_rng(4).standard_normal(500).astype(np.float32)
    first = encode_values(values, "eden", (500,), np.random.default_rng(1))
    assert first == encode_values(values, "eden", (500,), np.random.default_rng(1))
    assert first[:4] != encode_values(values, "eden", (500,), np.random.default_rng(2))[:4]


def test_blocks_cover_all_values_and_only_the_last_is_filled_up():
    for count in (1, 127, 128, 129, 5000, 65_536, 200_000):
        places, sizes = zip(*blocks((count,)), strict=True)
        assert np.array_equal(np.concatenate([np.r_[p] for p in places]), np.arange(count))
        assert 0 <= sum(sizes) - count < 128
        assert all(p.stop - p.start == n for p, n in zip(places[:-1], sizes, strict=False))


@pytest.mark.parametrize("size", [1e-44, 1e-30, 1e30, 3.4e38])
def test_extreme_values_come_back_finite(size):
    values = np.full(200, size, np.float32)
    decoded = through(values, "eden(4)", 0)
    assert np.isfinite(decoded).all()


def legal(bits=1.0, count=128):
    values = np.random.default_rng(0).standard_normal(count).astype(np.float32)
    return encode_values(values, f"eden({bits})", (count,), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (b"", "values.scale"),
        (legal()[:7], "values.scale"),
        (legal()[:8], "levels"),
        (legal() + b"\x00", "rans"),
        (legal()[:4] + b"\x00\x00\x80\x7f" + legal()[8:], "values.scale"),  # infinite
        (legal()[:4] + b"\x00\x00\x00\x80", "values.scale"),  # -0
        (legal()[:4] + bytes(4) + legal()[8:], "values.levels"),  # levels of nothing
        (legal(2), "values.levels"),  # four levels
    ],
)
def test_illegal_payloads_are_refused_naming_the_field(payload, field):
    with pytest.raises(WireError) as caught:
        decode_values(payload, "eden", (128,))
    assert caught.value.field.startswith(field)
