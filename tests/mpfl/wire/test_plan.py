"""Plans: which units, in what order, however many blocks that takes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfl.mask import Layout, Mask
from mpfl.wire.entropy.grouping import BLOCK, Grouping
from mpfl.wire.masks.plan import make_plan

LAYOUT = Layout(("a", "b"), (40, 25))


def by_hand(edges, keep, classes):
    return [
        unit
        for start, stop in edges
        for label in range(256)
        for unit in range(start, stop)
        if keep[unit] and classes[unit] == label
    ]


@given(st.integers(0, 2**32), st.booleans(), st.booleans())
def test_a_plan_goes_layer_after_layer_and_class_after_class(seed, has_within, has_classes):
    rng = np.random.default_rng(seed)
    within = Mask.from_bools(LAYOUT, rng.random(65) < rng.random()) if has_within else None
    classes = rng.integers(0, 4, 65, np.uint8) if has_classes else None
    plan = make_plan(LAYOUT, within, classes)
    keep = within.bools() if has_within else np.ones(65, bool)
    labels = classes if has_classes else np.zeros(65, np.uint8)
    expected = by_hand([(0, 40), (40, 65)], keep, labels)
    assert plan.grouping.gather(np.arange(65)).tolist() == expected
    assert plan.count == sum(plan.lengths) == len(expected)
    assert all(plan.lengths)
    bools = rng.random(65) < 0.5
    assert plan.put(plan.take(bools)).bools().tolist() == (bools & keep).tolist()


def test_a_grouping_of_many_blocks_equals_a_stable_sort():
    rng = np.random.default_rng(0)
    size = 3 * BLOCK + 17
    keys = rng.integers(0, 256, size, np.uint8)
    inside = rng.random(size) < 0.7
    grouping = Grouping.of([slice(5, size - 9)], keys, inside)
    places = np.arange(size)[5 : size - 9][inside[5 : size - 9]]
    expected = places[np.argsort(keys[places], kind="stable")]
    np.testing.assert_array_equal(grouping.gather(np.arange(size)), expected)
    np.testing.assert_array_equal(grouping.lengths, np.unique(keys[places], return_counts=True)[1])
    back = np.full(size, -1)
    grouping.scatter(expected, back)
    untouched = np.ones(size, bool)
    untouched[places] = False
    np.testing.assert_array_equal(back[places], places)
    assert (back[untouched] == -1).all()


@pytest.mark.parametrize("bad", [np.zeros(8), np.zeros(7, np.uint8)])
def test_classes_of_another_shape_or_type_are_refused(bad):
    with pytest.raises(ValueError, match="classes"):
        make_plan(LAYOUT, None, bad)
