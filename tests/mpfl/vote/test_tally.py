"""The bit-sliced tally, both kernels, against unpacking every ballot and counting."""

from __future__ import annotations

import math
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfl.mask import Layout, Mask
from mpfl.vote import Tally, planes, tally

COMPILED = tally.COMPILED


@pytest.fixture(params=["arrays", "compiled"], autouse=True, scope="module")
def kernel(request):
    """Run everything with array operations, and with the compiled kernel where it was built."""
    if request.param == "compiled" and COMPILED is None:
        pytest.skip("mpfl.vote._carry is not built; `pip install .` builds it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tally, "COMPILED", COMPILED if request.param == "compiled" else None)
        yield request.param


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
    filled = Tally(layout)
    for i, ballot in enumerate(ballots):
        filled.add(ballot, 1 if weights is None else weights[i])
    return filled


@given(elections(), st.randoms())
def test_counts_equal_brute_force_in_any_order_of_arrival(election, random):
    layout, ballots = election
    expected = unpack_and_count(ballots, [1] * len(ballots))
    random.shuffle(ballots)
    counter = tally_of(layout, ballots)
    counts = counter.counts()
    assert counts.dtype == np.uint32
    np.testing.assert_array_equal(counts, expected)
    assert (counter.ballots, counter.weight) == (len(ballots), len(ballots))


@given(elections(), st.data())
def test_weighted_counts_equal_brute_force(election, data):
    layout, ballots = election
    weights = data.draw(
        st.lists(st.integers(1, 5000), min_size=len(ballots), max_size=len(ballots))
    )
    counter = tally_of(layout, ballots, weights)
    np.testing.assert_array_equal(counter.counts(), unpack_and_count(ballots, weights))
    assert (counter.ballots, counter.weight) == (len(ballots), sum(weights))


@pytest.mark.parametrize("units", [1, 7, 8, 63, 64, 65, 127, 128, 300_001])
def test_counting_between_ballots_does_not_disturb_the_tally(units):
    layout = Layout(("a",), (units,))
    counter = Tally(layout)
    running = np.zeros(units, np.uint32)
    np.testing.assert_array_equal(counter.counts(), running)
    for ballot in random_ballots(layout, 19, units):
        counter.add(ballot)
        running += ballot.bools()
        np.testing.assert_array_equal(counter.counts(), running)


def test_the_largest_possible_weight_is_counted_and_one_more_refused():
    layout = Layout(("a",), (70,))
    counter = tally_of(layout, [Mask.full(layout)], [2**32 - 1])
    assert set(counter.counts().tolist()) == {2**32 - 1}
    with pytest.raises(ValueError, match="sum of ballot weights exceeds 4294967295"):
        counter.add(Mask.full(layout))
    assert (counter.ballots, counter.weight) == (1, 2**32 - 1)


def test_padding_bits_are_never_counted():
    layout = Layout(("a",), (67,))
    counter = tally_of(layout, [~Mask.empty(layout)] * 9)
    assert counter.counts().tolist() == [9] * 67


def test_kernels_ignore_set_bits_in_the_padding(kernel):
    add = COMPILED.add if kernel == "compiled" else planes.add
    for units in (1, 67, 127):
        plane = np.zeros(2 if units > 64 else 1, np.uint64)
        add([plane], 0, [b"\xff" * ((units + 7) // 8)], units)
        assert int(np.bitwise_count(plane).sum()) == units


@pytest.mark.parametrize("weight", [1, 3])
def test_no_more_than_three_ballots_are_held_and_none_once_they_are_counted(weight):
    layout = Layout(("a",), (1000,))
    ballot = random_ballots(layout, 1, 0)[0]
    counter = Tally(layout)
    held = [sys.getrefcount(ballot.bits)]
    for _ in range(9):
        counter.add(ballot, weight)
        held.append(sys.getrefcount(ballot.bits))
    counter.counts()
    held.append(sys.getrefcount(ballot.bits))
    assert max(held) <= held[0] + 3
    assert held[-1] == held[0]


def test_an_accepted_ballot_is_left_as_it_was():
    layout = Layout(("a",), (130,))
    ballots = random_ballots(layout, 3, 4)
    digests = [ballot.digest() for ballot in ballots]
    tally_of(layout, ballots * 3)
    assert [ballot.digest() for ballot in ballots] == digests


def test_memory_is_a_plane_for_every_binary_digit_of_the_count():
    layout = Layout(("a",), (1_000_000,))
    ballot, plane_bytes = random_ballots(layout, 1, 1)[0], layout.total / 8
    counter = Tally(layout)
    tracemalloc.start()
    for count in range(1, 102):
        counter.add(ballot)
        held, _ = tracemalloc.get_traced_memory()
        assert held <= (math.log2(count) + 1) * plane_bytes + 10_000  # Python's own
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= (math.log2(101) + 2) * plane_bytes


@pytest.mark.parametrize("units", [1, 63, 64, 255, 256, 257, 65_537, 300_001])
def test_large_layers_are_counted_in_strips_without_a_seam(units):
    layout = Layout(("a",), (units,))
    ballots = random_ballots(layout, 21, units)
    counter = tally_of(layout, ballots)
    expected = sum(ballot.bools().astype(np.uint32) for ballot in ballots)
    np.testing.assert_array_equal(counter.counts(), expected)


@pytest.mark.skipif(COMPILED is None, reason="mpfl.vote._carry is not built")
@pytest.mark.parametrize(
    ("planes", "level", "ballots", "units", "reason"),
    [
        ([bytearray(8)], 0, [bytes(8)], 65, "got 8 bytes, expected 16"),
        ([bytearray(8)], 0, [bytes(8), bytes(7)], 64, "got 7 bytes, expected 8"),
        ([bytearray(8)], 1, [bytes(8)], 64, "do not fit together"),
        ([bytearray(8)], -1, [bytes(8)], 64, "do not fit together"),
        ([], 0, [bytes(8)], 64, "do not fit together"),
        ([bytearray(8)], 0, [], 64, "got 0 buffers, expected 1 to 4"),
        ([bytearray(8)], 0, [bytes(8)] * 5, 64, "got 5 buffers, expected 1 to 4"),
        ([bytearray(8)] * 34, 0, [bytes(8)], 64, "got 34 buffers, expected 1 to 33"),
        ([bytearray(0)], 0, [b""], 0, "do not fit together"),
    ],
)
def test_the_compiled_kernel_refuses_buffers_that_do_not_fit(planes, level, ballots, units, reason):
    with pytest.raises(ValueError, match=reason):
        COMPILED.add(planes, level, ballots, units)


def test_a_ballot_that_does_not_fit_names_both_layouts():
    counter = Tally(Layout(("a",), (10,)))
    with pytest.raises(ValueError, match=r"\['b'\] with \[11\] units .* \['a'\] with \[10\]"):
        counter.add(Mask.full(Layout(("b",), (11,))))
    assert counter.ballots == 0


@pytest.mark.parametrize("weight", [0, -1])
def test_a_ballot_weighs_at_least_one(weight):
    layout = Layout(("a",), (10,))
    with pytest.raises(ValueError, match="ballot weight"):
        Tally(layout).add(Mask.full(layout), weight)
