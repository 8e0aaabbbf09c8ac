"""The comparison: one row per method, its bytes against the baseline's at equal accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from benchmarks.results.measures import (
    Estimate,
    baseline_of,
    bytes_to_accuracy,
    final_accuracy,
    group_runs,
    held_accuracy,
    mean_interval,
    mean_of_all,
    paired_ratios,
    pareto_front,
)
from benchmarks.results.rundata import RunData


@dataclass(frozen=True)
class Row:
    """One method (or variant, or swept value), over its seeds.

    Attributes
    ----------
    method
        Label with swept values.
    label
        The label alone.
    seeds
        The seeds, ascending.
    accuracy
        Final test accuracy, a share.
    density
        Survivors / prunable parameters, mean over seeds; None where nothing is pruned.
    uplink_bytes, downlink_bytes, total_bytes
        Mean over seeds, all clients, rounds and phases.
    ratio
        Total bytes / the baseline's, paired by seed; None for a ceiling or without a baseline.
    target
        The accuracy to reach (mean over seeds); None without a baseline.
    bytes_to_target
        Mean over seeds; None unless every seed reaches its target.
    reached
        Number of seeds that reach their target.
    ratio_at_target
        Bytes to reach the target / the baseline's to reach it, paired by seed.
    ceiling
        Whether the method sends nothing (pooled data), so that bytes say nothing.
    on_front
        Whether no other method ends with at least this accuracy for at most these bytes.
    """

    method: str
    label: str
    seeds: tuple[int, ...]
    accuracy: Estimate
    density: float | None
    density_all_parameters: float | None
    uplink_bytes: float
    downlink_bytes: float
    total_bytes: float
    ratio: Estimate | None
    target: float | None
    bytes_to_target: float | None
    reached: int
    ratio_at_target: Estimate | None
    ceiling: bool
    on_front: bool


def comparison_table(
    runs: Sequence[RunData], baseline: str = "fedavg", margin: float = 0.005
) -> list[Row]:
    """Return one row per method, cheapest first, ceilings last.

    The target accuracy of a seed is what the baseline holds at its end with that seed (see
    `held_accuracy`) minus `margin`; bytes count up to the first evaluated round that reaches it.
    """
    groups = group_runs(runs)
    rows = [_row(name, group, runs, baseline, margin) for name, group in groups.items()]
    rows.sort(key=lambda row: (row.ceiling, row.total_bytes, row.method))
    rivals = [index for index, row in enumerate(rows) if not row.ceiling]
    points = [(rows[index].total_bytes, rows[index].accuracy.mean) for index in rivals]
    front = {rivals[index] for index in pareto_front(points)}
    return [replace(row, on_front=index in front) for index, row in enumerate(rows)]


def _row(
    name: str, group: Sequence[RunData], runs: Sequence[RunData], baseline: str, margin: float
) -> Row:
    ceiling = all(run.is_ceiling for run in group)
    pairs = [(run, baseline_of(run, runs, baseline)) for run in group]
    known = [(run, other) for run, other in pairs if other is not None]
    targets = [held_accuracy(other) - margin for _, other in known]
    reached = [
        (bytes_to_accuracy(run, target), bytes_to_accuracy(other, target))
        for (run, other), target in zip(known, targets, strict=True)
    ]
    mine = [own for own, _ in reached if own is not None]
    all_reached = len(mine) == len(group) and not ceiling
    compared = len(known) == len(group) and not ceiling
    last = [run.rounds[-1] for run in group]
    return Row(
        method=name,
        label=group[0].label,
        seeds=tuple(run.seed for run in group),
        accuracy=mean_interval([final_accuracy(run) for run in group]),
        density=mean_of_all([line.density for line in last]),
        density_all_parameters=mean_of_all([line.density_all_parameters for line in last]),
        uplink_bytes=fmean(line.uplink_bytes for line in last),
        downlink_bytes=fmean(line.downlink_bytes for line in last),
        total_bytes=fmean(line.total_bytes for line in last),
        ratio=paired_ratios([(run.total_bytes, other.total_bytes) for run, other in known])
        if compared
        else None,
        target=mean_of_all(targets),
        bytes_to_target=fmean(mine) if all_reached else None,
        reached=len(mine),
        ratio_at_target=paired_ratios([(own or 0, theirs or 0) for own, theirs in reached])
        if all_reached
        else None,
        ceiling=ceiling,
        on_front=False,
    )
