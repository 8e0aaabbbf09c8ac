"""The comparison: one row per method, its bytes against the baseline's at equal accuracy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan, nan
from statistics import fmean
from typing import Any

from benchmarks.results.measures import (
    Estimate,
    baseline_of,
    bits_per_parameter,
    bytes_with_transport,
    final_accuracy,
    group_runs,
    mean_interval,
    mean_of_all,
    paired_ratios,
    pareto_front,
)
from benchmarks.results.rundata import RunData, run_name
from benchmarks.results.settings import reading_order, setting_keys, setting_text, variant_text
from benchmarks.results.targets import Reach, reach, target_margins
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
    judged
        Number of seeds that have one: the baseline came to a result with them.
    ratio_at_target
        Bytes to reach the target / the baseline's to reach it, paired by seed.
    reaches
        The same for all targets of `target_margins`, the widest margin first.
    ceiling
        Whether the method sends nothing (pooled data), so that bytes say nothing.
    on_front
        Whether no other method ends with at least this accuracy for at most these bytes.
    failed
        Number of seeds that came to no result; a row with any is ranked nowhere.
    setting
        The swept values of the work, see `setting_keys`; empty where none is swept.
    variant
        The method's name without them.
    sweep
        All swept keys and their values here.
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
    judged: int
    ratio_at_target: Estimate | None
    ceiling: bool
    on_front: bool
    failed: int = 0
    uplink_bits: float | None = None
    downlink_bits: float | None = None
    transport_bytes: float = nan
    transport_ratio: Estimate | None = None
    reaches: tuple[Reach, ...] = ()
    setting: str = ""
    variant: str = ""
    sweep: Mapping[str, Any] = field(default_factory=dict)

    def reach_at(self, margin: float) -> Reach:
        """Return what was needed for the target at a margin."""
        return next((r for r in self.reaches if r.margin == margin), Reach(margin))


def comparison_table(
    runs: Sequence[RunData],
    baseline: str = "fedavg",
    margin: float = 0.005,
    failures: Sequence[Failure] = (),
    best_of: Sequence[str] = (),
) -> list[Row]:
    """Return one row per method, setting by setting, in the order of `place`.

    Parameters
    ----------
    failures
        Runs that ended without anything to read.
    best_of
        Methods or variants of which the best, in each setting, is the second baseline.

    The target accuracy of a seed is what the baseline holds at its end with that seed (see
    `held_accuracy`) minus `margin`; bytes count up to the first evaluated round that reaches it.
    """
    groups = group_runs(runs)
    sound = [run for run in runs if not run.failed]
    keys = setting_keys(runs, baseline)
    rows = [
        replace(
            _with_failures(_row(name, group, sound, baseline, margin, best_of), group, failures),
            setting=setting_text(group[0].sweep, keys),
            variant=variant_text(group[0], keys),
            sweep=group[0].sweep,
        )
        for name, group in groups.items()
    ]
    rows += _dead_rows(failures, groups, keys)
    rows.sort(key=lambda row: (reading_order(row.setting), place(row)))
    front = {name for part in by_setting(rows).values() for name in _front(part)}
    return [replace(row, on_front=row.method in front) for row in rows]


def place(row: Row) -> tuple[bool, bool, bool, float, float, str]:
    """Sort by bytes to the target, then in total; then what misses it, ceilings, what failed."""
    spent = row.bytes_to_target
    total = 0.0 if isnan(row.total_bytes) else row.total_bytes
    return row.failed > 0, row.ceiling, spent is None, spent or total, total, row.method


def by_setting(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each setting."""
    parts: dict[str, list[Row]] = {}
    for row in rows:
        parts.setdefault(row.setting, []).append(row)
    return parts


def _front(rows: Sequence[Row]) -> list[str]:
    rivals = [row for row in rows if not row.ceiling and not row.failed]
    points = [(row.total_bytes, row.accuracy.mean) for row in rivals]
    return [rivals[index].method for index in pareto_front(points)]


def _dead_rows(
    failures: Sequence[Failure], known: Collection[str], keys: Sequence[str]
) -> list[Row]:
    """Return a row without figures for everything that failed with every seed."""
    seeds: dict[str, list[Failure]] = {}
    for failure in failures:
        seeds.setdefault(run_name(failure.label, failure.sweep), []).append(failure)
    return [_dead_row(name, found, keys) for name, found in seeds.items() if name not in known]


def _dead_row(name: str, found: Sequence[Failure], keys: Sequence[str]) -> Row:
    sweep = found[0].sweep
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
        judged=0,
        ratio_at_target=None,
        ceiling=False,
        on_front=False,
        failed=len(found),
        setting=setting_text(sweep, keys),
        variant=run_name(found[0].label, {k: v for k, v in sweep.items() if k not in keys}),
        sweep=sweep,
    )


def _with_failures(row: Row, group: Sequence[RunData], failures: Sequence[Failure]) -> Row:
    """Return a row without whatever would rank it, if any of its runs failed."""
    own = row.label, dict(group[0].sweep)
    dead = [failure.seed for failure in failures if (failure.label, failure.sweep) == own]
    failed = len(dead) + sum(run.failed is not None for run in group)
    if not failed:
        return row
    return replace(
        row,
        seeds=tuple(sorted({*row.seeds, *dead})),
        failed=failed,
        ratio=None,
        transport_ratio=None,
        bytes_to_target=None,
        reached=0,
        ratio_at_target=None,
        reaches=tuple(Reach(reach.margin, reach.target) for reach in row.reaches),
    )


def _row(
    name: str,
    group: Sequence[RunData],
    runs: Sequence[RunData],
    baseline: str,
    margin: float,
    best_of: Sequence[str],
) -> Row:
    ceiling = all(run.is_ceiling for run in group)
    pairs = [(run, baseline_of(run, runs, baseline)) for run in group]
    known = [(run, other) for run, other in pairs if other is not None]
    reaches = {m: reach(group, runs, baseline, m, best_of) for m in target_margins(margin)}
    asked = reaches[margin]
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
        target=asked.target,
        bytes_to_target=asked.bytes_to_target,
        reached=asked.reached,
        judged=asked.judged,
        ratio_at_target=asked.ratio,
        ceiling=ceiling,
        on_front=False,
        reaches=tuple(reaches.values()),
    )


def _ratio(
    known: Sequence[tuple[RunData, RunData]], count: Callable[[RunData], int]
) -> Estimate | None:
    return paired_ratios([(count(run), count(other)) for run, other in known])
