"""Ranking: from importance scores and a target density to a ballot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfl.errors import InputError
from mpfl.mask import Layout, Mask
from mpfl.ranking.coverage import Coverage, covered
from mpfl.ranking.selection import at_least, best_overall, best_per_layer, units_to_keep
from mpfl.registry import Registry

Scores = list[NDArray[np.float32]]


@dataclass(frozen=True)
class Order:
    """One call of `rank`: scores per layer, layout, units to keep, bool[d] of those eligible.

    Attributes
    ----------
    widths
        Units per row of each layer's weight matrix; 0 where a unit is a row.
    """

    scores: Scores
    layout: Layout
    units: int
    eligible: NDArray[np.bool_]
    min_units: int
    coverage: Coverage | None
    widths: tuple[int, ...]

    def best_overall(self, scores: Scores) -> NDArray[np.bool_]:
        """Keep the units with the highest of these scores, whatever their layer."""
        keys = [np.concatenate(scores)]
        return best_overall(keys, self.layout, self.eligible, self.units, self.min_units)


def by_layer(order: Order) -> NDArray[np.bool_]:
    """The target density within each layer."""
    keys = [np.concatenate(order.scores)]
    return best_per_layer(keys, order.layout, order.eligible, order.units, order.min_units)


def flat(order: Order) -> NDArray[np.bool_]:
    """All layers' scores in one list, one threshold."""
    return order.best_overall(order.scores)


def flat_normalized(order: Order) -> NDArray[np.bool_]:
    """As flat, after dividing each layer's scores by their L2 norm over the surviving units."""
    scores = []
    for values, part in zip(order.scores, order.layout.slices(), strict=True):
        norm = float(np.linalg.norm(values[order.eligible[part]].astype(np.float64)))
        scores.append((values / norm if norm > 0 else values).astype(np.float32))
    return order.best_overall(scores)


def erk(order: Order) -> NDArray[np.bool_]:
    """More of small layers: each keeps in proportion to the rows and columns of its matrix.

    Erdős–Rényi densities (Mocanu et al. 2018, arXiv 1707.04780; Evci et al. 2020, arXiv
    1911.11134): the share of a layer with n inputs and m outputs goes by n + m, at most all of
    it. Layers whose units are whole rows count with their units.
    """
    if len(order.widths) != len(order.layout.units):
        raise InputError("ranking 'erk' needs the row widths of all layers")
    parts = order.layout.slices()
    left = [int(order.eligible[part].sum()) for part in parts]
    demand = [
        units // width + width if width else units
        for units, width in zip(order.layout.units, order.widths, strict=True)
    ]
    keep = np.zeros(order.layout.total, np.bool_)
    for part, scores, count in zip(
        parts, order.scores, fill_in_proportion(demand, left, order.units), strict=True
    ):
        one = Layout(("layer",), (scores.size,))
        keep[part] = best_overall([scores], one, order.eligible[part], count, order.min_units)
    return keep


def fill_in_proportion(demand: Sequence[int], room: Sequence[int], total: int) -> list[int]:
    """Divide `total` in proportion to `demand`, no part above its `room`.

    What does not fit goes to the others in the same proportion. The sum is `total`, or all the
    room there is; remainders go to the largest fractions, then to the first.

    Examples
    --------
    >>> fill_in_proportion([1084, 400, 110], [235200, 30000, 1000], 26620)
    [18714, 6906, 1000]
    """
    given = [0] * len(room)
    open_parts = [i for i, most in enumerate(room) if most > 0]
    rest = min(total, sum(room))
    while open_parts:
        whole = sum(demand[i] for i in open_parts)
        full = [i for i in open_parts if rest * demand[i] >= room[i] * whole]
        if not full:
            break
        for i in full:
            given[i] = room[i]
        rest -= sum(room[i] for i in full)
        open_parts = [i for i in open_parts if i not in full]
    if open_parts:
        whole = sum(demand[i] for i in open_parts)
        for i in open_parts:
            given[i] = rest * demand[i] // whole
        fractions = sorted(open_parts, key=lambda i: (-(rest * demand[i] % whole), i))
        for i in fractions[: rest - sum(given[i] for i in open_parts)]:
            given[i] += 1
    return given


def coverage(order: Order) -> NDArray[np.bool_]:
    """Per neuron or filter, the fewest incoming connections that carry the share alpha."""
    if order.coverage is None:
        raise InputError("ranking 'coverage' needs to know which units read which (Coverage)")
    keep = covered(order.scores, order.layout, order.eligible, order.coverage)
    keys = [np.concatenate(order.scores)]
    return at_least(keep, keys, order.layout, order.eligible, order.min_units)


Ranking = Callable[..., NDArray[np.bool_]]
"""(order, and the ranking's arguments) -> bool[d], the units to keep."""

RANKINGS: Registry[Ranking] = Registry(
    "ranking",
    {
        "layer": by_layer,
        "flat": flat,
        "flat_normalized": flat_normalized,
        "erk": erk,
        "coverage": coverage,
    },
    given=1,
)
"""(`Order`, and its arguments) -> bool[d], the units that a ballot keeps."""


def rank(
    scores: Sequence[NDArray[np.float32]],
    layout: Layout,
    density: float,
    previous: Mask,
    ranking: str = "layer",
    min_units: int = 1,
    coverage: Coverage | None = None,
    widths: tuple[int, ...] = (),
) -> Mask:
    """Return the ballot: the best-scored surviving units.

    Parameters
    ----------
    scores
        One vector float32[units] per layer, higher = more important.
    layout
        Layers and units.
    density
        Share of all d units to keep, 0 < density <= 1: exactly round(density · d) are kept,
        unless `previous` has fewer or `min_units` demands more. ``coverage`` ignores it: there
        alpha decides.
    previous
        The mask so far; the ballot is a subset of it.
    ranking
        One of `RANKINGS`. ``layer`` gives every layer its share of the total in proportion
        to its size; what a layer no longer has goes to the others.
    min_units
        Units every layer keeps, as far as `previous` has them.
    coverage
        For ``coverage``: alpha and the connections of each layer.
    widths
        For ``erk``: units per row of each layer's weight matrix.

    Raises
    ------
    InputError
        For NaN scores (naming the layer), vectors that do not fit the layout, an unknown
        ranking, or a value out of range.
    """
    choose = RANKINGS.bind(ranking)
    if not 0 < density <= 1:
        raise InputError(f"density: got {density}, expected 0 < density <= 1")
    if min_units < 0:
        raise InputError(f"min_units: got {min_units}, expected at least 0")
    if previous.layout != layout:
        raise InputError("the previous mask has other layers than the scores")
    checked = _checked(scores, layout)
    units = units_to_keep(density, layout.total)
    order = Order(checked, layout, units, previous.bools(), min_units, coverage, widths)
    return Mask.from_bools(layout, choose(order))


def _checked(scores: Sequence[NDArray[np.float32]], layout: Layout) -> Scores:
    if len(scores) != len(layout.names):
        raise InputError(f"got scores of {len(scores)} layers, expected {len(layout.names)}")
    for name, units, values in zip(layout.names, layout.units, scores, strict=True):
        if values.shape != (units,):
            raise InputError(
                f"scores of layer {name!r}: got shape {values.shape}, expected ({units},)"
            )
        if np.isnan(values).any():
            raise InputError(f"scores of layer {name!r} contain NaN; did training diverge?")
    return [np.asarray(values, np.float32) for values in scores]
