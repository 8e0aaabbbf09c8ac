"""What each step from the baseline to the method contributes to the bytes it saves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.results.measures import (
    Estimate,
    baseline_of,
    bytes_to_accuracy,
    geometric_interval,
    group_runs,
    held_accuracy,
    paired_ratios,
)
from benchmarks.results.rundata import RunData
from benchmarks.results.settings import setting_text
from benchmarks.units import ratio_text


@dataclass(frozen=True)
class Rung:
    """One step of a ladder.

    Attributes
    ----------
    step
        What is added here, in a word.
    label
        The method or variant that has it.
    bytes
        Bytes to the target: geometric mean over seeds, with its interval.
    ratio
        They / those of the step before, paired by seed; None for the first.
    """

    step: str
    label: str
    bytes: Estimate
    ratio: Estimate | None


@dataclass(frozen=True)
class Ladder:
    """The steps from the first to the last in one setting, at one target.

    Attributes
    ----------
    setting
        The swept values; empty where nothing is swept.
    target
        The accuracy to reach, mean over seeds.
    whole
        Bytes of the last step / those of the first: the product of all ratios.
    """

    setting: str
    target: float
    rungs: tuple[Rung, ...]
    whole: Estimate | None

    @property
    def product(self) -> str:
        """The factors in a line, such as ``164 × = 73.0 × wire × 2.25 × mask``."""
        return f"{_factor(self.whole)} × = {self.parts}"

    @property
    def parts(self) -> str:
        """The same without what they multiply to."""
        words = [_part(rung.step, rung.ratio) for rung in self.rungs if rung.ratio]
        return " ".join(words).removeprefix("× ")


def _part(step: str, ratio: Estimate) -> str:
    """Return what a step saves as a factor, and what it costs as a divisor."""
    if ratio.mean > 1:
        return f"÷ {ratio_text(ratio.mean)} ({step})"
    return f"× {_factor(ratio)} × {step}"


def _factor(ratio: Estimate | None) -> str:
    return ratio_text(1 / ratio.mean if ratio else None)


def ladders(
    runs: Sequence[RunData],
    steps: Mapping[str, str],
    baseline: str,
    margin: float,
    failed: Collection[str] = (),
) -> tuple[list[Ladder], list[str]]:
    """Return a ladder for every setting of the last step, and why others cannot be drawn.

    Parameters
    ----------
    steps
        What each step adds → the method or variant that has it, from the first to the last.
    baseline, margin
        As of `comparison_table`: they say which accuracy is to be reached.
    failed
        Labels that were run, and are not among `runs` because a seed came to no result.
    """
    if not steps:
        return [], []
    absent = [label for label in steps.values() if not any(run.label == label for run in runs)]
    if dead := [label for label in absent if label in failed]:
        return [], [f"No ladder: {', '.join(dead)} failed."]
    if absent:
        return [], [f"No ladder: {', '.join(absent)} was not run."]
    last = list(steps.values())[-1]
    made: list[Ladder] = []
    gaps: list[str] = []
    for group in group_runs([run for run in runs if run.label == last]).values():
        found = _ladder(group, runs, steps, baseline, margin)
        if isinstance(found, Ladder):
            made.append(found)
        else:
            gaps.append(found)
    return made, gaps


def _ladder(
    group: Sequence[RunData],
    runs: Sequence[RunData],
    steps: Mapping[str, str],
    baseline: str,
    margin: float,
) -> Ladder | str:
    """Return the ladder that ends with these repetitions, or why there is none."""
    setting = setting_text(group[0].sweep, list(group[0].sweep))
    where = f" for {setting}" if setting else ""
    bases = [baseline_of(run, runs, baseline) for run in group]
    if None in bases:
        return f"No ladder{where}: {baseline} has no result there with every seed."
    targets = [held_accuracy(run) - margin for run in bases if run is not None]
    spent: dict[str, list[int]] = {}
    for step, label in steps.items():
        members = [run if label == run.label else baseline_of(run, runs, label) for run in group]
        found = [
            run and bytes_to_accuracy(run, target)
            for run, target in zip(members, targets, strict=True)
        ]
        spent[step] = [count for count in found if count]
        if len(spent[step]) < len(group):
            return f"No ladder{where}: {label} does not reach the target with every seed."
    return Ladder(setting, sum(targets) / len(targets), *_climbed(steps, spent))


def _climbed(
    steps: Mapping[str, str], spent: Mapping[str, Sequence[int]]
) -> tuple[tuple[Rung, ...], Estimate | None]:
    def ratio(own: Sequence[int], theirs: Sequence[int]) -> Estimate | None:
        return paired_ratios([*zip(own, theirs, strict=True)])

    counts = list(spent.values())
    ratios = [None, *(ratio(after, before) for before, after in pairwise(counts))]
    rungs = tuple(
        Rung(step, label, geometric_interval(spent[step]), each)
        for (step, label), each in zip(steps.items(), ratios, strict=True)
    )
    return rungs, ratio(counts[-1], counts[0])
