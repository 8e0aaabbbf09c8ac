"""The bit-sliced tally against unpacking every ballot and counting."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpfl.mask import Layout, Mask
from mpfl.vote import Tally


def unpack_and_count(ballots, weights):
    """The obvious way: one integer per unit and ballot."""
    rows = [list(ballot.bits) for ballot in ballots]
    total = [
        sum(w * bit for w, bit in zip(weights, c, strict=True)) for c in zip(*rows, strict=True)
    ]
    return np.array(total, np.uint32)


def random_ballots(layout, count, seed, share=0.5):
    rng = np.random.default_rng(seed)
    return [Mask.from_bools(layout, rng.random(layout.total) < share) for _ in range(count)]


@st.composite
def elections(draw):
    units = draw(st.lists(st.integers(1, 140), min_size=1, max_size=3))
    layout = Layout(tuple(f"layer{i}" for i in range(len(units))), tuple(units))
    count = draw(st.integers(1, 40))
    share = draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    return layout, random_ballots(layout, count, draw(st.integers(0, 2**32 - 1)), share)


def tally_of(layout, ballots, weights=None):
    tally = Tally(layout)
    for i, ballot in enumerate(ballots):
        tally.add(ballot, 1 if weights is None else weights[i])
    return tally


@settings(deadline=None)
@given(elections(), st.randoms())
def test_counts_equal_brute_force_in_any_order_of_arrival(election, random):
    layout, ballots = election
    expected = unpack_and_count(ballots, [1] * len(ballots))
    random.shuffle(ballots)
    tally = tally_of(layout, ballots)
    counts = tally.counts()
    assert counts.dtype == np.uint32
    np.testing.assert_array_equal(counts, expected)
    assert (tally.ballots, tally.weight) == (len(ballots), len(ballots))


@settings(deadline=None)
@given(elections(), st.data())
def test_weighted_counts_equal_brute_force(election, data):
    layout, ballots = election
    weights = data.draw(
        st.lists(st.integers(1, 5000), min_size=len(ballots), max_size=len(ballots))
    )
    tally = tally_of(layout, ballots, weights)
    np.testing.assert_array_equal(tally.counts(), unpack_and_count(ballots, weights))
    assert (tally.ballots, tally.weight) == (len(ballots), sum(weights))


@pytest.mark.parametrize("units", [1, 7, 8, 63, 64, 65, 127, 128, 300_001])
def test_counting_between_ballots_does_not_disturb_the_tally(units):
    layout = Layout(("a",), (units,))
    tally = Tally(layout)
    running = np.zeros(units, np.uint32)
    np.testing.assert_array_equal(tally.counts(), running)
    for ballot in random_ballots(layout, 19, units):
        tally.add(ballot)
        running += ballot.bools()
        np.testing.assert_array_equal(tally.counts(), running)


def test_the_largest_possible_weight_is_counted_and_one_more_refused():
    layout = Layout(("a",), (70,))
    tally = tally_of(layout, [Mask.full(layout)], [2**32 - 1])
    assert set(tally.counts().tolist()) == {2**32 - 1}
    with pytest.raises(ValueError, match="sum of ballot weights exceeds 4294967295"):
        tally.add(Mask.full(layout))
    assert (tally.ballots, tally.weight) == (1, 2**32 - 1)


def test_padding_bits_are_never_counted():
    layout = Layout(("a",), (67,))
    tally = tally_of(layout, [~Mask.empty(layout)] * 9)
    assert tally.counts().tolist() == [9] * 67


def test_no_ballot_is_held_after_it_was_accepted():
    layout = Layout(("a",), (1000,))
    ballot = random_ballots(layout, 1, 0)[0]
    tally = Tally(layout)
    before = sys.getrefcount(ballot), sys.getrefcount(ballot.bits)
    for _ in range(5):
        tally.add(ballot)
        assert (sys.getrefcount(ballot), sys.getrefcount(ballot.bits)) == before


def test_an_accepted_ballot_is_left_as_it_was():
    layout = Layout(("a",), (130,))
    ballots = random_ballots(layout, 3, 4)
    digests = [ballot.digest() for ballot in ballots]
    tally_of(layout, ballots * 3)
    assert [ballot.digest() for ballot in ballots] == digests


def test_memory_stays_within_three_planes_more_than_the_logarithm():
    layout = Layout(("a",), (1_000_000,))
    tally = Tally(layout)
    ballot, plane_bytes = random_ballots(layout, 1, 1)[0], layout.total / 8
    for count in range(1, 102):
        tally.add(ballot)
        # The scratch space of a quarter of a plane shows just above powers of two only.
        assert tally.memory_bytes <= (math.floor(math.log2(count)) + 3.3) * plane_bytes
    assert tally.memory_bytes <= (math.log2(101) + 3) * plane_bytes


def test_a_ballot_that_does_not_fit_names_both_layouts():
    tally = Tally(Layout(("a",), (10,)))
    with pytest.raises(ValueError, match=r"\['b'\] with \[11\] units .* \['a'\] with \[10\]"):
        tally.add(Mask.full(Layout(("b",), (11,))))
    assert tally.ballots == 0


@pytest.mark.parametrize("weight", [0, -1])
def test_a_ballot_weighs_at_least_one(weight):
    layout = Layout(("a",), (10,))
    with pytest.raises(ValueError, match="ballot weight"):
        Tally(layout).add(Mask.full(layout), weight)
