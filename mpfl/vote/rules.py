"""Vote rules: from the tally of a round's ballots to the new global mask."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mpfl.errors import InputError, shown
from mpfl.mask import Layout, Mask
from mpfl.ranking.selection import at_least, best_overall, best_per_layer, mark_top, units_to_keep
from mpfl.registry import Registry


@dataclass(frozen=True)
class VoteContext:
    """What the server knows besides the ballots.

    Attributes
    ----------
    layout
        Layers and units.
    density
        Target density of the round over all d units, 0 < density <= 1.
    previous
        The mask of the round before, C_{t-1}; the result is a subset of it.
    tie_break
        float32[d], larger is kept first among equal votes; |w0| of every unit.
    tie
        What a tied majority does: ``prune`` or ``keep``.
    min_units
        Units every layer keeps, as far as `previous` has them.
    allow_regrow
        Whether units outside `previous` may be kept.
    """

    layout: Layout
    density: float
    previous: Mask
    tie_break: NDArray[np.float32]
    tie: str = "prune"
    min_units: int = 1
    allow_regrow: bool = False

    def __post_init__(self) -> None:
        if self.previous.layout != self.layout:
            raise InputError("the previous mask has other layers than the vote")
        if self.tie_break.shape != (self.layout.total,):
            raise InputError(
                f"tie_break: got shape {self.tie_break.shape}, expected ({self.layout.total},)"
            )
        if np.isnan(self.tie_break).any():
            raise InputError("tie_break contains NaN")
        if self.tie not in ("prune", "keep"):
            raise InputError(f"tie: got {self.tie!r}, expected 'prune' or 'keep'")
        if not 0 < self.density <= 1:
            raise InputError(f"density: got {self.density}, expected 0 < density <= 1")
        if self.min_units < 0:
            raise InputError(f"min_units: got {self.min_units}, expected at least 0")

    @cached_property
    def eligible(self) -> NDArray[np.bool_]:
        """bool[d]: the units that may be kept."""
        if self.allow_regrow:
            return np.ones(self.layout.total, np.bool_)
        return self.previous.bools()

    @property
    def units(self) -> int:
        """Units to keep in all, round(density · d)."""
        return units_to_keep(self.density, self.layout.total)


@dataclass(frozen=True)
class Vote:
    """One tally as a rule sees it: counts uint32[d], their possible maximum, the context."""

    counts: NDArray[np.uint32]
    total: int
    context: VoteContext

    @property
    def order(self) -> tuple[NDArray[np.generic], ...]:
        """Keys that order units: votes, then the tie-break."""
        return self.counts, self.context.tie_break


@dataclass(frozen=True)
class Rule:
    """A vote rule.

    Attributes
    ----------
    choose
        (vote, and the rule's arguments) -> bool[d], the units to keep; `decide` adds what holds
        for all rules. The first line of its docstring describes the rule.
    example
        The rule as one would write it in a configuration.
    select
        (a round's ballots, and the rule's arguments) -> the places of those that the tally
        counts, in order. None: it counts all, so that none must be held.
    """

    choose: Callable[..., NDArray[np.bool_]]
    example: str
    select: Callable[..., list[int]] | None = None

    @property
    def needs_ballots(self) -> bool:
        """Whether the rule has to see the ballots before they are counted."""
        return self.select is not None

    @property
    def description(self) -> str:
        """One line for listings."""
        return (self.choose.__doc__ or "").strip().partition("\n")[0]


def majority(vote: Vote) -> NDArray[np.bool_]:
    """Keep a unit that more than half of the votes keep."""
    twice = vote.counts.astype(np.uint64) * np.uint64(2)
    if vote.context.tie == "keep":
        return np.asarray(twice >= vote.total)
    return np.asarray(twice > vote.total)


def unanimous(vote: Vote) -> NDArray[np.bool_]:
    """Keep a unit that every vote keeps."""
    return np.asarray(vote.counts == vote.total)


def any_vote(vote: Vote) -> NDArray[np.bool_]:
    """Keep a unit that at least one vote keeps."""
    return np.asarray(vote.counts > 0)


def quorum(vote: Vote, q: Fraction) -> NDArray[np.bool_]:
    """Keep a unit that at least the share q of the votes keeps."""
    if not 0 < q <= 1:
        raise InputError(f"the quorum must be above 0 and at most 1, got {float(q):g}")
    return np.asarray(vote.counts >= math.ceil(q * vote.total))


def budget(vote: Vote) -> NDArray[np.bool_]:
    """Keep exactly density · d units, those with the most votes; ties by |w0|, then index."""
    context = vote.context
    return best_overall(
        vote.order, context.layout, context.eligible, context.units, context.min_units
    )


def layer_budget(vote: Vote) -> NDArray[np.bool_]:
    """Keep exactly the target density within each layer, by votes; ties as in budget."""
    context = vote.context
    return best_per_layer(
        vote.order, context.layout, context.eligible, context.units, context.min_units
    )


def layer_mean(vote: Vote) -> NDArray[np.bool_]:
    """Keep within each layer as many units as ballots keep there on average; ties as in budget.

    The density is that of the ballots, layer by layer: what rankings like ``erk`` mean, and what
    regrowth must leave as it is.
    """
    context = vote.context
    keep = np.zeros(context.layout.total, np.bool_)
    for part in context.layout.slices():
        votes = int(vote.counts[part].sum(dtype=np.int64))
        count = (2 * votes + vote.total) // (2 * vote.total)
        keep[part] = mark_top([key[part] for key in vote.order], context.eligible[part], count)
    return keep


def layer_threshold(vote: Vote) -> NDArray[np.bool_]:
    """Per layer the highest vote threshold that still keeps the target density.

    The paper's dynamic threshold (Gez & Cohen, arXiv 2312.03889), starting high and going down
    only as far as the density demands. It stops at one vote: a unit nobody voted for is not
    kept to fill a layer.
    """
    context = vote.context
    keep = np.zeros(context.layout.total, np.bool_)
    for part in context.layout.slices():
        counts = np.where(context.eligible[part], vote.counts[part], 0)
        needed = max(1, math.ceil(context.density * counts.size - 1e-9))
        place = counts.size - needed
        keep[part] = counts >= max(1, int(np.partition(counts, place)[place]))
    return keep


def histogram(vote: Vote, p: float) -> NDArray[np.bool_]:
    """Per layer, keep what reaches the p-th percentile of the tally over its surviving units.

    The percentile is that of the votes per unit, as NumPy interpolates it, not of the pooled
    zeros and ones of all ballots. A unit nobody voted for is never kept.
    """
    if not 0 <= p <= 100:
        raise InputError(f"the percentile must be between 0 and 100, got {p:g}")
    context = vote.context
    keep = np.zeros(context.layout.total, np.bool_)
    for part in context.layout.slices():
        counts = vote.counts[part]
        surviving = counts[context.eligible[part]]
        if surviving.size:
            keep[part] = counts >= max(1.0, float(np.percentile(surviving, p)))
    return keep


def trimmed(vote: Vote, f: Fraction) -> NDArray[np.bool_]:
    """Budget without the f ballots (f < 1: that share) that agree least with the rest."""
    _check_left_out(f)
    return budget(vote)


def agreeing(ballots: Sequence[Mask], f: Fraction) -> list[int]:
    """Return the places of all ballots but the f (f < 1: that share) that agree least.

    A ballot's agreement is the median of its Jaccard overlaps with the others, so that fewer
    than half of the ballots cannot vouch for one another. Of equally agreeing ballots the later
    ones go first.
    """
    _check_left_out(f)
    left = len(ballots) - math.floor(f * len(ballots) if f < 1 else f)
    if left == len(ballots):
        return list(range(left))
    agreement = ballot_agreement(ballots)
    ranked = sorted(range(len(ballots)), key=lambda i: (-agreement[i], i))
    return sorted(ranked[: max(left, 0)])


def _check_left_out(f: Fraction) -> None:
    if f < 0 or (f >= 1 and f.denominator != 1):
        expected = "a whole number of ballots or a share below 1"
        raise InputError(f"got f = {float(f):g}, expected {expected}")


RULES: Registry[Rule] = Registry(
    "vote rule",
    {
        "majority": Rule(majority, "majority"),
        "unanimous": Rule(unanimous, "unanimous"),
        "any": Rule(any_vote, "any"),
        "quorum": Rule(quorum, "quorum(0.7)"),
        "budget": Rule(budget, "budget"),
        "layer_budget": Rule(layer_budget, "layer_budget"),
        "layer_mean": Rule(layer_mean, "layer_mean"),
        "layer_threshold": Rule(layer_threshold, "layer_threshold"),
        "histogram": Rule(histogram, "histogram(50)"),
        "trimmed": Rule(trimmed, "trimmed(0.2)", agreeing),
    },
    given=1,
    functions=("choose", "select"),
)
"""Vote rules: from a `Vote` to the units to keep."""


def decide(spec: str, counts: NDArray[np.uint32], total: int, context: VoteContext) -> Mask:
    """Apply a vote rule to a tally.

    Parameters
    ----------
    spec
        A rule and its argument, e.g. ``"quorum(0.7)"``.
    counts
        Votes of every unit, uint32[d]; weighted ballots count by their weight. For a rule that
        needs ballots: only of the ballots that `trim` left.
    total
        Sum of the weights of the ballots counted, i.e. the votes of a unanimous unit.
    context
        The target and what else the server knows.

    Returns
    -------
    Mask
        A subset of `context.previous` (unless regrowth is allowed) with at least
        `context.min_units` units in every layer that had as many.

    Raises
    ------
    InputError
        For an unknown rule, a bad argument, no ballots, or counts that do not fit.
    """
    rule = RULES.bind(spec)
    check_counts(counts, total, context.layout)
    vote = Vote(counts, total, context)
    chosen = rule.choose(vote)
    if getattr(chosen, "dtype", None) != np.bool_ or np.shape(chosen) != counts.shape:
        raise InputError(f"{spec!r} chose {shown(chosen)}, expected bool[{context.layout.total}]")
    keep = chosen & context.eligible
    keep = at_least(keep, vote.order, context.layout, context.eligible, context.min_units)
    return Mask.from_bools(context.layout, keep)


def needs_ballots(spec: str) -> bool:
    """Tell whether the rule has to see the ballots, so that a tally alone is not enough."""
    return RULES.bind(spec).needs_ballots


def trim(ballots: Sequence[Mask], spec: str) -> list[int]:
    """Return the places of the ballots that a rule counts, in order.

    Raises
    ------
    InputError
        If the rule's arguments do not fit, or it would count none of the ballots.
    """
    select = RULES.bind(spec).select
    places = list(range(len(ballots)))
    counted = select(ballots) if select else places
    if not isinstance(counted, list) or sorted(counted) != [n for n in places if n in counted]:
        among = f"a list of places from 0 to {len(ballots) - 1}, each once"
        raise InputError(f"{spec!r} counts the ballots {shown(counted)}, expected {among}")
    if not counted:
        raise InputError(f"{spec!r} leaves none of {len(ballots)} ballots")
    return counted


def ballot_agreement(ballots: Sequence[Mask]) -> list[float]:
    """Return each ballot's median Jaccard overlap with the other ballots."""
    overlap = np.zeros((len(ballots), len(ballots)))
    for i, ballot in enumerate(ballots):
        for j in range(i):
            overlap[i, j] = overlap[j, i] = ballot.jaccard(ballots[j])
    return [
        float(np.median(np.delete(row, i))) if row.size > 1 else 1.0
        for i, row in enumerate(overlap)
    ]


def check_counts(counts: NDArray[np.uint32], total: int, layout: Layout) -> None:
    """Raise InputError unless `counts` can be the tally of `total` votes over `layout`."""
    if total < 1:
        raise InputError("a vote needs at least one ballot")
    if counts.shape != (layout.total,) or counts.dtype != np.uint32:
        raise InputError(
            f"counts: got {counts.dtype}{list(counts.shape)}, expected uint32[{layout.total}]"
        )
    if int(counts.max()) > total:
        raise InputError(f"counts: a unit has {int(counts.max())} of {total} votes")
