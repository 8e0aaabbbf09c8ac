"""Layers: how unit bits spread over tensors, and sums over units."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfl.mask import Mask
from mpfl.network.layers import FOLLOW, INPUT, Layer, Slot, Structure, Tensors, sum_over_units


@st.composite
def slots(draw):
    """A slot, its tensor's shape, and the number of units."""
    units, tile, repeat = (draw(st.integers(1, n)) for n in (5, 4, 3))
    indices = units * tile * repeat
    axis = draw(st.sampled_from([None, 0, 1, 2]))
    if axis is None:
        return Slot("w", None, tile, repeat), (tile, units, repeat), units
    shape = [draw(st.integers(1, 3)) for _ in range(3)]
    shape[axis] = indices
    return Slot("w", axis, tile, repeat), tuple(shape), units


def unit_of(slot: Slot, index: tuple[int, ...], shape: tuple[int, ...], units: int) -> int:
    place = np.ravel_multi_index(index, shape) if slot.axis is None else index[slot.axis]
    return int(place) // slot.repeat % units


@given(slots(), st.randoms(use_true_random=False))
def test_spread_equals_asking_for_each_element(case, random):
    slot, shape, units = case
    bits = np.array([random.random() < 0.5 for _ in range(units)])
    got = np.broadcast_to(slot.spread(bits, shape), shape)
    for index in np.ndindex(shape):
        assert got[index] == bits[unit_of(slot, index, shape, units)]


@given(slots(), st.integers(0, 2**32))
def test_sum_over_units_equals_a_double_loop(case, seed):
    slot, shape, units = case
    tensors = Tensors(("before", "w"), ((2,), shape))
    values = np.random.default_rng(seed).normal(size=tensors.total).astype(np.float32)
    layer = Layer("w", "linear", units, (slot, Slot("before", 0, role=FOLLOW)))
    expected = np.zeros(units)
    for index in np.ndindex(shape):
        unit = unit_of(slot, index, shape, units)
        expected[unit] += float(values[2:].reshape(shape)[index])
    got = sum_over_units(layer, tensors, values)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-5)


def two_layers() -> Structure:
    first = Layer(
        "a", "linear", 2,
        (Slot("a.weight", 0), Slot("a.bias", 0, role=FOLLOW), Slot("b.weight", 1, role=INPUT),
         Slot("norm.mean", 0, role=FOLLOW)),
    )  # fmt: skip
    second = Layer("b", "linear", 3, (Slot("b.weight", 0), Slot("b.bias", 0, role=FOLLOW)))
    parameters = Tensors(
        ("a.weight", "a.bias", "b.weight", "b.bias", "c.weight"), ((2, 4), (2,), (3, 2), (3,), (5,))
    )
    return Structure((first, second), parameters, Tensors(("norm.mean",), ((2,),)))


def test_a_parameter_survives_only_if_every_slot_on_it_does():
    structure = two_layers()
    mask = Mask.from_layers({"a": np.array([True, False]), "b": np.array([False, True, True])})
    keep = structure.parameter_mask(mask)
    expected = (
        [1] * 4 + [0] * 4 + [1, 0] + [0, 0, 1, 0, 1, 0] + [0, 1, 1] + [1] * 5
    )  # fmt: skip
    np.testing.assert_array_equal(keep, np.array(expected, bool))
    np.testing.assert_array_equal(structure.buffer_mask(mask), [True, False])
    prunable = [1] * 8 + [0] * 2 + [1] * 6 + [0] * 3 + [0] * 5
    np.testing.assert_array_equal(structure.prunable(), np.array(prunable, bool))
    assert structure.densities(mask) == (pytest.approx(6 / 14), pytest.approx(14 / 24))


def test_unit_values_are_norms_of_own_weights():
    structure = two_layers()
    values = np.arange(24, dtype=np.float32) - 7
    a, b = structure.unit_values(values)
    np.testing.assert_allclose(a, [math.hypot(-7, -6, -5, -4), math.hypot(-3, -2, -1, 0)])
    np.testing.assert_allclose(b, [math.hypot(3, 4), math.hypot(5, 6), math.hypot(7, 8)])


def test_unit_values_at_weight_granularity_are_absolute_values():
    weights = Tensors(("w",), ((2, 3),))
    structure = Structure((Layer("w", "linear", 6, (Slot("w", None),)),), weights, Tensors((), ()))
    values = np.array([1e-15, -2e-15, 0, 3, -0.1, 1e15], np.float32)
    (got,) = structure.unit_values(values)
    np.testing.assert_array_equal(got, np.abs(values))


def test_places_tile_the_flat_vector():
    tensors = Tensors(("a", "b", "c"), ((2, 3), (), (4,)))
    assert tensors.total == 11
    assert [tensors.place(n)[0] for n in tensors.names] == [slice(0, 6), slice(6, 7), slice(7, 11)]
    assert "b" in tensors
    assert "d" not in tensors


def test_a_mask_of_another_network_is_refused():
    with pytest.raises(ValueError, match=r"mask of layers \['x'\] with \[2\] units does not fit"):
        two_layers().parameter_mask(Mask.from_layers({"x": np.ones(2, bool)}))
