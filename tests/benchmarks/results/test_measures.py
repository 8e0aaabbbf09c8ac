"""Measures on runs, against hand-computed figures and brute force."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.results.loading import load_run
from benchmarks.results.measures import (
    Link,
    Spread,
    accuracy_within,
    area_under_curve,
    baseline_of,
    bits_per_parameter,
    byte_composition,
    bytes_to_accuracy,
    bytes_with_transport,
    client_spread,
    common_rounds,
    final_accuracy,
    geometric_interval,
    group_runs,
    held_accuracy,
    mean_interval,
    mean_of_all,
    paired_ratios,
    pareto_front,
    transfer_seconds,
)
from benchmarks.results.rundata import RunData
from mpfl.errors import InputError
from server.records import KINDS
from server.transport.overhead import transport_overhead
from tests.handmade import ledger, run_of

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

    def test_a_mean_with_a_missing_value_is_missing(self) -> None:
        assert mean_of_all([1.0, 2.0]) == 1.5
        assert mean_of_all([1.0, None]) is None
        assert mean_of_all([]) is None

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
            assert accuracy_within(run, needed) >= accuracy - 1e-9  # equal but for the last bits
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
        (point,) = common_rounds([first, second])
        assert (point.round, point.total_bytes) == (1, 11.0)
        assert point.accuracy.mean == pytest.approx(0.6)


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
        folder = make_run(tmp_path / "run", "ssfl")
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

    def test_the_composition_of_a_phase_is_its_share_of_the_whole(
        self, make_run: Callable[..., Path], tmp_path: Path
    ) -> None:
        run = load_run(make_run(tmp_path / "run"))
        phases = [byte_composition(run, phase) for phase in ("mask", "train")]
        assert phases[0]["uplink"]["mask"] > 0
        assert phases[1]["uplink"]["mask"] == 0
        for direction, kinds in byte_composition(run).items():
            for kind, count in kinds.items():
                assert sum(phase[direction][kind] for phase in phases) == count

    def test_bits_per_parameter_are_those_of_a_message(self) -> None:
        messages = ledger([(1, 0, False, 100), (1, 0, True, 50), (1, 1, True, 150)])
        run = run_of([(300, 0.5)], messages=messages)
        run = replace(run, summary=replace(run.summary, parameters=400))
        assert bits_per_parameter(run, "uplink") == pytest.approx(8 * 200 / (2 * 400))
        assert bits_per_parameter(run, "downlink") == pytest.approx(8 * 100 / 400)
        assert bits_per_parameter(run_of([(0, 0.5)]), "uplink") is None

    def test_transport_is_measured_where_it_was_and_estimated_elsewhere(self) -> None:
        messages = ledger([(1, 0, False, 100), (1, 0, True, 50), (1, 1, True, 150)])
        run = run_of([(300, 0.5)], messages=messages)
        assert bytes_with_transport(run) == 300 + transport_overhead(2, 1)
        assert bytes_with_transport(replace(run, socket_bytes=15_000)) == 15_000

    def test_what_sockets_carried_is_read_from_the_folder(
        self, make_run: Callable[..., Path], tmp_path: Path
    ) -> None:
        folder = make_run(tmp_path / "run")
        assert load_run(folder).socket_bytes is None
        (folder / "sockets.json").write_text('{"run_socket_bytes": [7000, 8000]}')
        assert load_run(folder).socket_bytes == 15_000
        (folder / "sockets.json").write_text('{"run_socket_bytes": [7000]}')
        with pytest.raises(InputError, match=r"sockets\.json: damaged"):
            load_run(folder)

    def test_no_messages_take_no_time(self) -> None:
        assert transfer_seconds(run_of([(0, 0.5)]), Link("x", 1, 1, 1)) == 0


class TestSpread:
    def test_a_client_without_samples_is_left_out(self) -> None:
        run = run_of([(1, 0.5)])
        assert client_spread(run) is None
        summary = replace(run.summary, client_accuracy=[0.1, None, 0.9, 0.5])
        assert client_spread(replace(run, summary=summary)) == Spread(0.1, 0.5, 0.9)


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

    def test_a_baseline_of_other_work_is_none(self) -> None:
        base = run_of([(1, 0.5)], "fedavg", 0, {"data.partition": "dirichlet(0.1)"})
        mine = run_of([(1, 0.5)], "mpfl", 0, {"data.partition": "iid", "prune.density": 0.1})
        assert baseline_of(mine, [base], "fedavg") is None
        same = replace(mine, sweep={**base.sweep, "prune.density": 0.1})
        assert baseline_of(same, [base], "fedavg") is base

    def test_an_ambiguous_baseline_is_none(self) -> None:
        runs = [run_of([(1, 0.5)], "fedavg", 0, {"train.lr": lr}) for lr in (0.1, 0.2)]
        mine = run_of([(1, 0.5)], "mpfl", 0, {"train.lr": 0.3})
        assert baseline_of(mine, runs, "fedavg") is None


def test_repetitions_are_grouped_by_label_and_sweep() -> None:
    runs = [
        run_of([(1, 0.5)], seed=seed, sweep={"prune.density": density})
        for seed in (1, 0)
        for density in (0.1, 0.5)
    ]
    groups = group_runs(runs)
    assert list(groups) == ["mpfl density=0.1", "mpfl density=0.5"]
    assert [run.seed for run in groups["mpfl density=0.1"]] == [0, 1]
