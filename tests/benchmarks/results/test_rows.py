"""The comparison table against hand-computed figures."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report.table import table_csv, table_tex
from benchmarks.results.loading import load_folders
from benchmarks.results.rows import comparison_table
from server.records import Failure
from tests.handmade import run_of


def dead(label: str, seed: int) -> Failure:
    return Failure(label=label, seed=seed, sweep={}, error="the loss is not finite")


def compared() -> dict[str, Any]:
    runs = [
        run_of([(100, 0.5), (200, 0.8), (300, 0.8)], "fedavg", 0),
        run_of([(100, 0.5), (200, 0.6), (400, 0.7)], "fedavg", 1),
        run_of([(10, 0.5), (20, 0.79), (30, 0.8)], "mpfl", 0),
        run_of([(10, 0.1), (30, 0.3), (60, 0.9)], "mpfl", 1),
        run_of([(5, 0.6), (8, 0.7)], "weak", 0),
        run_of([(5, 0.6), (8, 0.7)], "weak", 1),
        run_of([(0, 0.95)], "centralized", 0),
    ]
    return {row.method: row for row in comparison_table(runs, margin=0.02)}


def test_bytes_to_target_are_paired_by_seed() -> None:
    # Targets: seed 0 median(.5, .8, .8) - .02 = .78, seed 1 median(.5, .6, .7) - .02 = .58
    rows = compared()
    assert rows["mpfl"].target == pytest.approx(0.68)
    assert rows["mpfl"].bytes_to_target == pytest.approx((20 + 60) / 2)
    assert rows["fedavg"].bytes_to_target == pytest.approx(200)
    assert rows["mpfl"].ratio_at_target.mean == pytest.approx(math.sqrt(0.1 * 0.3))
    assert rows["fedavg"].ratio_at_target.mean == 1


def test_a_method_that_misses_the_target_with_one_seed_has_no_ratio() -> None:
    weak = compared()["weak"]
    assert (weak.reached, weak.bytes_to_target, weak.ratio_at_target) == (1, None, None)
    assert weak.ratio.mean == pytest.approx(math.sqrt(8 / 300 * 8 / 400))


def test_total_bytes_are_the_mean_over_seeds() -> None:
    mpfl = compared()["mpfl"]
    assert (mpfl.total_bytes, mpfl.uplink_bytes, mpfl.downlink_bytes) == (45, 22.5, 22.5)
    assert mpfl.accuracy.mean == pytest.approx(0.85)
    assert mpfl.seeds == (0, 1)


def test_a_ceiling_comes_last_and_has_no_ratio_and_is_on_no_front() -> None:
    rows = compared()
    assert list(rows)[-1] == "centralized"
    ceiling = rows["centralized"]
    assert (ceiling.ceiling, ceiling.ratio, ceiling.ratio_at_target) == (True, None, None)
    assert [name for name, row in rows.items() if row.on_front] == ["mpfl", "weak"]


def test_what_reaches_the_target_stands_by_those_bytes_and_what_misses_it_by_its_total() -> None:
    early = run_of([(4, 0.9), (1000, 0.9)], "early", 0)
    equal = run_of([(4, 0.9), (900, 0.9)], "equal", 0)
    base = run_of([(500, 0.9)], "fedavg", 0)
    missed = [run_of([(count, 0.1)], f"misses {count}", 0) for count in (3, 2)]
    ceiling = run_of([(0, 0.95)], "centralized", 0)
    rows = comparison_table([ceiling, *missed, base, early, equal])
    assert [row.method for row in rows] == [
        *("equal", "early", "fedavg", "misses 2", "misses 3", "centralized"),
    ]


def test_without_a_baseline_there_is_no_target() -> None:
    (row,) = comparison_table([run_of([(10, 0.5)])])
    assert (row.target, row.ratio, row.bytes_to_target) == (None, None, None)


def test_the_order_of_the_folders_changes_nothing(
    make_comparison: Callable[..., Path], tmp_path: Path
) -> None:
    runs = load_folders([make_comparison(tmp_path / "c")]).runs
    assert comparison_table(runs) == comparison_table(runs[::-1])


def test_a_share_that_equals_baseline_minus_margin_reaches_it() -> None:
    # 5,837 of 6,000 right is 5,852 less 15, a quarter of a point; not so as floats
    runs = [run_of([(100, 5852 / 6000)], "fedavg"), run_of([(10, 5837 / 6000)], "mpfl")]
    (row,) = [row for row in comparison_table(runs, margin=0.0025) if row.label == "mpfl"]
    assert row.bytes_to_target == 10
    assert row.reach_at(0.0).bytes_to_target is None


def test_a_row_with_failed_seeds_counts_them_and_keeps_the_baselines_accuracy() -> None:
    runs = [run_of([(100, 0.9)], "fedavg", seed) for seed in range(3)]
    runs += [run_of([(10, 0.9)], "mpfl", seed) for seed in range(2)]
    rows = {row.label: row for row in comparison_table(runs, failures=[dead("mpfl", 2)])}
    assert (rows["mpfl"].seeds, rows["mpfl"].failed) == ((0, 1, 2), 1)
    assert (rows["mpfl"].reached, rows["mpfl"].ratio_at_target) == (0, None)
    for row in rows.values():
        assert row.target == pytest.approx(0.895)
        assert row.reach_at(0.0).target == pytest.approx(0.9)
    shown = {
        line["method"]: line for line in csv.DictReader(table_csv(list(rows.values())).split("\n"))
    }
    assert shown["mpfl"]["baseline_accuracy"] == shown["fedavg"]["baseline_accuracy"]
    assert "1 of 3 failed" in table_tex(list(rows.values()))


def test_a_seed_whose_baseline_failed_is_no_miss() -> None:
    runs = [run_of([(100, 0.9)], "fedavg", 0)]
    runs += [
        run_of([(10, right)], label, s)
        for label, right in (("mpfl", 0.9), ("topk", 0.2))
        for s in (0, 1)
    ]
    rows = {row.label: row for row in comparison_table(runs, failures=[dead("fedavg", 1)])}
    assert (rows["mpfl"].reached, rows["mpfl"].judged, rows["mpfl"].bytes_to_target) == (1, 1, None)
    assert (rows["topk"].reached, rows["topk"].judged) == (0, 1)
    tex = table_tex(list(rows.values()))
    assert "1 of 1 seeds" in tex
    assert "of 2 seeds" not in tex
