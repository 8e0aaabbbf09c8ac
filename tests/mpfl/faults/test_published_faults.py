"""Faults of the published code (METHODS.md 2): each check fails on the published behaviour.

The third one, the schedule, is in test_schedule.py.
"""

from __future__ import annotations

import numpy as np
import pytest

from mpfl.mask import Layout, Mask
from mpfl.vote import VoteContext, decide

VOTERS = 10


def context_for(layout, density):
    tie_break = np.zeros(layout.total, np.float32)
    return VoteContext(layout, density, Mask.full(layout), tie_break, min_units=0)


def ours(spec):
    def rule(ballots, density):
        layout = Layout(("conv",), (ballots.shape[1],))
        counts = ballots.sum(axis=0).astype(np.uint32)
        return decide(spec, counts, len(ballots), context_for(layout, density)).bools()

    return rule


def published_dynamic_threshold(ballots, density):
    """Starts at unanimity and lowers the threshold 'until enough is pruned'."""
    counts = ballots.sum(axis=0)
    threshold = len(ballots)
    while (counts >= threshold).mean() > density and threshold > 1:
        threshold -= 1
    return counts >= threshold


def published_histogram(ballots, density):
    """Takes the percentile of all ballots' zeros and ones pooled, so it is 0 or 1."""
    threshold = np.percentile(ballots.ravel().astype(float), 95)
    return ballots.mean(axis=0) >= threshold


def spread_ballots(shares):
    """Ballots in which unit i is kept by the share shares[i] of the voters."""
    return np.array([[v < round(s * VOTERS) for s in shares] for v in range(VOTERS)])


def check_threshold_is_the_highest_that_keeps_enough(rule):
    ballots = spread_ballots(np.linspace(0, 1, 101))
    counts = ballots.sum(axis=0)
    for density in (0.05, 0.2, 0.35, 0.5, 0.75, 0.9):
        kept = rule(ballots, density)
        threshold = counts[kept].min()
        assert kept.mean() >= density
        assert (counts >= threshold + 1).mean() < density


def test_the_dynamic_threshold_meets_the_target():
    check_threshold_is_the_highest_that_keeps_enough(ours("layer_threshold"))


def test_the_published_dynamic_threshold_does_not():
    with pytest.raises(AssertionError):
        check_threshold_is_the_highest_that_keeps_enough(published_dynamic_threshold)
    # It knows only two outcomes, whatever the target.
    ballots = spread_ballots(np.linspace(0, 1, 101))
    kept = {published_dynamic_threshold(ballots, d).sum() for d in np.linspace(0.01, 1, 50)}
    assert kept == {ballots.all(axis=0).sum(), ballots.any(axis=0).sum()}


def check_sparse_layer_stays_sparse(rule):
    ballots = spread_ballots([0.5, 0.4, 0.3, 0.2, 0.1] + [0.0] * 45)
    assert ballots.mean() <= 0.05
    assert rule(ballots, 0.05).sum() <= 5


@pytest.mark.parametrize("percent", [0, 5, 50, 95])
def test_the_histogram_never_brings_a_sparse_layer_back(percent):
    check_sparse_layer_stays_sparse(ours(f"histogram({percent})"))


def test_the_published_histogram_brings_all_of_it_back():
    with pytest.raises(AssertionError):
        check_sparse_layer_stays_sparse(published_histogram)
    assert published_histogram(spread_ballots([0.5] + [0.0] * 49), 0.05).all()


def test_histogram_distinguishes_degrees_of_agreement():
    ballots = spread_ballots(np.linspace(0, 1, 101))
    kept = [int(ours(f"histogram({p})")(ballots, 0.5).sum()) for p in (10, 30, 50, 70, 90)]
    assert kept == sorted(set(kept), reverse=True)
    pooled = {int(published_histogram(ballots[:, cut:], 0.5).sum()) for cut in (0, 20, 40)}
    assert pooled == {int(ballots.all(axis=0).sum())}
