"""The vote laboratory: every rule on the same ballots, and what one tally tells by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfl.errors import InputError
from mpfl.mask import Mask
from mpfl.vote.rules import RULES, VoteContext, check_counts, decide, needs_ballots, trim
from mpfl.vote.tally import Tally

_BINS = 11


@dataclass(frozen=True)
class RuleResult:
    """What one rule makes of a round's ballots.

    Attributes
    ----------
    rule
        The rule as written, e.g. ``quorum(0.7)``.
    mask
        Its mask.
    density
        Kept units / units.
    layer_densities
        The same within each layer.
    overlap_with_budget
        Jaccard overlap with the mask that ``budget`` makes of all ballots.
    mean_overlap_with_ballots
        Mean Jaccard overlap with the ballots.
    ballots
        How many ballots the rule counted.
    """

    rule: str
    mask: Mask
    density: float
    layer_densities: dict[str, float]
    overlap_with_budget: float
    mean_overlap_with_ballots: float
    ballots: int


@dataclass(frozen=True)
class VoteStatistics:
    """What one round's ballots looked like, as far as their tally tells."""

    densities: dict[str, float]
    """Vote rule → the density, a share, that it would have given on these ballots; the run's own
    rule and every built-in one with its usual arguments, as far as a tally suffices for them."""
    unanimity: float
    """Share of the eligible units on which all votes agree, one way or the other."""
    overlap: float
    """Pooled Jaccard overlap: the sum of |A ∩ B| over all pairs of votes divided by that of
    |A ∪ B|, 1.0 for a single one. Equal to the mean of the pairs' overlaps where all unions are
    equally large, and all that a tally can tell; weighted ballots count as that many equal ones."""
    histogram: dict[str, list[int]]
    """Layer → eligible units by their share of votes v, in 11 bins whatever the number of ballots:
    v = 0, then 0 < v <= 0.1, …, 0.9 < v <= 1."""


def default_rules(with_ballots: bool = True, own: bool = True) -> list[str]:
    """Return one spec for every rule.

    Parameters
    ----------
    with_ballots
        Whether to include those that a tally does not suffice for.
    own
        Whether to include those that do not come with the library.
    """
    specs = [RULES[name].example for name in (RULES.names() if own else RULES.built_in())]
    return [spec for spec in specs if with_ballots or not needs_ballots(spec)]


def compare_rules(
    ballots: Sequence[Mask],
    context: VoteContext,
    weights: Sequence[int] | None = None,
    rules: Sequence[str] | None = None,
) -> list[RuleResult]:
    """Apply several rules to the same ballots.

    Parameters
    ----------
    ballots
        The recorded ballots of one round, at least one.
    context
        Target density, previous mask and so on.
    weights
        Votes per ballot, e.g. samples per client (None: one each).
    rules
        Specs of the rules (None: every registered one).

    Raises
    ------
    InputError
        For no ballots, weights of another number, or an unknown rule.
    """
    weights = [1] * len(ballots) if weights is None else weights
    if len(weights) != len(ballots):
        raise InputError(f"got {len(weights)} weights for {len(ballots)} ballots")
    reference = _result("budget", ballots, weights, context)[0]
    results = []
    for spec in default_rules() if rules is None else rules:
        mask, counted = _result(spec, ballots, weights, context)
        results.append(
            RuleResult(
                rule=spec,
                mask=mask,
                density=mask.density(),
                layer_densities=mask.layer_densities(),
                overlap_with_budget=mask.jaccard(reference),
                mean_overlap_with_ballots=float(np.mean([mask.jaccard(b) for b in ballots])),
                ballots=counted,
            )
        )
    return results


def vote_statistics(
    counts: NDArray[np.uint32],
    total: int,
    context: VoteContext,
    rules: Sequence[str] | None = None,
    used: str = "",
) -> VoteStatistics:
    """Describe one tally without its ballots.

    Parameters
    ----------
    counts, total, context
        As for `decide`.
    rules
        Rules to try (None: every built-in one that a tally suffices for, and `used`).
    used
        The run's own rule, if it votes. Others that somebody has registered are left alone: what
        a run records does not depend on what else a session holds.
    """
    check_counts(counts, total, context.layout)
    specs = _tried(used) if rules is None else rules
    eligible = context.eligible
    split = np.count_nonzero((counts > 0) & (counts < total) & eligible)
    return VoteStatistics(
        densities={spec: decide(spec, counts, total, context).density() for spec in specs},
        unanimity=1.0 - int(split) / max(1, int(np.count_nonzero(eligible))),
        overlap=pooled_overlap(counts, total),
        histogram={
            name: vote_histogram(counts[part][eligible[part]], total)
            for name, part in zip(context.layout.names, context.layout.slices(), strict=True)
        },
    )


def _tried(used: str) -> list[str]:
    """Return the built-in rules, and the used one, as far as a tally suffices for them."""
    specs = default_rules(with_ballots=False, own=False)
    return [*specs, used] if used and used not in specs and not needs_ballots(used) else specs


def pooled_overlap(counts: NDArray[np.uint32], total: int) -> float:
    """Return Σ|A ∩ B| / Σ|A ∪ B| over all pairs of votes, from their tally alone.

    A unit with V of K votes is in V(V-1)/2 intersections and in K(K-1)/2 - (K-V)(K-V-1)/2
    unions. 1.0 where there is nothing to compare.
    """
    votes = counts.astype(np.float64)
    both = float(np.sum(votes * (votes - 1)))
    either = float(np.sum(votes * (2.0 * total - votes - 1)))
    return both / either if either else 1.0


def vote_histogram(counts: NDArray[np.uint32], total: int) -> list[int]:
    """Count units by votes: none, then in ten equal classes up to all; see `VoteStatistics`."""
    classes = (counts.astype(np.uint64) * np.uint64(_BINS - 1) + np.uint64(total - 1)) // total
    return [int(n) for n in np.bincount(classes.astype(np.intp), minlength=_BINS)]


def tally_for(
    spec: str, ballots: Sequence[Mask], weights: Sequence[int], context: VoteContext
) -> Tally:
    """Count recorded ballots the way a rule wants them: all, or those that `trim` leaves."""
    if not ballots:
        raise InputError("a vote needs at least one ballot")
    kept = trim(ballots, spec) if needs_ballots(spec) else range(len(ballots))
    tally = Tally(context.layout)
    for i in kept:
        tally.add(ballots[i], weights[i])
    return tally


def _result(
    spec: str, ballots: Sequence[Mask], weights: Sequence[int], context: VoteContext
) -> tuple[Mask, int]:
    tally = tally_for(spec, ballots, weights, context)
    return decide(spec, tally.counts(), tally.weight, context), tally.ballots
