"""Ranking against full sorts, coverage against a loop over neurons."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfl.mask import Layout, Mask
from mpfl.ranking import selection
from mpfl.ranking.coverage import Coverage, Fan
from mpfl.ranking.rankings import RANKINGS, rank
from mpfl.ranking.selection import apportion, mark_top, top, units_to_keep

DENSITY_RANKINGS = ["layer", "flat", "flat_normalized"]


@st.composite
def problems(draw):
    """Layout, scores with many ties, a previous mask, density, min_units."""
    units = draw(st.lists(st.integers(1, 40), min_size=1, max_size=5))
    layout = Layout(tuple(f"layer{i}" for i in range(len(units))), tuple(units))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    scores = [rng.integers(-1, levels, n).astype(np.float32) for n in units]
    share = draw(st.sampled_from([0.3, 0.8, 1.0]))
    previous = Mask.from_bools(layout, rng.random(layout.total) < share)
    return layout, scores, previous, draw(st.floats(0.001, 1)), draw(st.integers(0, 3))


def floors(previous, min_units):
    return [min(min_units, n) for n in previous.counts()]


@given(problems(), st.sampled_from(DENSITY_RANKINGS))
def test_exact_count_subset_and_min_units_hold_for_every_ranking(problem, ranking):
    layout, scores, previous, density, min_units = problem
    ballot = rank(scores, layout, density, previous, ranking, min_units)
    assert ballot.issubset(previous)
    least = floors(previous, min_units)
    assert all(kept >= low for kept, low in zip(ballot.counts(), least, strict=True))
    wanted = int(density * layout.total + 0.5)
    assert ballot.count() == min(max(wanted, sum(least)), previous.count())


@given(problems())
def test_flat_equals_a_full_sort(problem):
    layout, scores, previous, density, _ = problem
    ballot = rank(scores, layout, density, previous, "flat", min_units=0)
    values, alive = np.concatenate(scores), previous.bools()
    best = sorted(np.flatnonzero(alive), key=lambda i: (-values[i], i))
    expected = np.zeros(layout.total, np.bool_)
    expected[best[: int(density * layout.total + 0.5)]] = True
    np.testing.assert_array_equal(ballot.bools(), expected)


@given(problems(), st.sampled_from(DENSITY_RANKINGS))
def test_within_a_layer_no_pruned_unit_outranks_a_kept_one(problem, ranking):
    layout, scores, previous, density, min_units = problem
    ballot = rank(scores, layout, density, previous, ranking, min_units).layers()
    for name, alive, values in zip(layout.names, previous.layers().values(), scores, strict=True):
        order = [(-values[i], i) for i in np.flatnonzero(alive)]
        kept = [(-values[i], i) for i in np.flatnonzero(ballot[name])]
        assert sorted(kept) == sorted(order)[: len(kept)]


@pytest.mark.parametrize("density", [0.05, 0.1, 0.25, 0.5, 0.9])
def test_layer_keeps_the_rounded_share_of_every_layer(density):
    layout = Layout(("a", "b", "c"), (784 * 300, 300 * 100, 1000))
    rng = np.random.default_rng(0)
    scores = [rng.random(n).astype(np.float32) for n in layout.units]
    counts = rank(scores, layout, density, Mask.full(layout), "layer").counts()
    assert sum(counts) == int(density * layout.total + 0.5)
    for kept, units in zip(counts, layout.units, strict=True):
        assert abs(kept - density * units) < 1


def test_layer_is_blind_to_the_scale_of_a_layer_and_flat_is_not():
    layout = Layout(("a", "b"), (50, 50))
    rng = np.random.default_rng(1)
    scores = [rng.random(50).astype(np.float32), 100 + rng.random(50).astype(np.float32)]
    full = Mask.full(layout)
    assert rank(scores, layout, 0.5, full, "layer").counts() == [25, 25]
    assert rank(scores, layout, 0.5, full, "flat", 1).counts() == [1, 49]


def test_flat_normalized_divides_each_layer_by_its_norm():
    layout = Layout(("a", "b"), (3, 2))
    scores = [np.array([3.0, 0.0, 4.0], np.float32), np.array([0.1, 0.1], np.float32)]
    # Normalised: 0.6 0 0.8 and 0.707 0.707.
    ballot = rank(scores, layout, 0.6, Mask.full(layout), "flat_normalized", min_units=0)
    assert ballot.bools().tolist() == [False, False, True, True, True]


def test_flat_normalized_leaves_pruned_units_out_of_the_norm():
    layout = Layout(("a", "b"), (3, 2))
    scores = [np.array([1.0, 0.5, 100.0], np.float32), np.array([1.0, 1.0], np.float32)]
    alive = Mask.from_bools(layout, np.array([1, 1, 0, 1, 1], np.bool_))
    ballot = rank(scores, layout, 0.2, alive, "flat_normalized", min_units=0)
    assert ballot.bools().tolist() == [True, False, False, False, False]


def test_what_a_layer_has_lost_goes_to_the_others():
    layout = Layout(("a", "b"), (100, 100))
    keep = np.ones(200, np.bool_)
    keep[10:100] = False
    scores = [np.ones(100, np.float32)] * 2
    assert rank(scores, layout, 0.4, Mask.from_bools(layout, keep), "layer").counts() == [10, 70]


@pytest.mark.parametrize("ranking", DENSITY_RANKINGS)
def test_ties_go_to_the_lower_index(ranking):
    layout = Layout(("a",), (10,))
    ballot = rank([np.ones(10, np.float32)], layout, 0.3, Mask.full(layout), ranking)
    assert np.flatnonzero(ballot.bools()).tolist() == [0, 1, 2]


@pytest.mark.parametrize("ranking", DENSITY_RANKINGS)
def test_a_nan_score_names_the_layer(ranking):
    layout = Layout(("conv", "fc"), (4, 4))
    scores = [np.ones(4, np.float32), np.array([1, np.nan, 1, 1], np.float32)]
    with pytest.raises(ValueError, match="layer 'fc' contain NaN"):
        rank(scores, layout, 0.5, Mask.full(layout), ranking)


ONE = Layout(("a",), (4,))
FLAT = [np.ones(4, np.float32)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((FLAT, ONE, 0.5, Mask.full(ONE), "layr"), "did you mean 'layer'"),
        ((FLAT, ONE, 0.5, Mask.full(ONE), "layer(2)"), "takes no argument"),
        ((FLAT, ONE, 0.0, Mask.full(ONE)), "0 < density <= 1"),
        ((FLAT, ONE, 0.5, Mask.full(ONE), "layer", -1), "min_units"),
        ((FLAT * 2, ONE, 0.5, Mask.full(ONE)), "scores of 2 layers, expected 1"),
        (([np.ones(3, np.float32)], ONE, 0.5, Mask.full(ONE)), r"'a': got shape \(3,\)"),
        ((FLAT, ONE, 0.5, Mask.full(Layout(("b",), (4,)))), "other layers"),
        ((FLAT, ONE, 0.5, Mask.full(ONE), "coverage"), "needs to know"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        rank(*arguments)


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(0, 500)), min_size=1), st.data())
def test_apportioned_shares_add_up_within_their_bounds(sizes, data):
    units = [n for n, _ in sizes]
    most = [min(n, cap) for n, cap in sizes]
    least = [data.draw(st.integers(0, high)) for high in most]
    total = data.draw(st.integers(0, sum(units)))
    parts = apportion(total, units, least, most)
    assert sum(parts) == min(max(total, sum(least)), sum(most))
    bounds = zip(least, parts, most, strict=True)
    assert all(low <= part <= high for low, part, high in bounds)


@given(st.integers(0, 10_000), st.lists(st.integers(1, 5000), min_size=1, max_size=8))
def test_unbounded_shares_are_the_largest_remainder_quotas(total, units):
    total = min(total, sum(units))
    parts = apportion(total, units, [0] * len(units), units)
    for part, size in zip(parts, units, strict=True):
        assert abs(part - total * size / sum(units)) < 1 + 1e-6


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30), st.integers(0, 35))
def test_top_breaks_ties_by_each_key_in_turn_then_by_index(pairs, count):
    first = np.array([a for a, _ in pairs], np.uint32)
    second = np.array([b for _, b in pairs], np.float32)
    found = top((first, second), np.arange(len(pairs)), count)
    order = sorted(range(len(pairs)), key=lambda i: (-pairs[i][0], -pairs[i][1], i))
    assert sorted(found.tolist()) == sorted(order[:count])


def test_halves_round_up():
    assert [units_to_keep(0.5, n) for n in (1, 2, 3, 5)] == [1, 1, 2, 3]


# Coverage: neural relief's rule.


def covered_by_hand(shares, alpha):
    """Connections of one neuron, most important first, until alpha is reached (bias included)."""
    bias = 1 - sum(shares)
    entries = sorted([(-s, i) for i, s in enumerate(shares)] + [(-bias, len(shares))])
    kept, reached = set(), 0.0
    for negative, i in entries:
        if reached >= alpha - 1e-9:
            break
        reached -= negative
        kept.add(i)
    return {i for i in kept if i < len(shares) and shares[i] > 0}


def fan_scores(rng, outputs, inputs, dead=()):
    raw = rng.random((outputs, inputs)) ** 3
    raw[:, list(dead)] = 0
    bias = rng.random((outputs, 1)) * 0.2
    return raw / (raw.sum(axis=1, keepdims=True) + bias)


def apply_coverage(matrices, fans, min_units=0, previous=None):
    names = tuple(fan.layer for fan in fans)
    layout = Layout(names, tuple(m.size for m in matrices))
    scores = [m.astype(np.float32).reshape(-1) for m in matrices]
    previous = previous or Mask.full(layout)
    ballot = rank(scores, layout, 0.5, previous, "coverage", min_units, Coverage(tuple(fans)))
    return {n: ballot.layers()[n].reshape(m.shape) for n, m in zip(names, matrices, strict=True)}


@pytest.mark.parametrize("alpha", [0.3, 0.9, 0.95, 1.0])
def test_coverage_keeps_the_shortest_prefix_of_every_neuron(alpha):
    shares = fan_scores(np.random.default_rng(3), 12, 20).astype(np.float32).astype(np.float64)
    keep = apply_coverage([shares], [Fan("fc", 12, 20, alpha)])["fc"]
    for row, values in zip(keep, shares, strict=True):
        assert set(np.flatnonzero(row)) == covered_by_hand(list(values), alpha)


def test_a_large_bias_counts_towards_alpha():
    shares = np.array([[0.1, 0.05, 0.05]])
    assert apply_coverage([shares], [Fan("fc", 1, 3, 0.85)])["fc"].tolist() == [[1, 0, 0]]
    assert not apply_coverage([shares], [Fan("fc", 1, 3, 0.75)])["fc"].any()


def test_a_dead_unit_loses_its_inputs_all_the_way_back():
    rng = np.random.default_rng(5)
    first, second = fan_scores(rng, 6, 10), fan_scores(rng, 4, 6, dead=[2])
    # Only unit 2 of the first layer reads input unit 9 of the layer before it.
    zeroth = fan_scores(rng, 10, 3)
    first[:, 9] = 0
    first[2, 9] = 0.05
    first /= np.maximum(1.0, first.sum(axis=1, keepdims=True) * 1.0001)
    fans = [
        Fan("in", 10, 3, 1.0),
        Fan("mid", 6, 10, 1.0, source="in"),
        Fan("out", 4, 6, 1.0, source="mid"),
    ]
    keep = apply_coverage([zeroth, first, second], fans)
    assert not keep["mid"][2].any()
    assert not keep["in"][9].any()
    assert keep["mid"][[0, 1, 3, 4, 5]].any(axis=1).all()
    assert keep["in"][:9].any(axis=1).all()


def test_the_sweep_crosses_a_flatten():
    rng = np.random.default_rng(6)
    conv = fan_scores(rng, 3, 2)
    fc = fan_scores(rng, 5, 12, dead=[4, 5, 6, 7])  # all four pixels of channel 1
    fans = [Fan("conv", 3, 2, 1.0), Fan("fc", 5, 12, 1.0, source="conv", repeat=4)]
    keep = apply_coverage([conv, fc], fans)["conv"]
    assert keep.any(axis=1).tolist() == [True, False, True]


def test_a_unit_with_one_of_two_readers_stays():
    rng = np.random.default_rng(7)
    fans = [
        Fan("stem", 3, 2, 1.0),
        Fan("left", 2, 3, 1.0, source="stem"),
        Fan("right", 2, 3, 1.0, source="stem"),
    ]
    matrices = [fan_scores(rng, 3, 2), fan_scores(rng, 2, 3, [0, 1]), fan_scores(rng, 2, 3, [1])]
    keep = apply_coverage(matrices, fans)["stem"]
    assert keep.any(axis=1).tolist() == [True, False, True]


def test_coverage_respects_the_previous_mask_and_min_units():
    shares = np.array([[0.5, 0.3, 0.1], [0.9, 0.05, 0.0]])
    layout = Layout(("fc",), (6,))
    previous = Mask.from_bools(layout, np.array([0, 1, 1, 0, 1, 1], np.bool_))
    keep = apply_coverage([shares], [Fan("fc", 2, 3, 0.01)], min_units=3, previous=previous)["fc"]
    assert keep.tolist() == [[0, 1, 1], [0, 1, 0]]


@pytest.mark.parametrize(
    ("matrix", "fan", "message"),
    [
        (np.full((2, 2), 0.9), Fan("a", 2, 2, 0.5), "sum to 1.8, expected at most 1"),
        (np.full((2, 2), 0.1), Fan("a", 2, 3, 0.5), "2 x 3 connections"),
    ],
)
def test_coverage_refuses_scores_that_are_no_shares(matrix, fan, message):
    with pytest.raises(ValueError, match=message):
        apply_coverage([matrix], [fan])


def test_coverage_refuses_connections_that_do_not_fit():
    one = np.full((2, 2), 0.1)
    with pytest.raises(ValueError, match="does not fit"):
        rank([one.ravel()], Layout(("a",), (4,)), 0.5, Mask.full(Layout(("a",), (4,))),
             "coverage", 0, Coverage((Fan("b", 2, 2, 0.5),)))  # fmt: skip
    with pytest.raises(ValueError, match="reads 2 inputs"):
        apply_coverage([np.full((3, 1), 0.1), one], [Fan("a", 3, 1, 1), Fan("b", 2, 2, 1, "a")])
    with pytest.raises(ValueError, match="0 < a <= 1"):
        Fan("a", 2, 2, 0.0)
    with pytest.raises(ValueError, match="are not 2 per source unit"):
        Fan("a", 2, 3, 0.5, "b", 2)


def test_every_ranking_has_a_description():
    assert all((RANKINGS[name].__doc__ or "").strip() for name in RANKINGS.names())


def test_erk_gives_small_layers_more_and_the_exact_total():
    rng = np.random.default_rng(0)
    layout = Layout(("fc1", "fc2", "fc3"), (784 * 30, 300, 100))
    scores = [rng.random(units, dtype=np.float32) for units in layout.units]
    widths = (784, 30, 10)
    ballot = rank(scores, layout, 0.1, Mask.full(layout), "erk", 1, widths=widths)
    assert ballot.counts() == [2228, 109, 55]  # in proportion to 814, 40, 20
    for values, kept in zip(scores, ballot.layers().values(), strict=True):
        assert values[kept].min() > values[~kept].max()
    denser = rank(scores, layout, 0.5, Mask.full(layout), "erk", 1, widths=widths)
    assert denser.counts()[1:] == [300, 100]  # full, and the rest is fc1's
    assert denser.count() == layout.total // 2


def test_erk_without_row_widths_is_refused():
    layout = Layout(("fc1",), (4,))
    with pytest.raises(ValueError, match="row widths"):
        rank([np.ones(4, np.float32)], layout, 0.5, Mask.full(layout), "erk")


@given(problems(), st.integers(-1, 200))
def test_mark_top_marks_what_top_lists(problem, count):
    _, scores, previous, _, _ = problem
    eligible = previous.layers()["layer0"]
    ties = np.arange(eligible.size)[::-1] // 3
    marked = mark_top([scores[0], ties], eligible, count)
    listed = top([scores[0], ties], np.flatnonzero(eligible), count)
    np.testing.assert_array_equal(np.flatnonzero(marked), np.sort(listed))


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(0, 70), st.sampled_from([3, 2000]))
def test_votes_of_many_units_are_marked_as_sorting_says(seed, size, count, most):
    """In pieces of eight units, as millions are in larger ones."""
    rng = np.random.default_rng(seed)
    votes = rng.integers(0, most, size).astype(np.uint32)
    ties = rng.integers(0, 3, size).astype(np.float32)
    eligible = rng.random(size) < rng.random()
    order = sorted(
        np.flatnonzero(eligible), key=lambda unit: (-int(votes[unit]), -ties[unit], unit)
    )
    with patch.object(selection, "_CHUNK", 8):
        marked = mark_top([votes, ties], eligible, count)
    assert np.flatnonzero(marked).tolist() == sorted(order[:count])


@given(problems(), st.integers(0, 200))
def test_the_best_overall_are_those_of_each_layer_first_then_the_rest(problem, count):
    layout, scores, previous, _, least = problem
    values, eligible = np.concatenate(scores), previous.bools()
    by_score = sorted(np.flatnonzero(eligible), key=lambda unit: (-values[unit], unit))
    kept = set()
    for part in layout.slices():
        kept |= set([unit for unit in by_score if part.start <= unit < part.stop][:least])
    kept |= set([u for u in by_score if u not in kept][: max(0, count - len(kept))])
    found = selection.best_overall([values], layout, eligible, count, least)
    assert set(np.flatnonzero(found)) == kept
