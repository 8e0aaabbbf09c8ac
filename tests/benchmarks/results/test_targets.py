"""Several targets, and a second baseline that is the best of several."""

from __future__ import annotations

import math

import pytest

from benchmarks.results.rows import comparison_table
from benchmarks.results.targets import target_margins
from tests.handmade import run_of

FEDAVG = [(100, 0.5), (200, 0.88), (400, 0.9), (500, 0.9), (600, 0.9)]
MPFL = [(10, 0.5), (20, 0.89), (50, 0.9)]


def test_without_a_margin_there_is_one_target() -> None:
    assert target_margins(0.0) == (0.0,)
    assert target_margins(0.04) == (0.08, 0.04, 0.02, 0.0)


def test_the_baselines_own_accuracy_is_a_target_too() -> None:
    runs = [run_of(FEDAVG, "fedavg"), run_of(MPFL, "mpfl")]
    (row,) = [row for row in comparison_table(runs, margin=0.02) if row.label == "mpfl"]
    spent = {reach.margin: reach.bytes_to_target for reach in row.reaches}
    assert spent == {0.04: 20, 0.02: 20, 0.01: 20, 0.0: 50}
    ratios = {reach.margin: reach.ratio.mean for reach in row.reaches if reach.ratio}
    assert ratios == pytest.approx({0.04: 0.1, 0.02: 0.1, 0.01: 0.05, 0.0: 0.125})
    assert row.ratio_at_target == row.reach_at(0.02).ratio
    assert row.reach_at(0.0).target == pytest.approx(0.9)


def test_the_second_baseline_is_the_best_that_reaches_the_target_in_each_setting() -> None:
    runs = []
    for kind, one, two in (("a", 80, 300), ("b", 300, 60)):
        sweep = {"data.partition": kind}
        for seed in (0, 1):
            runs += [
                run_of(FEDAVG, "fedavg", seed, sweep),
                run_of([(one + seed, 0.9)], "fedavg_2", seed, sweep),
                run_of([(two + seed, 0.9)], "fedavg_5", seed, sweep),
                run_of([(1, 0.2)], "never", seed, sweep),
                run_of([(20, 0.9)], "mpfl", seed, sweep),
            ]
    best_of = ["fedavg", "fedavg_2", "fedavg_5", "never"]
    rows = {row.method: row for row in comparison_table(runs, margin=0.0, best_of=best_of)}
    for kind, best, cost in (("a", "fedavg_2", 80), ("b", "fedavg_5", 60)):
        reach = rows[f"mpfl partition={kind}"].reach_at(0.0)
        assert reach.best == best
        assert reach.best_ratio is not None
        assert reach.best_ratio.mean == pytest.approx(20 / math.sqrt(cost * (cost + 1)))
    assert comparison_table(runs)[0].reaches[0].best == ""
