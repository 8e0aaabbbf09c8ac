"""Random streams: pinned, distinct, and apart from every global generator."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch

from mpfl.seeding import global_picture, lent, lent_from, numpy_rng, sequence, torch_generator

GOLDEN_NUMPY = [3767041901, 2163834149, 3891606611]
GOLDEN_TORCH = [1870748387, 929637909, 1427503729]


def test_streams_are_what_they_were_when_the_first_results_were_published():
    assert numpy_rng(7, "batches", 3, 5).integers(0, 2**32, 3).tolist() == GOLDEN_NUMPY
    drawn = torch.randint(0, 2**31, (3,), generator=torch_generator(7, "batches", 3, 5))
    assert drawn.tolist() == GOLDEN_TORCH


def test_every_part_of_the_key_makes_another_stream():
    keys = itertools.product((0, 1), ("init", "batches"), (0, 1, 2), (0, 1, 2))
    states = {tuple(sequence(s, p, r, c).generate_state(4)) for s, p, r, c in keys}
    assert len(states) == 2 * 2 * 3 * 3
    assert tuple(sequence(0, "init").generate_state(4)) not in states


def test_global_generators_are_neither_read_nor_moved():
    np_state = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002 - the point of the test
    torch_state = torch.random.get_rng_state()
    numpy_rng(0, "x").random(10)
    torch.rand(10, generator=torch_generator(0, "x"))
    np.testing.assert_array_equal(np_state, np.random.get_state(legacy=False)["state"]["key"])  # noqa: NPY002
    assert torch.equal(torch_state, torch.random.get_rng_state())


def test_torch_seeds_fit_for_any_key():
    seeds = [torch_generator(s, "x", c).initial_seed() for s in range(50) for c in range(50)]
    assert len(set(seeds)) == 2500
    assert all(0 <= seed < 2**63 for seed in seeds)


def drawn() -> tuple[float, float, float]:
    return float(torch.rand(())), float(np.random.rand()), random.random()  # noqa: NPY002


def test_a_block_lends_the_global_generators_a_stream_and_takes_it_back():
    before = global_picture()
    draws = []
    for key in (1, 1, 2):
        with lent(0, "x", key):
            draws.append(drawn())
        assert global_picture() == before
    assert draws[0] == draws[1]
    assert not set(draws[0]) & set(draws[2])


def test_the_stream_is_taken_back_from_who_fails_and_from_blocks_within():
    def fail() -> None:
        with lent(0, "x"):
            draws.append(drawn())
            with lent(0, "y"):
                drawn()
            draws.append(drawn())
            raise KeyError

    before, draws = global_picture(), []  # type: ignore[var-annotated]
    with pytest.raises(KeyError):
        fail()
    assert global_picture() == before
    with lent(0, "x"):
        assert [drawn(), drawn()] == draws


def test_a_generator_lends_what_follows_from_its_state_and_is_not_moved():
    generator = torch_generator(0, "x")
    draws = []
    for _ in range(2):
        with lent_from(generator):
            draws.append(drawn())
    torch.rand(1, generator=generator)
    with lent_from(generator):
        draws.append(drawn())
    assert draws[0] == draws[1] != draws[2]
    fresh = torch_generator(0, "x")
    torch.rand(1, generator=fresh)
    assert torch.equal(fresh.get_state(), generator.get_state())
