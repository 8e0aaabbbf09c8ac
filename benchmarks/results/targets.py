"""Bytes to equal accuracy: several targets, against the baseline and the best of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from benchmarks.results.measures import (
    Estimate,
    baseline_of,
    bytes_to_accuracy,
    held_accuracy,
    mean_of_all,
    paired_ratios,
)
from benchmarks.results.rundata import RunData


@dataclass(frozen=True)
class Reach:
    """What a method needs for one target.

    Attributes
    ----------
    margin
        The target of a seed is what the baseline holds at its end with that seed minus this.
    target
        The accuracy to reach (mean over seeds); None without a baseline.
    bytes_to_target
        Mean over seeds; None unless every seed reaches its target.
    reached
        Number of seeds that reach their target.
    judged
        Number of seeds that have one: the baseline came to a result with them.
    ratio
        Bytes to reach the target / the baseline's to reach it, paired by seed: geometric mean.
    best
        The second baseline: of several candidates the one that needs the fewest bytes for the
        target with the same seeds and setting; empty where none reaches it.
    best_ratio
        Bytes to reach the target / the second baseline's.
    """

    margin: float
    target: float | None = None
    bytes_to_target: float | None = None
    reached: int = 0
    judged: int = 0
    ratio: Estimate | None = None
    best: str = ""
    best_ratio: Estimate | None = None


def target_margins(margin: float) -> tuple[float, ...]:
    """Return the margins of all targets, widest first: twice, as asked, half of it, and none.

    Examples
    --------
    >>> target_margins(0.005), target_margins(0)
    ((0.01, 0.005, 0.0025, 0.0), (0.0,))
    """
    return tuple(sorted({2.0 * margin, margin, margin / 2, 0.0}, reverse=True))


def reach(
    group: Sequence[RunData],
    runs: Sequence[RunData],
    baseline: str,
    margin: float,
    best_of: Sequence[str] = (),
) -> Reach:
    """Return what the repetitions of a method need for the target at a margin.

    Parameters
    ----------
    runs
        Where the baseline's runs are, and those of the candidates `best_of`.
    """
    pairs = [(run, baseline_of(run, runs, baseline)) for run in group]
    known = [(run, held_accuracy(other) - margin) for run, other in pairs if other is not None]
    own = [bytes_to_accuracy(run, target) for run, target in known]
    mine = [spent for spent in own if spent is not None]
    ceiling = all(run.is_ceiling for run in group)
    target = mean_of_all([target for _, target in known])
    result = Reach(margin, target, reached=len(mine), judged=len(known))
    if ceiling or len(mine) < len(group):
        return result
    rivals = {label: _spent(label, known, runs) for label in dict.fromkeys([baseline, *best_of])}
    candidates = [label for label in best_of if None not in rivals[label]]
    best = min(candidates, key=lambda name: fmean(n or 0 for n in rivals[name]), default="")
    return replace(
        result,
        bytes_to_target=fmean(mine),
        ratio=_ratio(mine, rivals[baseline]),
        best=best,
        best_ratio=_ratio(mine, rivals[best]) if best else None,
    )


def _spent(
    label: str, known: Sequence[tuple[RunData, float]], runs: Sequence[RunData]
) -> list[int | None]:
    """Return the bytes that a method needs for each of these targets on the same work."""
    others = [(baseline_of(run, runs, label), target) for run, target in known]
    return [bytes_to_accuracy(run, target) if run else None for run, target in others]


def _ratio(own: Sequence[float], theirs: Sequence[float | None]) -> Estimate | None:
    return paired_ratios([(a, b or 0) for a, b in zip(own, theirs, strict=True)])
