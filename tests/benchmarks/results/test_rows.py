"""Measures on runs, against hand-computed figures and brute force."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.results.loading import load_folders, load_run
from benchmarks.results.measures import (
    Link,
    accuracy_within,
    area_under_curve,
    baseline_of,
    byte_composition,
    bytes_to_accuracy,
    client_spread,
    common_rounds,
    final_accuracy,
    geometric_interval,
    group_runs,
    held_accuracy,
    mean_interval,
    paired_ratios,
    pareto_front,
    transfer_seconds,
)
from benchmarks.results.rows import comparison_table
from benchmarks.results.rundata import KINDS, Ledger, Round, RunData

EMPTY = np.zeros(0, np.int64)


def ledger(rows: Sequence[tuple[int, int, bool, int]]) -> Ledger:
    """Build a ledger of (round, client, uplink, bytes), all of it values."""
    table = np.array([row[:2] + row[3:] for row in rows], np.int64).reshape(-1, 3)
    sizes = table[:, 2]
    return Ledger(
        round=table[:, 0],
        client=table[:, 1],
        phase=("train",) * len(rows),
        uplink=np.array([row[2] for row in rows], np.bool_),
        kinds={kind: sizes if kind == "values" else np.zeros_like(sizes) for kind in KINDS},
        message_bytes=sizes,
        formula_bytes=np.full(len(rows), np.nan),
        bound_bytes=np.full(len(rows), np.nan),
    )


def run_of(
    points: Sequence[tuple[int, float | None]],
    label: str = "mpfl",
    seed: int = 0,
    sweep: dict[str, Any] | None = None,
    messages: Ledger | None = None,
) -> RunData:
    """Build a run from (total bytes, accuracy) per round."""
    rounds = tuple(
        Round(
            round=number,
            phase="train",
            uplink_bytes=total // 2,
            downlink_bytes=total - total // 2,
            total_bytes=total,
            density=0.5,
            test_accuracy=accuracy,
        )
        for number, (total, accuracy) in enumerate(points, start=1)
    )
    return RunData(
        folder="f",
        label=label,
        method=label,
        seed=seed,
        sweep=sweep or {},
        config={},
        rounds=rounds,
        ledger=messages or ledger([]),
        summary={},
    )


curves = st.lists(
    st.tuples(st.integers(1, 1000), st.one_of(st.none(), st.floats(0, 1))), min_size=1, max_size=12
).map(
    lambda steps: run_of([(sum(s[0] for s in steps[: i + 1]), a) for i, (_, a) in enumerate(steps)])
)


class TestIntervals:
    def test_the_interval_is_students_t(self) -> None:
        estimate = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
        # t(0.975, 4) = 2.776445, standard deviation sqrt(2.5), n = 5
        assert estimate.mean == 3.0
        assert estimate.half_width == pytest.approx(2.776445 * math.sqrt(2.5 / 5), rel=1e-6)
        assert estimate.count == 5

    def test_a_single_value_has_no_interval(self) -> None:
        assert mean_interval([0.9]).half_width is None

    def test_no_value_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="at least one"):
            mean_interval([])

    def test_the_interval_of_ratios_is_symmetric_in_logarithms(self) -> None:
        estimate = geometric_interval([0.1, 0.2, 0.4])
        assert estimate.mean == pytest.approx(0.2)
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low * estimate.high == pytest.approx(0.04)
        # logarithms -ln 2, 0, ln 2: deviation ln 2; t(0.975, 2) = 4.302653
        assert estimate.high == pytest.approx(0.2 * math.exp(4.302653 * math.log(2) / 3**0.5))

    def test_ratios_must_be_positive(self) -> None:
        with pytest.raises(ValueError, match="positive"):
            geometric_interval([0.0, 1.0])

    def test_pairing_cancels_what_seeds_share(self) -> None:
        pairs = [(10.0, 100.0), (30.0, 300.0), (7.0, 70.0)]
        ratio = paired_ratios(pairs)
        assert ratio is not None
        assert ratio.mean == pytest.approx(0.1)
        assert ratio.half_width == pytest.approx(0, abs=1e-12)

    def test_a_ratio_to_nothing_is_no_ratio(self) -> None:
        assert paired_ratios([(1.0, 0.0)]) is None
        assert paired_ratios([]) is None


class TestAccuracyAndBytes:
    RUN = run_of([(10, 0.2), (20, None), (30, 0.9), (40, 0.7), (50, 0.8)])

    def test_bytes_count_at_the_first_evaluated_round_that_reaches(self) -> None:
        assert bytes_to_accuracy(self.RUN, 0.2) == 10
        assert bytes_to_accuracy(self.RUN, 0.21) == 30
        assert bytes_to_accuracy(self.RUN, 0.75) == 30
        assert bytes_to_accuracy(self.RUN, 0.91) is None

    def test_a_budget_buys_the_last_model_not_the_best(self) -> None:
        assert accuracy_within(self.RUN, 9) is None
        assert accuracy_within(self.RUN, 29) == 0.2
        assert accuracy_within(self.RUN, 40) == 0.7
        assert accuracy_within(self.RUN, 1e9) == 0.8

    def test_the_final_accuracy_is_the_last_not_the_best(self) -> None:
        assert final_accuracy(self.RUN) == 0.8

    def test_the_held_accuracy_ignores_a_peak_and_a_bad_last_round(self) -> None:
        peaks = run_of([(n, a) for n, a in enumerate([0.1, 0.8, 0.99, 0.81, 0.79, 0.3], 1)])
        assert held_accuracy(peaks) == 0.79
        assert held_accuracy(peaks, window=1) == 0.3

    def test_without_any_evaluation_the_error_names_the_file(self) -> None:
        for measure in (final_accuracy, held_accuracy):
            with pytest.raises(ValueError, match=r"rounds\.jsonl"):
                measure(run_of([(10, None)]))

    @given(curves, st.floats(0, 1))
    def test_what_reaches_an_accuracy_also_buys_it(self, run: RunData, accuracy: float) -> None:
        needed = bytes_to_accuracy(run, accuracy)
        if needed is None:
            assert all(line.test_accuracy < accuracy for line in run.evaluated)
        else:
            assert accuracy_within(run, needed) >= accuracy
            assert not any(
                line.test_accuracy >= accuracy
                for line in run.evaluated
                if line.total_bytes < needed
            )

    @given(curves, st.integers(1, 500), st.integers(501, 9000))
    def test_the_area_is_the_integral_of_the_step_function(
        self, run: RunData, low: int, high: int
    ) -> None:
        edges = np.exp(np.linspace(math.log(low), math.log(high), 4001))
        middles = np.sqrt(edges[:-1] * edges[1:])
        brute = float(np.mean([accuracy_within(run, b) or 0.0 for b in middles]))
        assert area_under_curve(run, low, high) == pytest.approx(brute, abs=0.01)

    @pytest.mark.parametrize(("low", "high"), [(0, 10), (10, 10), (20, 10)])
    def test_an_empty_range_has_no_area(self, low: int, high: int) -> None:
        with pytest.raises(ValueError, match="low < high"):
            area_under_curve(self.RUN, low, high)

    def test_curves_of_seeds_meet_in_the_rounds_all_evaluated(self) -> None:
        first = run_of([(10, 0.5), (20, None), (30, 0.7)])
        second = run_of([(12, 0.7), (24, 0.8)], seed=1)
        ((cost, estimate, number),) = common_rounds([first, second])
        assert (cost, estimate.mean, number) == (11.0, pytest.approx(0.6), 1)


points = st.lists(
    st.tuples(st.integers(0, 6).map(float), st.integers(0, 6).map(float)), max_size=12
)


class TestParetoFront:
    @given(points)
    def test_the_front_is_what_brute_force_finds_unbeaten(
        self, cloud: list[tuple[float, float]]
    ) -> None:
        def beaten(a: tuple[float, float]) -> bool:
            return any(b != a and b[0] <= a[0] and b[1] >= a[1] for b in cloud)

        assert sorted(pareto_front(cloud)) == [i for i, p in enumerate(cloud) if not beaten(p)]

    @given(points)
    def test_the_front_rises(self, cloud: list[tuple[float, float]]) -> None:
        front = [cloud[index] for index in pareto_front(cloud)]
        assert front == sorted(front)


class TestBytes:
    def test_the_composition_adds_up_to_the_csv(
        self, make_run: Callable[..., Path], tmp_path: Path
    ) -> None:
        folder = make_run(tmp_path / "run", method="ssfl", sizes=(700, 900, 0.5))
        sums: dict[tuple[str, str], int] = {}
        with (folder / "ledger.csv").open() as file:
            for row in csv.DictReader(file):
                for kind in KINDS:
                    key = row["direction"], kind
                    sums[key] = sums.get(key, 0) + int(row[f"{kind}_bytes"])
        parts = byte_composition(load_run(folder))
        assert {(d, k): v for d, kinds in parts.items() for k, v in kinds.items()} == sums
        assert sums["uplink", "scores"] > 0

    def test_a_round_waits_for_its_slowest_client(self) -> None:
        link = Link(
            "test", uplink_bits_per_second=8, downlink_bits_per_second=80, round_trip_seconds=1
        )
        messages = ledger(
            [
                (1, 0, False, 100),  # 10 s down
                (1, 0, True, 5),  # + 5 s up + 1 s
                (1, 1, False, 100),
                (1, 1, True, 20),  # 10 + 20 + 1 = 31 s: the slowest
                (2, 0, False, 10),  # 1 + 1 s; never answers
            ]
        )
        assert transfer_seconds(run_of([(235, 0.5)], messages=messages), link) == pytest.approx(33)

    def test_no_messages_take_no_time(self) -> None:
        assert transfer_seconds(run_of([(0, 0.5)]), Link("x", 1, 1, 1)) == 0


class TestSpread:
    def test_the_spread_is_of_the_summary_or_else_of_the_last_round(self) -> None:
        run = run_of([(1, 0.5)])
        assert client_spread(run) is None
        lines = (replace(run.rounds[0], client_accuracy=(0.1, 0.5, 0.9)),)
        spread = client_spread(replace(run, rounds=lines))
        assert spread is not None
        assert (spread.lowest, spread.median, spread.highest, spread.clients) == (0.1, 0.5, 0.9, 3)
        assert spread.deviation == pytest.approx(math.sqrt(0.32 / 3))
        spread = client_spread(replace(run, rounds=lines, summary={"client_accuracy": [1.0]}))
        assert spread is not None
        assert spread.lowest == 1.0

    def test_a_client_without_samples_is_left_out(self) -> None:
        run = replace(run_of([(1, 0.5)]), summary={"client_accuracy": [0.5, math.nan]})
        spread = client_spread(run)
        assert spread is not None
        assert spread.clients == 1


class TestBaseline:
    def test_the_baseline_has_the_same_seed_and_sweep(self) -> None:
        runs = [
            run_of([(1, 0.5)], "fedavg", seed, {"prune.density": density})
            for seed in (0, 1)
            for density in (0.1, 0.5)
        ]
        mine = run_of([(1, 0.5)], "mpfl", 1, {"prune.density": 0.5})
        assert baseline_of(mine, runs, "fedavg") is runs[3]
        assert baseline_of(replace(mine, seed=7), runs, "fedavg") is None

    def test_a_baseline_that_was_not_swept_serves_every_value(self) -> None:
        base = run_of([(1, 0.5)], "fedavg")
        mine = run_of([(1, 0.5)], "mpfl", 0, {"prune.density": 0.5})
        assert baseline_of(mine, [mine, base], "fedavg") is base

    def test_an_ambiguous_baseline_is_none(self) -> None:
        runs = [run_of([(1, 0.5)], "fedavg", 0, {"train.lr": lr}) for lr in (0.1, 0.2)]
        mine = run_of([(1, 0.5)], "mpfl", 0, {"train.lr": 0.3})
        assert baseline_of(mine, runs, "fedavg") is None


class TestComparisonTable:
    def rows(self) -> dict[str, Any]:
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

    def test_bytes_to_target_are_paired_by_seed(self) -> None:
        # Targets: seed 0 median(.5, .8, .8) - .02 = .78, seed 1 median(.5, .6, .7) - .02 = .58
        rows = self.rows()
        assert rows["mpfl"].target == pytest.approx(0.68)
        assert rows["mpfl"].bytes_to_target == pytest.approx((20 + 60) / 2)
        assert rows["fedavg"].bytes_to_target == pytest.approx(200)
        assert rows["mpfl"].ratio_at_target.mean == pytest.approx(math.sqrt(0.1 * 0.3))
        assert rows["fedavg"].ratio_at_target.mean == 1

    def test_a_method_that_misses_the_target_with_one_seed_has_no_ratio(self) -> None:
        weak = self.rows()["weak"]
        assert (weak.reached, weak.bytes_to_target, weak.ratio_at_target) == (1, None, None)
        assert weak.ratio.mean == pytest.approx(math.sqrt(8 / 300 * 8 / 400))

    def test_total_bytes_are_the_mean_over_seeds(self) -> None:
        mpfl = self.rows()["mpfl"]
        assert (mpfl.total_bytes, mpfl.uplink_bytes, mpfl.downlink_bytes) == (45, 22.5, 22.5)
        assert mpfl.accuracy.mean == pytest.approx(0.85)
        assert mpfl.seeds == (0, 1)

    def test_a_ceiling_comes_last_and_has_no_ratio_and_is_on_no_front(self) -> None:
        rows = self.rows()
        assert list(rows) == ["weak", "mpfl", "fedavg", "centralized"]
        ceiling = rows["centralized"]
        assert (ceiling.ceiling, ceiling.ratio, ceiling.ratio_at_target) == (True, None, None)
        assert [name for name, row in rows.items() if row.on_front] == ["weak", "mpfl"]

    def test_without_a_baseline_there_is_no_target(self) -> None:
        (row,) = comparison_table([run_of([(10, 0.5)])])
        assert (row.target, row.ratio, row.bytes_to_target) == (None, None, None)

    def test_the_order_of_the_folders_changes_nothing(
        self, make_comparison: Callable[..., Path], tmp_path: Path
    ) -> None:
        runs, _ = load_folders([make_comparison(tmp_path / "c", seeds=2)])
        assert comparison_table(runs) == comparison_table(runs[::-1])

    def test_repetitions_are_grouped_by_label_and_sweep(self) -> None:
        runs = [
            run_of([(1, 0.5)], seed=seed, sweep={"prune.density": density})
            for seed in (1, 0)
            for density in (0.1, 0.5)
        ]
        groups = group_runs(runs)
        assert list(groups) == ["mpfl density=0.1", "mpfl density=0.5"]
        assert [run.seed for run in groups["mpfl density=0.1"]] == [0, 1]
