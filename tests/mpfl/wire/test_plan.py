"""Plans: remembered ones are those that would be made anew, and nobody can spoil them."""

import numpy as np
import pytest

from mpfl.mask import Layout, Mask
from mpfl.wire.plan import make_plan

LAYOUT = Layout(("a", "b"), (40, 25))


def by_hand(within, classes):
    keep = within.bools()
    edges = [(0, 40), (40, 65)]
    return [
        unit
        for start, stop in edges
        for label in range(4)
        for unit in range(start, stop)
        if keep[unit] and classes[unit] == label
    ]


def test_a_plan_follows_classes_that_change_in_place():
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 4, 65, np.uint8)
    within = Mask.from_bools(LAYOUT, rng.random(65) < 0.5)
    for _ in range(12):  # more than are remembered
        plan = make_plan(LAYOUT, within, classes)
        assert plan.units.tolist() == by_hand(within, classes)
        classes[:] = rng.permutation(classes)


def test_a_plan_follows_the_mask_within():
    rng = np.random.default_rng(1)
    classes = rng.integers(0, 4, 65, np.uint8)
    for _ in range(12):
        within = Mask.from_bools(LAYOUT, rng.random(65) < 0.5)
        for _ in range(2):
            assert make_plan(LAYOUT, within, classes).units.tolist() == by_hand(within, classes)


def test_a_plan_cannot_be_written_to():
    plan = make_plan(LAYOUT, Mask.full(LAYOUT), np.zeros(65, np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        plan.units[0] = 1
