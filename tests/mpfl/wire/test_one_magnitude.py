"""Sparse ternary and sparse binary compression, against the papers' algorithms in plain NumPy."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpfl.wire import ValueContext, WireError, decode_values, encode_values, value_codec
from mpfl.wire.values.one_magnitude import golomb_bits

SEGMENTS = st.lists(st.integers(1, 60), min_size=1, max_size=4)
SHARES = st.sampled_from(["0.01", "0.07", "0.25", "1"])


def through(values, spec, segments, **known):
    context = ValueContext(**known)
    payload = encode_values(values, spec, segments, context=context)
    return decode_values(payload, spec, segments, context=context)


def parts(values, segments):
    return np.split(values, np.cumsum(segments)[:-1])


def ternary(part, share):
    """Algorithm 1 of STC: the k largest magnitudes, all as their mean."""
    k = math.ceil(Fraction(share) * part.size)
    kept = np.argsort(-np.abs(part), kind="stable")[:k]
    kept = kept[part[kept] != 0]
    out = np.zeros_like(part)
    if kept.size:
        out[kept] = np.sign(part[kept]) * np.float32(np.abs(part[kept]).mean(dtype=np.float64))
    return out


def binary(part, share):
    """Algorithm 2 of SBC: the k largest or the k least, whichever mean is farther from 0."""
    k = math.ceil(Fraction(share) * part.size)
    sides = []
    for sign in (1, -1):
        kept = np.argsort(-sign * part, kind="stable")[:k]
        kept = kept[sign * part[kept] > 0]
        mean = np.float32(part[kept].mean(dtype=np.float64)) if kept.size else np.float32(0)
        sides.append((abs(mean), mean, kept))
    _, mean, kept = max(sides, key=lambda side: side[0])  # the first one, plus, if equal
    out = np.zeros_like(part)
    out[kept] = mean
    return out


def vector(segments, seed):
    values = np.random.default_rng(seed).standard_normal(sum(segments)).astype(np.float32)
    values[::7] = 0
    values[3::11] = values[:1]  # ties
    return values


@pytest.mark.parametrize(("name", "oracle"), [("stc", ternary), ("sbc", binary)])
@settings(max_examples=60)
@given(SEGMENTS, SHARES, st.integers(0, 2**32 - 1))
def test_what_arrives_is_what_the_paper_says(name, oracle, segments, share, seed):
    values = vector(segments, seed)
    wanted = np.concatenate([oracle(part, share) for part in parts(values, segments)])
    np.testing.assert_array_equal(through(values, f"{name}({share})", segments), wanted)


@pytest.mark.parametrize("name", ["stc", "sbc"])
def test_the_share_is_the_decimal_number_that_was_written(name):
    values = np.arange(1, 101, dtype=np.float32)
    assert np.count_nonzero(through(values, f"{name}(0.07)", (100,))) == 7


@pytest.mark.parametrize("spec", ["stc(0.05)", "sbc(0.05)"])
def test_with_error_feedback_nothing_is_lost_over_time(spec):
    rng = np.random.default_rng(5)
    segments = (300, 40)
    residual, sent, total = (np.zeros(340, np.float32) for _ in range(3))
    for _ in range(200):
        update = rng.standard_normal(340).astype(np.float32) + np.float32(0.1)
        wanted = residual + update
        arrived = through(wanted, spec, segments)
        residual, sent, total = wanted - arrived, sent + arrived, total + update
    np.testing.assert_allclose(sent + residual, total, atol=2e-3)
    assert np.abs(residual).max() < 0.5 * np.abs(total).max()  # a value waits, but not for ever


@pytest.mark.parametrize("spec", ["stc(0.1)", "sbc(0.1)"])
def test_classes_that_tell_where_large_values_are_save_bytes(spec):
    rng = np.random.default_rng(6)
    classes = (np.arange(20_000) % 4 == 0).astype(np.uint8)
    values = (rng.standard_normal(20_000) * np.where(classes, 1, 0.1)).astype(np.float32)
    plain = encode_values(values, spec, (20_000,))
    told = encode_values(values, spec, (20_000,), context=ValueContext(classes=classes))
    assert len(told) < 0.9 * len(plain)
    np.testing.assert_array_equal(
        through(values, spec, (20_000,), classes=classes), through(values, spec, (20_000,))
    )


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.3, 0.5])
def test_the_formula_is_the_mean_length_of_golombs_code(share):
    exponent = max(1 + math.floor(math.log2(math.log((math.sqrt(5) - 1) / 2)
                                            / math.log(1 - share))), 0)  # fmt: skip
    gaps = np.random.default_rng(1).geometric(share, 400_000) - 1
    lengths = exponent + 1 + (gaps >> exponent)
    assert golomb_bits(share) == pytest.approx(lengths.mean(), rel=0.01)
    assert value_codec(f"stc({share})").bits_each == share * (golomb_bits(share) + 1)
    assert value_codec(f"sbc({share})").bits_each == share * golomb_bits(share)
    assert golomb_bits(1) == 1


@pytest.mark.parametrize(
    ("spec", "payload", "field"),
    [
        ("stc(0.5)", "", "values.places"),
        ("stc(0.5)", "05 00000000", "values.places"),  # five bytes are announced, four are there
        ("stc(0.5)", "04 00000080", "values.scale"),  # -0
        ("stc(0.5)", "06 000080bf 00 01 01", "values.scale"),  # negative
        ("stc(0.5)", "06 0000803f 00 00 00", "values.places"),  # a magnitude, but nothing is sent
        ("stc(0.5)", "06 0000803f 00 07 07", "values.places"),  # three of four
        ("stc(0.5)", "06 0000803f 00 01 02", "values.signs"),  # padding
        ("stc(0.5)", "06 0000803f 00 01", "values.signs"),
        ("stc(0.5)", "05 00000000 00", "values.places"),  # a mask where nothing is sent
        ("sbc(0.5)", "00000000 00", "values.places"),
        ("sbc(0.5)", "000000", "values.scale"),
        ("sbc(0.5)", "0000807f 00 01", "values.scale"),  # infinite
        ("sbc(0.5)", "000080bf 00 01 01", "mask"),  # something behind the mask
    ],
)
def test_illegal_payloads_are_refused_naming_the_field(spec, payload, field):
    with pytest.raises(WireError) as caught:
        decode_values(bytes.fromhex(payload), spec, (4,))
    assert caught.value.field.startswith(field)


def test_a_magnitude_of_no_values_is_refused():
    payload = bytes.fromhex("0000803f 0000803f 00 01")
    with pytest.raises(WireError, match="no values"):
        decode_values(payload, "sbc(0.5)", (4, 0))
