"""Value payloads: round trips, sizes, unbiasedness, what cannot be sent and what is refused."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mpfl.wire import (
    VALUE_CODECS,
    ValueContext,
    WireError,
    decode_values,
    encode_values,
    value_codec,
    values_bound_bytes,
)

ARGUED = {
    "rd_step": "rd_step(0.2)",
    "stc": "stc(0.1)",
    "sbc": "sbc(0.1)",
    "lowrank": "lowrank(2) | int8(nearest)",
}
"""How the codecs that do not go without an argument are written."""
SPECS = [
    *(name for name in VALUE_CODECS.names() if name not in ARGUED),
    *ARGUED.values(),
    *(f"{name}(nearest)" for name in ("int8", "int4", "int3", "ternary")),
    "step(0.3)",
    "step(2, 0.7)",
    "step(2, 0.6, 4)",
    "eden(0.3)",
    "eden(2.5)",
]
LARGEST = {"int8": 127, "int4": 7, "int3": 3, "ternary": 1}
FINITE = st.floats(-60000, 60000, width=32)


@st.composite
def vectors(draw):
    segments = draw(st.lists(st.integers(0, 40), min_size=1, max_size=5))
    values = draw(hnp.arrays(np.float32, sum(segments), elements=FINITE))
    classes = None
    if draw(st.booleans()):
        classes = draw(hnp.arrays(np.uint8, sum(segments), elements=st.integers(0, 4)))
    return values, segments, classes


@settings(max_examples=60)
@given(vectors(), st.sampled_from(SPECS))
def test_round_trip_is_within_the_step(vector, spec):
    values, segments, classes = vector
    rng = np.random.default_rng(0)
    payload = encode_values(values, spec, segments, rng, context=ValueContext(classes))
    decoded = decode_values(payload, spec, segments, context=ValueContext(classes))
    assert decoded.dtype == np.float32
    assert decoded.shape == values.shape
    if spec == "float32":
        assert decoded.tobytes() == (values + np.float32(0)).tobytes()  # -0 travels as 0
    relative = {"float16": 2**-11, "bfloat16": 2**-8}
    begin = 0
    for count in segments:
        part, got = values[begin : begin + count], decoded[begin : begin + count]
        begin += count
        if spec in relative:
            np.testing.assert_allclose(got, part, rtol=relative[spec], atol=2**-24)
        elif spec in LARGEST and count:
            step = np.abs(part).max() / LARGEST[spec] * (1 + 2**-6)
            assert np.abs(got - part).max() <= step + 1e-38


@settings(max_examples=60)
@given(vectors(), st.sampled_from(SPECS))
@example((np.zeros(0, np.float32), [0], None), "stc(0.1)")
@example((np.zeros(0, np.float32), [0, 0], None), "sbc(0.1)")
def test_the_bound_is_not_above_the_payload(vector, spec):
    values, segments, classes = vector
    payload = encode_values(
        values, spec, segments, np.random.default_rng(0), context=ValueContext(classes)
    )
    bound = values_bound_bytes(payload, spec, segments, context=ValueContext(classes))
    assert 0 <= bound <= len(payload) + 1e-9


@pytest.mark.parametrize("spec", [s for s in SPECS if "float" not in s])
def test_large_payloads_are_within_two_percent_of_the_entropy_of_their_integers(spec):
    rng = np.random.default_rng(3)
    segments = (100_000, 300, 20_000, 100)
    parts = [rng.standard_normal(n) * s for n, s in zip(segments, (1, 0.1, 3, 2), strict=True)]
    values = np.concatenate(parts).astype(np.float32)
    payload = encode_values(values, spec, segments, rng)
    assert len(payload) <= 1.02 * values_bound_bytes(payload, spec, segments)


def test_the_bound_is_the_entropy_counted_by_hand():
    values = np.array([1, 1, 1, 0, -1, 0, 0, 0] * 20, np.float32)
    payload = encode_values(values, "ternary(nearest)", (160,))
    shares = np.array([3, 4, 1]) / 8
    bits = -160 * np.sum(shares * np.log2(shares))
    assert values_bound_bytes(payload, "ternary(nearest)", (160,)) == pytest.approx(2 + bits / 8)


@pytest.mark.parametrize("spec", ["int8", "int4", "int3", "ternary"])
def test_stochastic_rounding_is_unbiased(spec):
    distinct = np.random.default_rng(4).standard_normal(50).astype(np.float32)
    rounds = 2000
    values = np.tile(distinct, rounds)

    def scores(asked):
        payload = encode_values(values, asked, (values.size,), np.random.default_rng(9))
        errors = decode_values(payload, asked, (values.size,)) - values
        by_value = errors.astype(np.float64).reshape(rounds, 50)
        deviation = np.maximum(by_value.std(axis=0), 1e-6)
        return by_value.mean(axis=0) / deviation * np.sqrt(rounds)

    # 50 normal scores are all below 4.5 but for once in 3000.
    assert np.abs(scores(spec)).max() < 4.5
    assert np.square(scores(spec)).mean() < 2
    # The same test finds the bias where there is one.
    assert np.abs(scores(f"{spec}(nearest)")).max() > 100


def test_the_stream_alone_decides_the_rounding():
    values = np.random.default_rng(4).standard_normal(500).astype(np.float32)
    first = encode_values(values, "int4", (500,), np.random.default_rng(1))
    assert first == encode_values(values, "int4", (500,), np.random.default_rng(1))
    assert first != encode_values(values, "int4", (500,), np.random.default_rng(2))


def test_nearest_has_the_smaller_error():
    values = np.random.default_rng(4).standard_normal(5000).astype(np.float32)

    def error(spec):
        payload = encode_values(values, spec, (5000,), np.random.default_rng(1))
        return np.square(decode_values(payload, spec, (5000,)) - values).mean()

    for name in ("int8", "int4", "int3", "ternary"):
        assert error(f"{name}(nearest)") < 0.6 * error(name)


def test_classes_that_tell_scales_apart_save_bytes():
    rng = np.random.default_rng(6)
    classes = (np.arange(20_000) % 2).astype(np.uint8)
    values = (rng.standard_normal(20_000) * np.where(classes, 1, 0.1)).astype(np.float32)
    plain = encode_values(values, "int4(nearest)", (20_000,))
    told = encode_values(values, "int4(nearest)", (20_000,), context=ValueContext(classes))
    assert len(told) < 0.9 * len(plain)
    np.testing.assert_array_equal(
        decode_values(told, "int4(nearest)", (20_000,), context=ValueContext(classes)),
        decode_values(plain, "int4(nearest)", (20_000,)),
    )


def test_segments_of_zeros_cost_their_step_only():
    assert encode_values(np.zeros(1000, np.float32), "int8", (500, 500), None) == bytes(4)


def test_small_segments_cost_little():
    values = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    whole = encode_values(values, "int4(nearest)", (20_000,))
    cut = encode_values(values, "int4(nearest)", (19_700, *(20,) * 15))
    assert len(cut) - len(whole) < 15 * 6


def test_relative_marks_the_codecs_for_differences():
    for spec in ("int8", "int4", "int3", "ternary", "step", "step(2)", "sparse", "sign", "eden",
                 *ARGUED.values()):  # fmt: skip
        assert value_codec(spec).relative
    for spec in ("float32", "float16", "bfloat16"):
        assert not value_codec(spec).relative


def test_bfloat16_rounds_to_nearest_even():
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20], np.float32)
    decoded = decode_values(encode_values(values, "bfloat16", (4,)), "bfloat16", (4,))
    assert decoded.tolist() == [1.0, 1.0, 1 + 2**-6, 1 + 2**-7]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_cannot_be_sent(value):
    with pytest.raises(ValueError, match="finite"):
        encode_values(np.array([value], np.float32), "float32", (1,))


@pytest.mark.parametrize("spec", ["float16", "bfloat16"])
def test_values_beyond_the_format_cannot_be_sent(spec):
    with pytest.raises(ValueError, match="too large"):
        encode_values(np.array([3.4e38], np.float32), spec, (1,))


@pytest.mark.parametrize("spec", ["int8", "int3(nearest)", "ternary", "step(1)"])
@pytest.mark.parametrize("size", [1e-45, 1e-38, 1e30, 3e38, 3.39e38, np.finfo(np.float32).max])
def test_extreme_scales_survive(spec, size):
    values = np.array([size, -size, 0, size], np.float32)
    payload = encode_values(values, spec, (4,), np.random.default_rng(0))
    decoded = decode_values(payload, spec, (4,))
    # Steps end at 2^-133; a step is a bfloat16, and step(1) the root mean square.
    np.testing.assert_allclose(decoded, values, rtol=0.15, atol=2.0**-133)


@pytest.mark.parametrize(
    ("spec", "values", "segments", "match"),
    [
        ("float32", np.zeros(3), (3,), "float32"),
        ("float32", np.zeros(3, np.float32), (2,), "float32"),
        ("int4", np.ones(3, np.float32), (3,), "stream"),
        ("int5", np.ones(3, np.float32), (3,), "int4"),
        ("int4(up)", np.ones(3, np.float32), (3,), "nearest"),
        ("float32(1)", np.ones(3, np.float32), (3,), "no argument"),
        ("step(0)", np.ones(3, np.float32), (3,), "step"),
        ("step(1, 0.2)", np.ones(3, np.float32), (3,), "step"),
        ("step(1, 0.5, 200)", np.ones(3, np.float32), (3,), "0.02 to 100"),
        ("grid(0)", np.ones(3, np.float32), (3,), "grid"),
        ("rd_step(0)", np.ones(3, np.float32), (3,), "rd_step"),
        ("rd_step", np.ones(3, np.float32), (3,), "rd_step"),
        ("stc(0)", np.ones(3, np.float32), (3,), "share"),
        ("sbc(1.5)", np.ones(3, np.float32), (3,), "share"),
        ("stc", np.ones(3, np.float32), (3,), "one number"),
        ("eden(0.05)", np.ones(3, np.float32), (3,), "0.1 to 4"),
        ("eden(1)", np.ones(3, np.float32), (3,), "stream"),
        ("lowrank(0)", np.ones(3, np.float32), (3,), "rank"),
        ("lowrank(1.5)", np.ones(3, np.float32), (3,), "whole number"),
        ("lowrank(1) | int5", np.ones(3, np.float32), (3,), "int4"),
        ("lowrank(1) |", np.ones(3, np.float32), (3,), "unknown"),
        ("int8 | int4", np.ones(3, np.float32), (3,), "only lowrank"),
    ],
)
def test_bad_requests_say_what_is_wrong(spec, values, segments, match):
    with pytest.raises(ValueError, match=match):
        encode_values(values, spec, segments)


@pytest.mark.parametrize(
    ("spec", "payload", "field"),
    [
        ("float32", "0000c07f", "values"),  # nan
        ("float16", "007c", "values"),  # infinity
        ("float16", "00", "values"),
        ("bfloat16", "807f", "values"),
        ("int4", "00", "values.steps"),
        ("int4", "807f", "values.steps"),  # infinite step
        ("int4", "0080", "values.steps"),  # negative step
        ("int4", "803f", "values.tables"),
        ("grid", "c03f ff 02 13 00 0001", "values.steps"),  # 1.5, no power of two
        ("grid", "0035 ff 02 13 00 0001", "values.steps"),  # finer than the grid
        ("int4", "803f 00", "values.tables"),  # no table 0 yet
        ("int4", "803f ff 00", "values.tables"),
        ("int4", "803f ff 0f", "values.tables"),
        ("int4", "803f ff 01 ff", "values.tables"),
        ("int4", "803f ff 01 00", "rans.lanes"),  # a symbol is due, but no stream
        ("int4", "0000 01", "rans.lanes"),  # a stream where nothing is due
    ],
)
def test_illegal_payloads_are_refused_naming_the_field(spec, payload, field):
    with pytest.raises(WireError) as caught:
        decode_values(bytes.fromhex(payload), spec, (1,))
    assert caught.value.field.startswith(field)


def test_integers_beyond_the_codec_are_refused():
    values = np.array([7, 1, 0], np.float32)
    payload = encode_values(values, "int4(nearest)", (3,))
    with pytest.raises(WireError) as caught:
        decode_values(payload, "int3", (3,))
    assert caught.value.field == "values.symbols"


def test_more_tables_than_a_byte_can_name_are_refused():
    segments = (1,) * 300
    payload = b"\x80\x3f" * 300 + b"\xff\x01\x00" * 300 + b"\x00\x01"
    with pytest.raises(WireError, match=r"values\.tables: more than 255"):
        decode_values(payload, "int8", segments)


@pytest.mark.parametrize(
    ("context", "match"),
    [
        (
            ValueContext(classes=np.zeros(3, np.uint8)),
            r"classes: got uint8\[3\], expected uint8\[4\]",
        ),
        (ValueContext(classes=np.zeros(4, np.int64)), r"classes: got int64\[4\]"),
        (ValueContext(shapes=((4,),)), "shapes: got 1, expected 2"),
        (ValueContext(shapes=((), (2, 2))), r"shapes: got \(2, 2\) for a segment of 1 values"),
        (ValueContext(progress=1.5), "progress: got 1.5"),
    ],
)
def test_a_context_that_does_not_fit_the_values_is_said(context, match):
    with pytest.raises(ValueError, match=match):
        encode_values(np.ones(4, np.float32), "float32", (3, 1), context=context)


def test_feedback_marks_the_codecs_whose_loss_is_not_zero_on_average():
    biased = ("int8(nearest)", "ternary(nearest)", "step", "step(2)", "sparse(0.1)", "sign",
              "rd_step(0.1)", "grid", "stc(0.1)", "sbc(0.1)", "lowrank(4)")  # fmt: skip
    assert all(value_codec(spec).feedback for spec in biased)
    assert not any(value_codec(spec).feedback for spec in ("int8", "ternary", "float32", "eden"))


def steps_of(payload):
    return (np.frombuffer(payload[:4], "<u2").astype(np.uint32) << 16).view(np.float32)


def test_a_step_goes_from_first_to_last_by_equal_ratios():
    values = np.random.default_rng(0).standard_normal(2000).astype(np.float32)
    found = [
        steps_of(encode_values(values, spec, (1000, 1000), context=ValueContext(progress=progress)))
        for spec, progress in (("step(1, 0.6, 4)", 0), ("step(1, 0.6, 4)", 0.5), ("step(2)", 0.3),
                               ("step(1, 0.6, 4)", 1), ("step(4)", 0))
    ]  # fmt: skip
    np.testing.assert_array_equal(found[1], found[2])
    np.testing.assert_array_equal(found[3], found[4])
    np.testing.assert_allclose(found[3], 4 * found[0], rtol=0.01)


def test_a_priced_step_is_the_best_of_its_candidates():
    rng = np.random.default_rng(1)
    scales = (1.0, 0.2)
    values = np.concatenate([rng.laplace(size=3000) * scale for scale in scales])
    price, whole = 0.2, float(np.square(values.astype(np.float32)).mean())

    def cost(part, step):
        integers = np.copysign(np.floor(np.abs(part) / step + 0.35), part)
        shares = np.unique(integers, return_counts=True)[1] / part.size
        return np.square(part - integers * step).mean() / whole - price * shares @ np.log2(shares)

    payload = encode_values(values.astype(np.float32), f"rd_step({price})", (3000, 3000))
    chosen = steps_of(payload)
    for part, step in zip(np.split(values, 2), chosen, strict=True):
        least = min(cost(part, factor * np.sqrt(whole)) for factor in np.geomspace(0.25, 16, 25))
        assert (cost(part, step) if step else np.square(part).mean() / whole) <= least + 0.005
    # a bit is worth the same error in both: the steps are about the same, not the integers
    assert chosen[1] == 0 or 0.5 < chosen[1] / chosen[0] < 2


def test_a_segment_that_is_not_worth_its_bits_is_left_out():
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(size=1000), 0.01 * rng.normal(size=1000)])
    payload = encode_values(values.astype(np.float32), "rd_step(0.1)", (1000, 1000))
    assert [bool(step) for step in steps_of(payload)] == [True, False]
