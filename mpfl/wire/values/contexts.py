"""What has moved so far tells how far a value moves next: classes for `ValueContext.classes`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mpfl.wire.values.base import Floats, Shape, cut

Doubles = NDArray[np.float64]

CLASSES = 12
"""Classes; each stands for half the energy of the next one."""
_MEAN_CLASS = 9
"""Class just above a tensor's mean energy."""
_SCALE = 1 << 20
"""Movements are counted in this part of a tensor's largest, so that sums of squares are exact."""


def movement_classes(
    moved: Floats, keep: NDArray[np.bool_], shapes: Sequence[Shape]
) -> NDArray[np.uint8]:
    """Return a class for every value: how large its next difference is likely to be.

    Rows and columns of a layer differ far more than single weights do: an input that is always
    dark moves none of its weights. So a weight is classed by the mean energy of its row times
    that of its column, and by a quarter of its own. Everything that is no matrix has class 0.

    Whole numbers and single operations on doubles: both ends get the same classes, on whatever
    processor.

    Parameters
    ----------
    moved
        float32[d], finite, known to both ends: usually the public model minus w0.
    keep
        bool[d]: which values travel; others have no say.
    shapes
        Of the tensors that make up the vector, in order.

    Returns
    -------
    ndarray
        uint8[d], 0 = smallest; those of the values that travel are ``[keep]`` of it.
    """
    classes = np.zeros(moved.size, np.uint8)
    for shape, place in zip(shapes, cut([math.prod(shape) for shape in shapes]), strict=True):
        if len(shape) > 1:
            energy = _energy(moved[place] * keep[place]).reshape(shape[0], -1)
            classes[place] = _classes(energy, keep[place].reshape(energy.shape)).ravel()
    return classes


def _energy(moved: Floats) -> NDArray[np.int64]:
    """Return the squares in whole units."""
    largest = float(np.abs(moved).max(initial=0))
    whole = np.rint(moved.astype(np.float64) / (largest or 1.0) * _SCALE).astype(np.int64)
    return whole * whole


def _classes(energy: NDArray[np.int64], keep: NDArray[np.bool_]) -> NDArray[np.uint8]:
    rows, columns = (_mean(energy.sum(axis=i), keep.sum(axis=i)) for i in (1, 0))
    mean = float(_mean(energy.sum(), keep.sum()))
    if not mean:
        return np.zeros(energy.shape, np.uint8)
    expected = rows[:, None] * columns / mean + energy / 4
    _, exponent = np.frexp(expected / mean)  # 1 for the mean itself
    classes: NDArray[np.uint8] = np.clip(exponent + (_MEAN_CLASS - 1), 0, CLASSES - 1).astype(
        np.uint8
    )
    return classes


def _mean(sums: NDArray[np.int64], counts: NDArray[np.int64]) -> Doubles:
    means: Doubles = sums / np.maximum(counts, 1)
    return means
