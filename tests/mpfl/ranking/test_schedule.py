"""Schedules: where they begin, where they end, and how they get there."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfl.mask import Layout, Mask
from mpfl.ranking.rankings import rank
from mpfl.ranking.schedule import SCHEDULES, density_path
from mpfl.vote import Tally, VoteContext, decide

names = st.sampled_from(SCHEDULES.names())
targets = st.floats(1e-4, 1.0)


@given(names, targets, st.integers(1, 60))
def test_every_path_falls_from_at_most_one_to_exactly_the_target(name, target, rounds):
    path = density_path(name, target, rounds)
    assert len(path) == rounds
    assert path[-1] == target
    assert path[0] <= 1
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(path))
    assert all(target - 1e-12 <= density <= 1 for density in path)


def test_one_shot_reaches_the_target_at_once():
    assert density_path("one_shot", 0.3, 4) == [0.3] * 4


@given(targets, st.integers(2, 40))
def test_linear_prunes_the_same_number_every_round(target, rounds):
    steps = np.diff([1.0, *density_path("linear", target, rounds)])
    np.testing.assert_allclose(steps, steps[0], atol=1e-12)


@given(targets, st.integers(2, 40))
def test_geometric_prunes_the_same_share_of_survivors_every_round(target, rounds):
    path = np.array([1.0, *density_path("geometric", target, rounds)])
    np.testing.assert_allclose(path[1:] / path[:-1], target ** (1 / rounds), rtol=1e-9)


@given(targets, st.integers(1, 40))
def test_cubic_follows_zhu_and_gupta(target, rounds):
    sparsity = 1 - np.array(density_path("cubic", target, rounds))
    final = 1 - target
    steps = np.arange(1, rounds + 1)
    # Their eq. 1 with initial sparsity 0: s_t = s_f + (0 - s_f) (1 - t / n)^3.
    np.testing.assert_allclose(sparsity, final - final * (1 - steps / rounds) ** 3, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("geometrc", 0.1, 3), "did you mean 'geometric'"),
        (("linear(2)", 0.1, 3), "takes no argument"),
        (("linear", 0.0, 3), "0 < density <= 1"),
        (("linear", 1.1, 3), "0 < density <= 1"),
        (("linear", float("nan"), 3), "0 < density <= 1"),
        (("linear", 0.1, 0), "at least 1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        density_path(*arguments)


LAYOUT = Layout(("a", "b"), (300, 700))


def phase_one(client_densities, server_densities):
    """Densities of ballots and global masks, round by round, where each side has its own plan."""
    rng = np.random.default_rng(0)
    mask, seen = Mask.full(LAYOUT), []
    for wanted, target in zip(client_densities, server_densities, strict=True):
        tally = Tally(LAYOUT)
        for _ in range(5):
            scores = [rng.random(n).astype(np.float32) for n in LAYOUT.units]
            ballot = rank(scores, LAYOUT, wanted, mask, "flat")
            tally.add(ballot)
        context = VoteContext(LAYOUT, target, mask, rng.random(1000).astype(np.float32))
        mask = decide("budget", tally.counts(), tally.weight, context)
        seen.append((ballot.density(), mask.density()))
    return seen


def check_ballots_and_masks_agree(plans):
    for ballot, mask in phase_one(*plans):
        assert ballot == pytest.approx(mask, abs=1e-3)


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_clients_and_server_follow_one_schedule(name):
    path = density_path(name, 0.05, 8)
    check_ballots_and_masks_agree((path, path))
    assert phase_one(path, path)[-1] == (0.05, 0.05)


def test_the_published_schedule_sets_clients_and_server_apart():
    share = 0.1
    clients = [(1 - share) ** t for t in range(1, 10)]
    server = [1 - share * t for t in range(1, 10)]
    with pytest.raises(AssertionError):
        check_ballots_and_masks_agree((clients, server))
