"""Mask payloads: round trips under every codec and context, bounds, malformed input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfl.mask import Layout, Mask
from mpfl.network.layers import Layer, Slot, Structure, Tensors
from mpfl.wire import (
    MASK_CODECS,
    WireError,
    decode_mask,
    encode_mask,
    magnitude_classes,
    mask_bound_bits,
    matrix_widths,
    quantile_classes,
)

CODECS = ["auto", *MASK_CODECS.names()]


@st.composite
def contexts(draw):
    """Draw a mask, and perhaps a mask around it and classes."""
    units = draw(st.lists(st.integers(1, 200), min_size=1, max_size=4))
    layout = Layout(tuple(map(str, range(len(units)))), tuple(units))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    bools = rng.random(layout.total) < draw(st.floats(0, 1))
    within = classes = None
    if draw(st.booleans()):
        outer = rng.random(layout.total) < draw(st.floats(0, 1))
        within, bools = Mask.from_bools(layout, outer), bools & outer
    if draw(st.booleans()):
        classes = rng.integers(0, draw(st.integers(1, 9)), layout.total).astype(np.uint8)
    return Mask.from_bools(layout, bools), within, classes


@given(contexts(), st.sampled_from(CODECS), st.integers(0, 250))
def test_round_trip(context, codec, width):
    mask, within, classes = context
    widths = [width] * len(mask.layout.units)
    payload = encode_mask(mask, within=within, classes=classes, codec=codec, widths=widths)
    assert decode_mask(payload, mask.layout, within=within, classes=classes) == mask


def test_only_the_units_the_receiver_holds_are_coded():
    layout = Layout(("a",), (32,))
    within = Mask.from_bools(layout, np.arange(32) % 2 == 0)
    mask = Mask.from_bools(layout, np.arange(32) % 4 == 0)
    assert encode_mask(mask, within=within, codec="raw") == b"\x00\x55\x55"


def test_a_mask_outside_of_what_the_receiver_holds_cannot_be_sent():
    layout = Layout(("a",), (8,))
    with pytest.raises(ValueError, match="within"):
        encode_mask(Mask.full(layout), within=Mask.empty(layout))


@given(contexts())
def test_bound_equals_counting_by_hand(context):
    mask, within, classes = context
    inside = np.ones(mask.layout.total, bool) if within is None else within.bools()
    labels = np.zeros(mask.layout.total, int) if classes is None else classes
    total = 0.0
    for part in mask.layout.slices():
        for label in range(10):
            chosen = inside[part] & (labels[part] == label)
            bits = mask.bools()[part][chosen]
            for value in (False, True):
                share = np.mean(bits == value) if bits.size else 0.0
                total -= bits.size * share * np.log2(share) if share else 0.0
    assert mask_bound_bits(mask, within, classes) == pytest.approx(total, abs=1e-6)


def test_bytes_with_nothing_to_code_or_unknown_codec_are_refused():
    layout = Layout(("a",), (8,))
    for payload in (b"", b"\xff", b"\x00", b"\x00\x01\x02"):
        with pytest.raises(WireError) as caught:
            decode_mask(payload, layout)
        assert caught.value.field.startswith("mask.")


@pytest.mark.parametrize("fraction", [0.005, 0.02, 0.1, 0.2, 0.35, 0.5, 0.7, 0.95, 0.995])
@pytest.mark.parametrize("units", [(50_000,), (47_000, 2_500, 500), (300_000,)])
def test_size_is_within_two_percent_of_the_bound(bernoulli, units, fraction):
    mask = bernoulli(units, fraction)
    # Every further segment brings a byte of its own and a block that is not full.
    assert len(encode_mask(mask)) * 8 <= 1.02 * mask_bound_bits(mask) + 12 * (len(units) - 1)


@pytest.mark.parametrize("fraction", [0.01, 0.15, 0.3])
def test_size_is_within_two_percent_of_the_conditional_bound(bernoulli, fraction):
    units = (150_000, 30_000)
    within = bernoulli(units, 0.6, seed=1)
    draw = np.random.default_rng(2).random(180_000)
    classes = (np.arange(180_000) % 4).astype(np.uint8)
    keep = within.bools() & (draw < fraction * np.array([0.05, 0.3, 1.0, 3.0])[classes])
    mask = Mask.from_bools(within.layout, keep)
    payload = encode_mask(mask, within=within, classes=classes)
    bound = mask_bound_bits(mask, within, classes)
    assert 8 * len(payload) <= 1.02 * bound
    assert bound < 0.9 * mask_bound_bits(mask, within)
    assert decode_mask(payload, mask.layout, within=within, classes=classes) == mask


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_a_million_units_are_within_a_five_hundredth_of_the_bound(fraction):
    """Ballots in eight classes of |w0|, in each of which other shares are kept."""
    rng = np.random.default_rng(0)
    layout = Layout(("a", "b"), (900_000, 300_000))
    w0 = [np.abs(rng.standard_normal(units)).astype(np.float32) for units in layout.units]
    score = np.concatenate(w0) * np.exp(0.5 * rng.standard_normal(layout.total))
    mask = Mask.from_bools(layout, score > np.quantile(score, 1 - fraction))
    classes = magnitude_classes(w0, 8)
    payload = encode_mask(mask, classes=classes)
    assert 8 * len(payload) <= 1.002 * mask_bound_bits(mask, None, classes)
    assert decode_mask(payload, layout, classes=classes) == mask


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_constant_masks_take_a_few_bytes(bernoulli, fraction):
    mask = bernoulli((500_000, 3000, 10), fraction)
    payload = encode_mask(mask)
    assert len(payload) <= 4
    assert decode_mask(payload, mask.layout) == mask


@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.22, 0.3, 0.5])
def test_above_a_million_units_the_choice_is_within_two_percent_too(bernoulli, fraction):
    mask = bernoulli((1_500_000,), fraction)
    payload = encode_mask(mask)
    assert 8 * len(payload) <= 1.02 * mask_bound_bits(mask)
    assert decode_mask(payload, mask.layout) == mask


def test_above_a_million_units_bits_that_say_nothing_are_sent_as_they_are(bernoulli):
    assert encode_mask(bernoulli((1_500_000,), 0.3))[0] == MASK_CODECS["rans"].number
    assert encode_mask(bernoulli((1_500_000,), 0.5))[0] == MASK_CODECS["raw"].number


def test_classes_that_tell_nothing_are_set_aside(bernoulli):
    mask = bernoulli((2000,), 0.2)
    classes = np.random.default_rng(0).integers(0, 60, 2000).astype(np.uint8)
    payload = encode_mask(mask, classes=classes)
    assert len(payload) <= len(encode_mask(mask))
    assert decode_mask(payload, mask.layout, classes=classes) == mask


def test_setting_aside_classes_that_there_are_not_is_refused():
    with pytest.raises(WireError, match="set"):
        decode_mask(b"\x80\x00", Layout(("a",), (8,)))


def test_decoding_with_the_wrong_context_never_yields_the_mask_unnoticed(bernoulli):
    mask = bernoulli((20_000,), 0.2)
    payload = encode_mask(mask, codec="rans")
    for units in ((19_000,), (10_000, 10_000)):
        with pytest.raises(WireError):
            decode_mask(payload, Layout(("a", "b")[: len(units)], units))


def test_an_unknown_codec_is_named():
    with pytest.raises(ValueError, match="did you mean 'rans'"):
        encode_mask(Mask.full(Layout(("a",), (8,))), codec="ran")


def test_magnitude_classes_halve_towards_the_largest():
    values = np.random.default_rng(0).permutation(1000).astype(np.float32)
    classes = magnitude_classes([values, values[:1]], 4)
    assert classes.dtype == np.uint8
    assert np.bincount(classes[:1000]).tolist() == [500, 250, 125, 125]
    order = np.argsort(values)
    assert (np.diff(classes[:1000][order].astype(int)) >= 0).all()


def test_magnitude_classes_break_ties_by_index():
    assert magnitude_classes([np.ones(8, np.float32)], 3).tolist() == [0, 0, 0, 0, 1, 1, 2, 2]
    assert magnitude_classes([np.ones(8, np.float32)], 1).tolist() == [0] * 8
    with pytest.raises(ValueError, match="count"):
        magnitude_classes([np.ones(8, np.float32)], 0)


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(0, 300), st.integers(1, 40))
def test_classes_are_shares_of_a_stable_sort(seed, count, size, different):
    values = np.random.default_rng(seed).integers(0, different, size).astype(np.float32)
    places = np.empty(size, int)
    places[np.argsort(values, kind="stable")] = np.arange(size)
    for classes, shares in (
        (magnitude_classes, [1 - 0.5**i for i in range(1, count)]),
        (quantile_classes, [i / count for i in range(1, count)]),
    ):
        edges = [int(size * share) for share in shares]
        expected = [sum(place >= edge for edge in edges) for place in places]
        assert classes([values], count).tolist() == expected


def test_quantile_classes_hold_equal_shares_of_every_segment():
    values = np.random.default_rng(0).permutation(1000).astype(np.float32)
    classes = quantile_classes([values, values[:8]], 4)
    assert np.bincount(classes[:1000]).tolist() == [250] * 4
    assert np.bincount(classes[1000:]).tolist() == [2] * 4
    assert classes[np.argmax(values)] == 3
    assert quantile_classes([], 4).size == 0


@pytest.mark.parametrize("bad", [np.zeros(8), np.zeros(7, np.uint8)])
def test_classes_of_another_shape_or_type_are_refused(bad):
    with pytest.raises(ValueError, match="classes"):
        encode_mask(Mask.full(Layout(("a",), (8,))), classes=bad)


def test_rows_and_columns_with_odds_of_their_own_save_bytes():
    rng = np.random.default_rng(0)
    odds = np.exp(rng.normal(-3, 1, (80, 1)) + rng.normal(0, 2, (1, 250)))
    layout = Layout(("a", "b"), (20_000, 1000))
    keep = np.append(rng.random((80, 250)) < odds / (1 + odds), rng.random(1000) < 0.1)
    mask = Mask.from_bools(layout, keep)
    payload = encode_mask(mask, widths=(250, 0))
    assert payload[0] == MASK_CODECS["matrix"].number
    assert len(payload) < 0.85 * len(encode_mask(mask))
    assert decode_mask(payload, layout) == mask


def test_without_widths_there_is_no_matrix():
    with pytest.raises(ValueError, match="width"):
        encode_mask(Mask.full(Layout(("a",), (8,))), codec="matrix")


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ("05", "mask.widths"),
        ("05 00", "mask.widths"),
        ("05 09", "mask.widths"),  # wider than the layer has units
        ("05 04", "mask.labels"),
        ("05 04 7f", "mask.labels"),
        ("05 04 01 ff", "values.tables"),
    ],
)
def test_illegal_matrices_are_refused_naming_the_field(payload, field):
    with pytest.raises(WireError) as caught:
        decode_mask(bytes.fromhex(payload), Layout(("a",), (8,)))
    assert caught.value.field == field


def test_widths_of_a_network_are_the_inputs_of_its_neurons():
    parameters = Tensors(("fc", "conv", "filters"), ((30, 70), (6, 3, 5, 5), (4, 6, 3, 3)))
    layers = (
        Layer("fc", "linear", 2100, (Slot("fc", None),)),
        Layer("conv", "conv", 450, (Slot("conv", None),)),
        Layer("filters", "conv", 4, (Slot("filters", 0),)),
    )
    structure = Structure(layers, parameters, Tensors((), ()))
    assert matrix_widths(structure) == (70, 75, 0)
