"""Vote rules against per-unit loops, and what must hold for every rule."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpfl.mask import Layout, Mask
from mpfl.vote import RULES, Tally, VoteContext, decide, needs_ballots, trim

EXAMPLES = [RULES[name].example for name in RULES.names()]


@st.composite
def votes(draw):
    """Counts, total and context of a random vote with ties in votes and in the tie-break."""
    units = draw(st.lists(st.integers(1, 30), min_size=1, max_size=4))
    layout = Layout(tuple(f"layer{i}" for i in range(len(units))), tuple(units))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    total = draw(st.integers(1, 12))
    counts = rng.binomial(total, rng.random(), layout.total).astype(np.uint32)
    share = draw(st.sampled_from([0.2, 0.7, 1.0]))
    context = VoteContext(
        layout=layout,
        density=draw(st.floats(0.01, 1)),
        previous=Mask.from_bools(layout, rng.random(layout.total) < share),
        tie_break=rng.integers(0, 3, layout.total).astype(np.float32),
        tie=draw(st.sampled_from(["prune", "keep"])),
        min_units=draw(st.integers(0, 3)),
        allow_regrow=draw(st.booleans()),
    )
    return counts, total, context


def loop(counts, total, context, keep_unit):
    """Apply a per-unit rule in a Python loop, then fill layers up to min_units."""
    alive = np.ones_like(counts, bool) if context.allow_regrow else context.previous.bools()
    keep = np.array([bool(a and keep_unit(int(v))) for a, v in zip(alive, counts, strict=True)])
    return fill(keep, alive, counts, context)


def fill(keep, alive, counts, context):
    for part in context.layout.slices():
        spare = [i for i in range(part.start, part.stop) if alive[i] and not keep[i]]
        spare.sort(key=lambda i: (-int(counts[i]), -context.tie_break[i], i))
        missing = max(0, context.min_units - int(keep[part].sum()))
        keep[spare[:missing]] = True
    return keep


@given(votes(), st.integers(1, 100))
def test_per_unit_rules_equal_a_loop(vote, percent):
    counts, total, context = vote
    tied = context.tie == "keep"
    rules = {
        "majority": lambda v: 2 * v > total or (tied and 2 * v == total),
        "unanimous": lambda v: v == total,
        "any": lambda v: v >= 1,
        f"quorum({percent / 100})": lambda v: v >= math.ceil(Fraction(percent, 100) * total),
    }
    for spec, keep_unit in rules.items():
        decided = decide(spec, counts, total, context).bools()
        np.testing.assert_array_equal(decided, loop(counts, total, context, keep_unit), spec)


@given(votes())
def test_budget_equals_a_full_sort_with_reserved_units(vote):
    counts, total, context = vote
    alive = np.ones_like(counts, bool) if context.allow_regrow else context.previous.bools()
    keep = fill(np.zeros_like(alive), alive, counts, context)
    order = [i for i in range(counts.size) if alive[i] and not keep[i]]
    order.sort(key=lambda i: (-int(counts[i]), -context.tie_break[i], i))
    wanted = int(context.density * counts.size + 0.5)
    keep[order[: max(0, wanted - int(keep.sum()))]] = True
    np.testing.assert_array_equal(decide("budget", counts, total, context).bools(), keep)
    np.testing.assert_array_equal(decide("trimmed(0.1)", counts, total, context).bools(), keep)


@given(votes())
def test_layer_budget_takes_the_most_voted_of_every_layer(vote):
    counts, total, context = vote
    decided = decide("layer_budget", counts, total, context)
    alive = np.ones_like(counts, bool) if context.allow_regrow else context.previous.bools()
    for part, kept in zip(context.layout.slices(), decided.counts(), strict=True):
        order = [i for i in range(part.start, part.stop) if alive[i]]
        order.sort(key=lambda i: (-int(counts[i]), -context.tie_break[i], i))
        assert set(np.flatnonzero(decided.bools()[part]) + part.start) == set(order[:kept])


@given(votes())
def test_layer_mean_keeps_as_many_as_ballots_do_on_average(vote):
    counts, total, context = vote
    context = dataclasses.replace(context, min_units=0)
    decided = decide("layer_mean", counts, total, context).bools()
    alive = np.ones_like(counts, bool) if context.allow_regrow else context.previous.bools()
    for part in context.layout.slices():
        order = [i for i in range(part.start, part.stop) if alive[i]]
        order.sort(key=lambda i: (-int(counts[i]), -context.tie_break[i], i))
        wanted = math.floor(Fraction(int(counts[part].sum()), total) + Fraction(1, 2))
        assert set(np.flatnonzero(decided[part]) + part.start) == set(order[:wanted])


@pytest.mark.parametrize("rule", ["budget", "layer_budget"])
@settings(max_examples=50)
@given(vote=votes())
def test_budgets_are_exact(rule, vote):
    counts, total, context = vote
    available = context.layout.units if context.allow_regrow else context.previous.counts()
    least = sum(min(context.min_units, n) for n in available)
    wanted = int(context.density * context.layout.total + 0.5)
    kept = decide(rule, counts, total, context).count()
    assert kept == min(max(wanted, least), sum(available))


def test_layer_budget_is_exact_within_each_layer():
    layout = Layout(("a", "b", "c"), (1000, 40, 7))
    rng = np.random.default_rng(0)
    counts = rng.binomial(10, 0.5, layout.total).astype(np.uint32)
    context = VoteContext(layout, 0.2, Mask.full(layout), np.zeros(layout.total, np.float32))
    assert decide("layer_budget", counts, 10, context).counts() == [200, 8, 1]


@pytest.mark.parametrize("spec", EXAMPLES)
@settings(max_examples=60)
@given(vote=votes())
def test_every_rule_keeps_a_subset_with_min_units_and_more_votes_never_hurt(spec, vote):
    counts, total, context = vote
    decided = decide(spec, counts, total, context)
    assert decided == decide(spec, counts.copy(), total, context)
    available = context.layout.units if context.allow_regrow else context.previous.counts()
    if not context.allow_regrow:
        assert decided.issubset(context.previous)
    for kept, had in zip(decided.counts(), available, strict=True):
        assert kept >= min(context.min_units, had)
    # Within a layer, a kept unit never has fewer votes than an eligible pruned one.
    alive = np.ones_like(counts, bool) if context.allow_regrow else context.previous.bools()
    for part in context.layout.slices():
        keep = decided.bools()[part]
        pruned = counts[part][alive[part] & ~keep]
        if keep.any() and pruned.size:
            assert counts[part][keep].min() >= pruned.max()


@pytest.mark.parametrize("spec", [e for e in EXAMPLES if not e.startswith("layer")])
def test_identical_ballots_decide_for_themselves(spec):
    layout = Layout(("a", "b"), (60, 40))
    keep = np.random.default_rng(2).permutation(np.arange(100) < 30)
    ballot = Mask.from_bools(layout, keep)
    tally = Tally(layout)
    for _ in range(6):
        tally.add(ballot)
    context = VoteContext(layout, 0.3, Mask.full(layout), np.zeros(100, np.float32))
    assert decide(spec, tally.counts(), 6, context) == ballot


def test_weights_are_votes():
    layout = Layout(("a",), (3,))
    tally = Tally(layout)
    tally.add(Mask.from_bools(layout, np.array([1, 1, 0], np.bool_)), 600)
    tally.add(Mask.from_bools(layout, np.array([0, 1, 1], np.bool_)), 200)
    tally.add(Mask.from_bools(layout, np.array([0, 0, 1], np.bool_)), 300)
    context = VoteContext(layout, 0.5, Mask.full(layout), np.zeros(3, np.float32), min_units=0)
    kept = decide("majority", tally.counts(), tally.weight, context)
    assert kept.bools().tolist() == [True, True, False]


@pytest.mark.parametrize(("q", "needed"), [("0.07", 7), ("0.29", 29), ("0.5", 50), ("1", 100)])
def test_a_quorum_is_the_number_as_written(q, needed):
    layout = Layout(("a",), (101,))
    counts = np.arange(101, dtype=np.uint32)
    context = VoteContext(layout, 0.5, Mask.full(layout), np.zeros(101, np.float32))
    assert decide(f"quorum({q})", counts, 100, context).count() == 101 - needed


def test_histogram_takes_the_percentile_of_each_layers_surviving_tally():
    layout = Layout(("a", "b"), (6, 4))
    counts = np.array([1, 2, 3, 4, 5, 0, 9, 9, 10, 10], np.uint32)
    previous = Mask.from_bools(layout, np.array([1, 1, 1, 1, 1, 0, 1, 1, 1, 1], np.bool_))
    context = VoteContext(layout, 0.5, previous, np.zeros(10, np.float32), min_units=0)
    keep = decide("histogram(75)", counts, 10, context).bools().tolist()
    # Percentiles of 1..5 and of 9 9 10 10: 4 and 10.
    assert keep == [0, 0, 0, 1, 1, 0, 0, 0, 1, 1]


def test_no_rule_but_the_budgets_keeps_a_unit_without_a_vote():
    layout = Layout(("a",), (10,))
    context = VoteContext(layout, 0.5, Mask.full(layout), np.zeros(10, np.float32), min_units=0)
    counts = np.array([3, 1] + [0] * 8, np.uint32)
    for spec in set(EXAMPLES) - {"budget", "layer_budget", "trimmed(0.2)"}:
        assert decide(spec, counts, 3, context).count() <= 2, spec
    assert decide("budget", counts, 3, context).count() == 5


def test_the_tie_break_decides_among_equal_votes_and_the_index_after_it():
    layout = Layout(("a",), (5,))
    weights = np.array([0.1, 0.3, 0.2, 0.3, 0.3], np.float32)
    context = VoteContext(layout, 0.4, Mask.full(layout), weights)
    keep = decide("budget", np.full(5, 2, np.uint32), 4, context).bools()
    assert np.flatnonzero(keep).tolist() == [1, 3]


# Trimming.


def ballots_with(layout, honest, liars, seed=0):
    """Honest ballots are noisy copies of one truth; `liars` are given as they are."""
    rng = np.random.default_rng(seed)
    truth = rng.random(layout.total) < 0.2
    out = []
    for _ in range(honest):
        noisy = truth ^ (rng.random(layout.total) < 0.05)
        out.append(Mask.from_bools(layout, noisy))
    return out + liars(truth)


LAYOUT = Layout(("a", "b"), (300, 200))


@pytest.mark.parametrize(
    "lie",
    [
        lambda truth: ~truth,
        lambda truth: np.zeros_like(truth),
        lambda truth: np.ones_like(truth),
        lambda truth: np.roll(truth, 250),
    ],
    ids=["inverted", "empty", "full", "colluding"],
)
def test_trim_finds_liars_even_where_they_all_say_the_same(lie):
    ballots = ballots_with(LAYOUT, 6, lambda t: [Mask.from_bools(LAYOUT, lie(t))] * 4)
    assert trim(ballots, "trimmed(4)") == [0, 1, 2, 3, 4, 5]
    assert trim(ballots, "trimmed(0.4)") == [0, 1, 2, 3, 4, 5]
    assert trim(ballots[::-1], "trimmed(4)") == [4, 5, 6, 7, 8, 9]


def test_trim_drops_as_many_as_asked():
    ballots = ballots_with(LAYOUT, 10, lambda t: [])
    assert trim(ballots, "trimmed(0)") == list(range(10))
    assert len(trim(ballots, "trimmed(0.29)")) == 8
    assert len(trim(ballots, "trimmed(9)")) == 1
    assert trim(ballots[:1] * 3, "trimmed(1)") == [0, 1]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("trimmed(10)", "leaves none of 10"),
        ("trimmed(-1)", "whole number of ballots or a share"),
        ("trimmed(1.5)", "whole number of ballots or a share"),
        ("trimmed", "takes one number"),
    ],
)
def test_a_bad_trim_is_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        trim(ballots_with(LAYOUT, 10, lambda t: []), spec)


def test_trimmed_needs_ballots_and_other_rules_count_all_of_them():
    ballots = ballots_with(LAYOUT, 5, lambda t: [])
    assert needs_ballots("trimmed(0.2)")
    for spec in ("majority", "unanimous", "any", "quorum(0.7)", "budget", "layer_budget",
                 "layer_threshold", "histogram(50)"):  # fmt: skip
        assert not needs_ballots(spec)
        assert trim(ballots, spec) == [0, 1, 2, 3, 4]


# The registry and malformed input.


def test_every_rule_describes_itself_in_one_line():
    for name in RULES.names():
        assert RULES[name].description.endswith(".")
        assert RULES[name].example.partition("(")[0] == name


CONTEXT = VoteContext(LAYOUT, 0.5, Mask.full(LAYOUT), np.zeros(500, np.float32))
COUNTS = np.ones(500, np.uint32)


@pytest.mark.parametrize(
    ("spec", "counts", "total", "message"),
    [
        ("majorty", COUNTS, 3, "did you mean 'majority'"),
        ("majority(2)", COUNTS, 3, "takes no argument"),
        ("quorum", COUNTS, 3, "takes one number"),
        ("quorum(0)", COUNTS, 3, "above 0 and at most 1"),
        ("quorum(1.1)", COUNTS, 3, "above 0 and at most 1"),
        ("histogram(101)", COUNTS, 3, "between 0 and 100"),
        ("budget", COUNTS, 0, "at least one ballot"),
        ("budget", COUNTS[1:], 3, r"expected uint32\[500\]"),
        ("budget", COUNTS.astype(np.int64), 3, r"expected uint32\[500\]"),
        ("budget", COUNTS * 4, 3, "has 4 of 3 votes"),
    ],
)
def test_bad_votes_are_named(spec, counts, total, message):
    with pytest.raises(ValueError, match=message):
        decide(spec, counts, total, CONTEXT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"density": 0.0}, "density"),
        ({"density": 1.01}, "density"),
        ({"tie": "toss"}, "tie: got 'toss'"),
        ({"min_units": -1}, "min_units"),
        ({"tie_break": np.zeros(3, np.float32)}, r"expected \(500,\)"),
        ({"tie_break": np.full(500, np.nan, np.float32)}, "NaN"),
        ({"previous": Mask.full(Layout(("x",), (500,)))}, "other layers"),
    ],
)
def test_a_bad_context_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONTEXT, **change)
