"""Exact selection: how many units to keep, in which layer, and which ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mpfl.mask import Layout


def units_to_keep(density: float, units: int) -> int:
    """Return density · units, rounded to the nearest whole number (halves up)."""
    return math.floor(density * units + 0.5)


def apportion(
    total: int, units: Sequence[int], least: Sequence[int], most: Sequence[int]
) -> list[int]:
    """Divide `total` kept units among layers in proportion to their sizes.

    The shares lie between `least` and `most`; what a layer cannot take goes to the others in
    proportion. Fractions go to the largest remainders, ties to the earlier layer, so that the
    shares add up to `total` (clipped to the sums of `least` and of `most`).
    """
    return list(_apportion(total, tuple(units), tuple(least), tuple(most)))


@lru_cache(maxsize=64)  # all clients of a round ask the same
def _apportion(
    total: int, units: tuple[int, ...], least: tuple[int, ...], most: tuple[int, ...]
) -> tuple[int, ...]:
    total = min(max(total, sum(least)), sum(most))

    def shares(rate: float) -> list[float]:
        return [
            min(max(rate * n, low), high) for n, low, high in zip(units, least, most, strict=True)
        ]

    low_rate, high_rate = 0.0, 1.0
    for _ in range(100):
        rate = (low_rate + high_rate) / 2
        if sum(shares(rate)) < total:
            low_rate = rate
        else:
            high_rate = rate
    exact = shares(high_rate)
    parts = [math.floor(share + 1e-6) for share in exact]
    while (missing := total - sum(parts)) != 0:
        step = 1 if missing > 0 else -1
        bound = most if step > 0 else least
        movable = [i for i, part in enumerate(parts) if part != bound[i]]
        movable.sort(key=lambda i: (step * (parts[i] - exact[i]), i))
        for i in movable[: abs(missing)]:
            parts[i] += step
    return tuple(parts)


def top(
    keys: Sequence[NDArray[np.generic]], candidates: NDArray[np.intp], count: int
) -> NDArray[np.intp]:
    """Return the `count` best of `candidates`, in no particular order.

    Parameters
    ----------
    keys
        Vectors over all units without NaN; larger is better; each one breaks the ties of those
        before it. What is still tied goes to the lower unit index.
    candidates
        Unit indices in increasing order.
    count
        How many to return; all candidates if there are fewer.
    """
    if count >= candidates.size:
        return candidates
    if count <= 0:
        return candidates[:0]
    if not keys:
        return candidates[:count]
    values = keys[0][candidates]
    place = candidates.size - count
    threshold = np.partition(values, place)[place]
    better = candidates[np.flatnonzero(values > threshold)]  # quicker than by flags
    tied = candidates[np.flatnonzero(values == threshold)]
    return np.concatenate([better, top(keys[1:], tied, count - better.size)])


def mark_top(
    keys: Sequence[NDArray[np.generic]], eligible: NDArray[np.bool_], count: int
) -> NDArray[np.bool_]:
    """Return bool[n]: the `count` best of the `eligible` units; see `top`."""
    keep = np.zeros(eligible.size, np.bool_)
    if not keys or not 0 < count < eligible.size or not eligible.all():
        keep[top(keys, np.flatnonzero(eligible), count)] = True
        return keep
    place = eligible.size - count  # as in `top`, without lists of almost all units
    threshold = np.partition(keys[0], place)[place]
    np.greater(keys[0], threshold, out=keep)
    tied = np.flatnonzero(keys[0] == threshold)
    keep[top(keys[1:], tied, count - int(np.count_nonzero(keep)))] = True
    return keep


def at_least(
    keep: NDArray[np.bool_],
    keys: Sequence[NDArray[np.generic]],
    layout: Layout,
    eligible: NDArray[np.bool_],
    min_units: int,
) -> NDArray[np.bool_]:
    """Return `keep` with the best eligible units added to layers that keep fewer than `min_units`.

    A layer with fewer eligible units than that keeps all of them.
    """
    keep = keep.copy()
    for part in layout.slices():
        missing = min_units - int(np.count_nonzero(keep[part]))
        if missing > 0:
            spare = np.flatnonzero(eligible[part] & ~keep[part]) + part.start
            keep[top(keys, spare, missing)] = True
    return keep


def best_overall(
    keys: Sequence[NDArray[np.generic]],
    layout: Layout,
    eligible: NDArray[np.bool_],
    count: int,
    min_units: int,
) -> NDArray[np.bool_]:
    """Keep the `count` best eligible units of all layers together, as bool[d].

    The best `min_units` of each layer are set first, so the total is exact unless those alone
    are more, or fewer than `count` units are eligible.
    """
    keep = at_least(np.zeros(layout.total, np.bool_), keys, layout, eligible, min_units)
    rest = np.flatnonzero(eligible & ~keep)
    keep[top(keys, rest, count - int(np.count_nonzero(keep)))] = True
    return keep


def best_per_layer(
    keys: Sequence[NDArray[np.generic]],
    layout: Layout,
    eligible: NDArray[np.bool_],
    count: int,
    min_units: int,
) -> NDArray[np.bool_]:
    """Keep the best eligible units of each layer, `count` in all, as bool[d].

    Layers share the count in proportion to their sizes; see `apportion`.
    """
    available = [int(np.count_nonzero(eligible[part])) for part in layout.slices()]
    least = [min(min_units, n) for n in available]
    keep = np.zeros(layout.total, np.bool_)
    shares = apportion(count, layout.units, least, available)
    for part, share in zip(layout.slices(), shares, strict=True):
        keep[part] = mark_top([key[part] for key in keys], eligible[part], share)
    return keep
