"""Plans: which units, in what order, however many blocks that takes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfl.mask import Layout, Mask
from mpfl.wire import magnitude_classes
from mpfl.wire.entropy import grouping as loops
from mpfl.wire.entropy.grouping import BLOCK, Grouping
from mpfl.wire.masks.plan import make_plan
from mpfl.wire.sections import mask_context

LAYOUT = Layout(("a", "b"), (40, 25))
COMPILED = loops.COMPILED


@pytest.fixture(params=["arrays", "compiled"])
def kernel(request, monkeypatch):
    if request.param == "compiled" and COMPILED is None:
        pytest.skip("mpfl.wire.entropy._order is not built; `pip install .` builds it")
    monkeypatch.setattr(loops, "COMPILED", COMPILED if request.param == "compiled" else None)
    return request.param


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


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.bool_])
@pytest.mark.parametrize("share", [None, 0.0, 0.6, 1.0])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9, 100, 20_001])
def test_single_bytes_are_grouped_like_a_stable_sort(kernel, size, share, kind):
    rng = np.random.default_rng(size)
    keys = rng.integers(0, 5, size + 7, np.uint8) * 50
    inside = None if share is None else rng.random(size + 7) < share
    spans = [slice(3, 3 + size // 3), slice(3 + size // 3, 3 + size)]
    grouping = Grouping.of([span for span in spans if span.stop > span.start], keys, inside)
    counted = np.ones(size + 7, bool) if inside is None else inside
    expected = [
        place
        for span in spans
        for place in sorted(range(span.start, span.stop), key=lambda place: keys[place])
        if counted[place]
    ]
    bits = rng.random(size + 7) < 0.4
    ends = np.cumsum(grouping.lengths)[:-1]
    ones = [part.sum() for part in np.split(bits[expected], ends)] if expected else []
    assert grouping.ones(bits).tolist() == ones
    values = rng.integers(0, 2 if kind is np.bool_ else 100, size + 7).astype(kind)
    coded = grouping.gather(values)
    assert (coded.dtype, grouping.count) == (kind, len(expected))
    np.testing.assert_array_equal(coded, values[expected])
    back = rng.integers(0, 2, size + 7).astype(kind)
    before = back.copy()
    grouping.scatter(coded, back)
    before[expected] = values[expected]
    np.testing.assert_array_equal(back, before)


@pytest.mark.skipif(COMPILED is None, reason="mpfl.wire.entropy._order is not built")
def test_the_kernel_refuses_counters_that_would_leave_the_entries():
    keys, coded = np.zeros(100, np.uint8), np.zeros(100, np.uint8)
    for start in (90, -1, 2**40):
        following = np.full((4, 512), start, np.int64)
        with pytest.raises(ValueError, match="fit together"):
            COMPILED.gather(keys, b"", following.copy(), coded, np.zeros(100, np.uint8))
        with pytest.raises(ValueError, match="fit together"):
            COMPILED.scatter(keys, b"", following.copy(), coded, np.zeros(100, np.uint8))
    with pytest.raises(ValueError, match="fit together"):
        COMPILED.count(keys, b"\x01", np.zeros((4, 512), np.int64))
    with pytest.raises(ValueError, match="fit together"):
        COMPILED.count(keys, b"", np.zeros((4, 257), np.int64))


def test_ballots_of_a_round_share_one_plan_and_one_context():
    classes = magnitude_classes([np.arange(n, dtype=np.float32) for n in LAYOUT.units], 4)
    held = Mask.from_bools(LAYOUT, np.arange(65) % 3 == 0)
    same = Mask.from_bools(LAYOUT, held.bools())
    assert not classes.flags.writeable
    assert make_plan(LAYOUT, held, classes) is make_plan(LAYOUT, same, classes)
    assert mask_context(classes, held, False)[1] is mask_context(classes, same, False)[1]
    expected = [2 * label + bit for label, bit in zip(classes, held.bools(), strict=True)]
    assert mask_context(classes, held, False)[1].tolist() == expected


def test_classes_that_are_written_to_have_another_plan():
    classes = np.zeros(65, np.uint8)
    before = make_plan(LAYOUT, None, classes)
    classes[:10] = 1
    assert before.lengths == (40, 25)
    assert make_plan(LAYOUT, None, classes).lengths == (30, 10, 25)
    view = classes[:]
    view.setflags(write=False)
    before = make_plan(LAYOUT, None, view)
    classes[:] = 0
    assert before.lengths == (30, 10, 25)
    assert make_plan(LAYOUT, None, view).lengths == (40, 25)


@pytest.mark.parametrize("bad", [np.zeros(8), np.zeros(7, np.uint8)])
def test_classes_of_another_shape_or_type_are_refused(bad):
    with pytest.raises(ValueError, match="classes"):
        make_plan(LAYOUT, None, bad)
