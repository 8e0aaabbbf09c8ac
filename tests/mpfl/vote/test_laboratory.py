"""The vote laboratory against statistics taken from the ballots themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfl.mask import Layout, Mask
from mpfl.vote import RULES, Tally, VoteContext, compare_rules, decide, trim, vote_statistics
from mpfl.vote.laboratory import default_rules, pooled_overlap, vote_histogram

LAYOUT = Layout(("a", "b"), (60, 40))


def some_ballots(count, seed=0, density=0.3):
    rng = np.random.default_rng(seed)
    return [Mask.from_bools(LAYOUT, rng.random(100) < density) for _ in range(count)]


def context(previous=None, density=0.3):
    tie_break = np.random.default_rng(9).random(100).astype(np.float32)
    return VoteContext(LAYOUT, density, previous or Mask.full(LAYOUT), tie_break)


def tally_of(ballots, weights=None):
    tally = Tally(LAYOUT)
    for i, ballot in enumerate(ballots):
        tally.add(ballot, weights[i] if weights else 1)
    return tally


def test_every_registered_rule_is_compared_and_described():
    ballots = some_ballots(7)
    results = compare_rules(ballots, context())
    assert [r.rule.partition("(")[0] for r in results] == RULES.names()
    budget = next(r.mask for r in results if r.rule == "budget")
    for result in results:
        layers = result.mask.layers()
        assert result.density == result.mask.density()
        assert result.layer_densities == {name: bits.mean() for name, bits in layers.items()}
        assert result.overlap_with_budget == result.mask.jaccard(budget)
        overlaps = [result.mask.jaccard(ballot) for ballot in ballots]
        assert result.mean_overlap_with_ballots == pytest.approx(np.mean(overlaps))
        assert result.ballots == len(trim(ballots, result.rule))
    assert {r.rule: r.ballots for r in results}["trimmed(0.2)"] == 6


def test_weights_and_trimming_reach_the_rules():
    ballots, weights = some_ballots(5), [5, 1, 1, 1, 1]
    (majority, trimmed) = compare_rules(ballots, context(), weights, ["majority", "trimmed(2)"])
    assert majority.mask == ballots[0]
    kept = trim(ballots, "trimmed(2)")
    tally = tally_of([ballots[i] for i in kept], [weights[i] for i in kept])
    assert trimmed.mask == decide("budget", tally.counts(), tally.weight, context())


def test_bad_comparisons_are_named():
    with pytest.raises(ValueError, match="at least one ballot"):
        compare_rules([], context())
    with pytest.raises(ValueError, match="2 weights for 3 ballots"):
        compare_rules(some_ballots(3), context(), [1, 2])
    with pytest.raises(ValueError, match="did you mean 'any'"):
        compare_rules(some_ballots(3), context(), rules=["anny"])


@given(st.integers(1, 8), st.integers(0, 1000), st.sampled_from([0.0, 0.2, 0.9, 1.0]))
def test_pooled_overlap_equals_the_pairs_it_pools(count, seed, density):
    ballots = some_ballots(count, seed, density)
    both = sum((a & b).count() for i, a in enumerate(ballots) for b in ballots[:i])
    either = sum((a | b).count() for i, a in enumerate(ballots) for b in ballots[:i])
    found = pooled_overlap(tally_of(ballots).counts(), count)
    assert found == pytest.approx(both / either if either else 1.0)


def test_pooled_overlap_is_the_mean_overlap_of_two_ballots():
    ballots = some_ballots(2)
    assert pooled_overlap(tally_of(ballots).counts(), 2) == pytest.approx(
        ballots[0].jaccard(ballots[1])
    )


def test_statistics_of_a_tally_by_hand():
    layout = Layout(("a", "b"), (4, 2))
    counts = np.array([0, 2, 4, 3, 4, 4], np.uint32)
    previous = Mask.from_bools(layout, np.array([1, 1, 1, 1, 1, 0], np.bool_))
    where = VoteContext(layout, 0.5, previous, np.zeros(6, np.float32))
    statistics = vote_statistics(counts, 4, where)
    assert set(statistics.densities) == set(default_rules(with_ballots=False))
    used = vote_statistics(counts, 4, where, used="quorum(0.9)")
    assert used.densities == {**statistics.densities, "quorum(0.9)": 2 / 6}
    assert statistics.densities["any"] == 4 / 6
    assert statistics.densities["unanimous"] == 2 / 6
    assert statistics.densities["budget"] == 3 / 6
    assert statistics.unanimity == 3 / 5
    assert statistics.histogram == {
        "a": [1, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1],
        "b": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    }


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20), st.integers(1, 2**32 - 1))
def test_histogram_classes_are_open_below_and_closed_above(raw, total):
    counts = np.array([v % (total + 1) for v in raw], np.uint32)
    expected = [0] * 11
    for v in counts.tolist():
        expected[next(i for i in range(11) if 10 * v <= i * total)] += 1
    assert vote_histogram(counts, total) == expected


def test_statistics_survive_a_mask_that_keeps_nothing():
    statistics = vote_statistics(np.zeros(100, np.uint32), 3, context(Mask.empty(LAYOUT)))
    assert statistics.unanimity == 1.0
    assert statistics.overlap == 1.0
    assert all(density == 0 for density in statistics.densities.values())
