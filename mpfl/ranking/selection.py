"""Exact selection: how many units to keep, in which layer, and which ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfl.mask import Layout

_CHUNK = 1 << 15
"""Units that are looked at together."""
_FEW = 1 << 10
"""Numbers of votes that are counted one by one, where all are below."""


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
    """Return bool[n]: the `count` best of the `eligible` units; see `top`.

    Of many units no list is made, which would take eight times the memory of the flags.
    """
    some = int(np.count_nonzero(eligible))
    if count >= some:
        return eligible.copy()
    keep: NDArray[np.bool_] = np.zeros(eligible.size, np.bool_)
    if count <= 0 or not keys:
        keep[np.flatnonzero(eligible)[: max(count, 0)]] = True
        return keep
    threshold = _limit(keys[0], eligible, some, count)
    np.greater(keys[0], threshold, out=keep)
    keep &= eligible
    missing = count - int(np.count_nonzero(keep))
    if missing:
        tied = keys[0] == threshold
        tied &= eligible
        keep |= mark_top(keys[1:], tied, missing)
    return keep


def _limit(key: NDArray[np.generic], eligible: NDArray[np.bool_], some: int, count: int) -> Any:
    """Return the key of the `count`-th best of the eligible units, of which there are `some`."""
    if key.dtype == np.uint32 and key.size > _CHUNK and int(key.max()) < _FEW:  # votes
        sizes = np.zeros(_FEW, np.int64)
        for begin in range(0, key.size, _CHUNK):
            part = slice(begin, begin + _CHUNK)
            sizes += np.bincount(key[part][eligible[part]], minlength=_FEW)
        at_least_so_many = np.cumsum(sizes[::-1])[::-1]
        return key.dtype.type(int(np.flatnonzero(at_least_so_many >= count)[-1]))
    values = key.copy() if some == key.size else _picked(key, eligible, some)
    values.partition(some - count)
    return values[some - count]


def _picked(key: NDArray[np.generic], flags: NDArray[np.bool_], count: int) -> NDArray[np.generic]:
    """Return the entries whose flags are set: quicker by index than by flags, a piece at a time."""
    out, end = np.empty(count, key.dtype), 0
    for begin in range(0, key.size, _CHUNK):
        places = np.flatnonzero(flags[begin : begin + _CHUNK])
        np.take(key[begin : begin + _CHUNK], places, out=out[end : end + places.size])
        end += places.size
    return out


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
    keep = mark_top(keys, eligible, count)
    if all(
        int(np.count_nonzero(keep[part])) >= min(min_units, int(np.count_nonzero(eligible[part])))
        for part in layout.slices()
    ):
        return keep  # the best of each layer are among the best of all
    keep = at_least(np.zeros(layout.total, np.bool_), keys, layout, eligible, min_units)
    return keep | mark_top(keys, eligible & ~keep, count - int(np.count_nonzero(keep)))


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
