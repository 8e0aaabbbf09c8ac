"""The comparison: one row per method, its bytes against the baseline's at equal accuracy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from math import nan
from statistics import fmean

from benchmarks.results.measures import (
    Estimate,
    baseline_of,
    bits_per_parameter,
    bytes_to_accuracy,
    bytes_with_transport,
    final_accuracy,
    group_runs,
    held_accuracy,
    mean_interval,
    mean_of_all,
    paired_ratios,
    pareto_front,
)
from benchmarks.results.rundata import RunData, run_name
from server.records import DOWNLINK, UPLINK, Failure


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
        Final test accuracy, a share; not a number, as all figures, where every seed failed.
    density
        Survivors / prunable parameters, mean over seeds; None where nothing is pruned.
    uplink_bytes, downlink_bytes, total_bytes
        Mean over seeds, all clients, rounds and phases.
    uplink_bits, downlink_bits
        Bits per parameter, see `bits_per_parameter`: mean over seeds; None where nothing is sent.
    transport_bytes
        Total bytes with what a deployment's sockets add: mean, see `bytes_with_transport`.
    transport_ratio
        They / the baseline's, as `ratio`.
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
    failed
        Number of seeds that came to no result; a row with any is ranked nowhere.
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
    failed: int = 0
    uplink_bits: float | None = None
    downlink_bits: float | None = None
    transport_bytes: float = nan
    transport_ratio: Estimate | None = None


def comparison_table(
    runs: Sequence[RunData],
    baseline: str = "fedavg",
    margin: float = 0.005,
    failures: Sequence[Failure] = (),
) -> list[Row]:
    """Return one row per method, cheapest first, then ceilings, then what failed with any seed.

    Parameters
    ----------
    failures
        Runs that ended without anything to read.

    The target accuracy of a seed is what the baseline holds at its end with that seed (see
    `held_accuracy`) minus `margin`; bytes count up to the first evaluated round that reaches it.
    """
    groups = group_runs(runs)
    sound = [run for run in runs if not run.failed]
    rows = [
        _with_failures(_row(name, group, sound, baseline, margin), group, failures)
        for name, group in groups.items()
    ]
    rows += _dead_rows(failures, groups)
    rows.sort(key=lambda row: (row.failed > 0, row.ceiling, row.total_bytes, row.method))
    rivals = [index for index, row in enumerate(rows) if not row.ceiling and not row.failed]
    points = [(rows[index].total_bytes, rows[index].accuracy.mean) for index in rivals]
    front = {rivals[index] for index in pareto_front(points)}
    return [replace(row, on_front=index in front) for index, row in enumerate(rows)]


def _dead_rows(failures: Sequence[Failure], known: Collection[str]) -> list[Row]:
    """Return a row without figures for everything that failed with every seed."""
    seeds: dict[str, list[Failure]] = {}
    for failure in failures:
        seeds.setdefault(run_name(failure.label, failure.sweep), []).append(failure)
    return [_dead_row(name, found) for name, found in seeds.items() if name not in known]


def _dead_row(name: str, found: Sequence[Failure]) -> Row:
    return Row(
        method=name,
        label=found[0].label,
        seeds=tuple(sorted(failure.seed for failure in found)),
        accuracy=Estimate(nan, None, None, 0),
        density=None,
        density_all_parameters=None,
        uplink_bytes=nan,
        downlink_bytes=nan,
        total_bytes=nan,
        ratio=None,
        target=None,
        bytes_to_target=None,
        reached=0,
        ratio_at_target=None,
        ceiling=False,
        on_front=False,
        failed=len(found),
    )


def _with_failures(row: Row, group: Sequence[RunData], failures: Sequence[Failure]) -> Row:
    """Return a row without whatever would rank it, if any of its runs failed."""
    dead = sum((f.label, f.sweep) == (row.label, dict(group[0].sweep)) for f in failures)
    failed = dead + sum(run.failed is not None for run in group)
    if not failed:
        return row
    return replace(
        row,
        failed=failed,
        ratio=None,
        transport_ratio=None,
        bytes_to_target=None,
        reached=0,
        ratio_at_target=None,
    )


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
        uplink_bits=mean_of_all([bits_per_parameter(run, UPLINK) for run in group]),
        downlink_bits=mean_of_all([bits_per_parameter(run, DOWNLINK) for run in group]),
        transport_bytes=fmean(map(bytes_with_transport, group)),
        transport_ratio=_ratio(known, bytes_with_transport) if compared else None,
        ratio=_ratio(known, lambda run: run.total_bytes) if compared else None,
        target=mean_of_all(targets),
        bytes_to_target=fmean(mine) if all_reached else None,
        reached=len(mine),
        ratio_at_target=paired_ratios([(own or 0, theirs or 0) for own, theirs in reached])
        if all_reached
        else None,
        ceiling=ceiling,
        on_front=False,
    )


def _ratio(
    known: Sequence[tuple[RunData, RunData]], count: Callable[[RunData], int]
) -> Estimate | None:
    return paired_ratios([(count(run), count(other)) for run, other in known])
