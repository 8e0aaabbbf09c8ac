"""Which units a mask payload codes, in what order, and in which segments."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mpfl.mask import Layout, Mask
from mpfl.network.layers import Structure
from mpfl.recent import Fixed
from mpfl.wire.entropy.grouping import Grouping

Bools = NDArray[np.bool_]

_AT_ONCE = 1 << 15
"""Values that are compared at a time."""


@dataclass(frozen=True)
class MaskPlan:
    """The coded units of a mask, known to both sides before a payload is read.

    Attributes
    ----------
    layout
        Layout of the mask.
    grouping
        The coded units in coded order: layer after layer, within a layer by class.
    lengths
        Units per segment (none is zero); the segments stand one after another in coded order.
        A segment holds the units of one class in one layer.
    widths
        Units per row of every layer, 0 where it is no matrix; only a sender may know them.
    """

    layout: Layout
    grouping: Grouping
    lengths: tuple[int, ...]
    widths: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """Number of coded units."""
        return self.grouping.count

    @property
    def plain(self) -> bool:
        """Whether the coded units are all units as they stand in the mask."""
        return self.grouping.keys is None and self.grouping.inside is None

    def take(self, bools: Bools) -> Bools:
        """Return the bits of the coded units, in coded order."""
        return bools if self.plain else self.grouping.gather(bools)

    def put(self, coded: Bools) -> Mask:
        """Return the mask whose coded units have these bits; all others are dropped."""
        if self.plain:
            return Mask.from_bools(self.layout, coded)
        bools = np.zeros(self.layout.total, np.bool_)
        self.grouping.scatter(coded, bools)
        return Mask.from_bools(self.layout, bools)


def make_plan(layout: Layout, within: Mask | None, classes: NDArray[np.uint8] | None) -> MaskPlan:
    """Return the plan for masks inside `within` with one context per unit in `classes`.

    Raises
    ------
    ValueError
        If `within` has another layout or `classes` is not uint8[d].
    """
    if within is not None and within.layout != layout:
        raise ValueError("within: its layout is not the layout of the mask")
    if classes is not None and (classes.shape != (layout.total,) or classes.dtype != np.uint8):
        got = f"{classes.dtype}{list(classes.shape)}"
        raise ValueError(f"classes: got {got}, expected uint8[{layout.total}]")
    return _plan(layout, within, None if classes is None else Fixed.of(classes))


@lru_cache(maxsize=4)  # many masks are coded with the same context
def _plan(layout: Layout, within: Mask | None, classes: Fixed | None) -> MaskPlan:
    keys = None if classes is None else classes.vector
    inside = None if within is None or within.count() == layout.total else within.bools()
    grouping = Grouping.of(layout.slices(), keys, inside)
    return MaskPlan(layout, grouping, grouping.lengths)


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
    every = np.concatenate([np.zeros(0, np.uint8), *(_bins(layer, shares) for layer in values)])
    every.setflags(write=False)
    return every


def _bins(values: NDArray[np.float32], shares: list[float]) -> NDArray[np.uint8]:
    """Return how many of the shares begin at or before each value's place in ascending order."""
    bins = np.zeros(values.size, np.uint8)
    edges = (values.size * np.array(shares)).astype(np.intp)
    if not values.size or not edges.size:
        return bins
    limits = np.partition(values, np.unique(edges))[edges]  # far quicker than to sort all
    for begin in range(0, values.size, _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        for limit in limits:
            bins[part] += values[part] >= limit
    for edge, limit in zip(edges.tolist(), limits, strict=True):
        before = edge - int(np.count_nonzero(values < limit))
        if before:  # as many of those equal to the limit come before it
            bins[np.flatnonzero(values == limit)[:before]] -= 1
    return bins
