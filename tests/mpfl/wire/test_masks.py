"""Mask payloads: round trips under every codec and context, bounds, malformed input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfl.mask import Layout, Mask
from mpfl.wire import MASK_CODECS, WireError, decode_mask, encode_mask, mask_bound_bits

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


@given(contexts(), st.sampled_from(CODECS))
def test_round_trip(context, codec):
    mask, within, classes = context
    payload = encode_mask(mask, within=within, classes=classes, codec=codec)
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
