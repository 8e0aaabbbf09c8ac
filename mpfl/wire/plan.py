"""Which units a mask payload codes, in what order, and in which segments."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mpfl.layers import Structure
from mpfl.mask import Layout, Mask

_REMEMBERED_UNITS = 1 << 20  # a plan of more is too large to keep


@dataclass(frozen=True)
class Plan:
    """The coded units of a mask, known to both sides before a payload is read.

    Attributes
    ----------
    layout
        Layout of the mask.
    units
        Positions of the coded units in the mask, in coded order; None: all of them, in order.
    lengths
        Units per segment (none is zero); the segments stand one after another in coded order.
        A segment holds the units of one class in one layer.
    widths
        Units per row of every layer, 0 where it is no matrix; only a sender may know them.
    """

    layout: Layout
    units: NDArray[np.intp] | None
    lengths: tuple[int, ...]
    widths: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """Number of coded units."""
        return self.layout.total if self.units is None else self.units.size

    def take(self, bools: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the bits of the coded units, in coded order."""
        return bools if self.units is None else bools[self.units]

    def put(self, coded: NDArray[np.bool_]) -> Mask:
        """Return the mask whose coded units have these bits; all others are dropped."""
        if self.units is None:
            return Mask.from_bools(self.layout, coded)
        bools = np.zeros(self.layout.total, np.bool_)
        bools[self.units] = coded
        return Mask.from_bools(self.layout, bools)


def make_plan(layout: Layout, within: Mask | None, classes: NDArray[np.uint8] | None) -> Plan:
    """Return the plan for masks inside `within` with one context per unit in `classes`.

    Raises
    ------
    ValueError
        If `within` has another layout or `classes` is not uint8[d].
    """
    if within is not None and within.layout != layout:
        raise ValueError("within: its layout is not the layout of the mask")
    if classes is None:
        return _plan_without_classes(layout, within)
    if classes.shape != (layout.total,) or classes.dtype != np.uint8:
        got = f"{classes.dtype}{list(classes.shape)}"
        raise ValueError(f"classes: got {got}, expected uint8[{layout.total}]")
    if layout.total > _REMEMBERED_UNITS:
        return _plan_with_classes(layout, within, classes.tobytes())
    return _remembered(layout, within, classes.tobytes())


def _plan_with_classes(layout: Layout, within: Mask | None, packed: bytes) -> Plan:
    classes = np.frombuffer(packed, np.uint8)
    units: list[NDArray[np.intp]] = []
    lengths: list[int] = []
    bools = None if within is None else within.bools()
    for part in layout.slices():
        inside = np.arange(part.start, part.stop)
        if bools is not None:
            inside = inside[bools[part]]
        labels = classes[inside]
        units.append(inside[np.argsort(labels, kind="stable")])
        lengths += [int(n) for n in np.bincount(labels) if n]
    order = np.concatenate(units)
    order.flags.writeable = False
    return Plan(layout, order, tuple(lengths))


# All clients of a round speak within the same mask; sorting it costs more than their answers.
_remembered = lru_cache(maxsize=4)(_plan_with_classes)


def _plan_without_classes(layout: Layout, within: Mask | None) -> Plan:
    if within is None:
        return Plan(layout, None, layout.units)
    units = np.flatnonzero(within.bools())
    return Plan(layout, units, tuple(n for n in within.counts() if n))


def matrix_widths(structure: Structure) -> tuple[int, ...]:
    """Return, for every layer, the units per row of its weight matrix, for `encode_mask`.

    A row is what one output neuron or filter reads; 0 where units are rows themselves.
    """
    widths = []
    for layer in structure.layers:
        slot = layer.own()[0]
        rows = structure.parameters.place(slot.parameter)[1][0]
        widths.append(layer.units // rows if slot.axis is None else 0)
    return tuple(widths)


def magnitude_classes(values: list[NDArray[np.float32]], count: int) -> NDArray[np.uint8]:
    """Return a class per unit: the bin of its value among those of its layer.

    The bins are quantiles, finer towards the top, where a small density makes its choice: each
    class holds about half as many units as the one below it. Ties go by unit index.

    Parameters
    ----------
    values
        For each layer one non-negative value per unit, usually :math:`|w_0|`; both sides must
        hold the very same.
    count
        Number of classes, 1 to 64.

    Returns
    -------
    ndarray
        uint8[d], 0 = smallest values.
    """
    return _binned(values, count, [1.0 - 0.5**i for i in range(1, count)])


def quantile_classes(values: list[NDArray[np.float32]], count: int) -> NDArray[np.uint8]:
    """Return a class per value: which of `count` equal shares of its segment it is in.

    For `encode_values`: how far each value has moved so far tells how far it will move next.
    Parameters and ties as in `magnitude_classes`.
    """
    return _binned(values, count, [i / count for i in range(1, count)])


def _binned(
    values: list[NDArray[np.float32]], count: int, shares: list[float]
) -> NDArray[np.uint8]:
    if not 1 <= count <= 64:
        raise ValueError(f"count: got {count}, expected 1 to 64")
    out = [np.zeros(0, np.uint8)]
    for layer in values:
        order = np.argsort(layer, kind="stable")
        edges = (layer.size * np.array(shares)).astype(np.intp)
        classes = np.empty(layer.size, np.uint8)
        classes[order] = np.searchsorted(edges, np.arange(layer.size), side="right")
        out.append(classes)
    return np.concatenate(out)
