"""A ladder's factors multiply to the whole, and what cannot be climbed is said."""

from __future__ import annotations

import math

import pytest

from benchmarks.results.ladder import ladders
from benchmarks.results.rundata import RunData
from tests.handmade import run_of

STEPS = {"float32": "fedavg", "wire": "dense", "mask": "mpfl"}
SPENT = {"fedavg": (8000, 12_000), "dense": (1000, 2000), "mpfl": (400, 1000)}


def runs(kind: str = "iid", **changes: tuple[int, int]) -> list[RunData]:
    return [
        run_of([(count, 0.9)], label, seed, {"data.partition": kind})
        for label, counts in (SPENT | changes).items()
        for seed, count in enumerate(counts)
    ]


def test_the_factors_are_paired_by_seed_and_multiply_to_the_whole() -> None:
    (ladder,), gaps = ladders(runs(), STEPS, "fedavg", 0.0)
    assert gaps == []
    wire, mask = math.sqrt(8 * 6), math.sqrt(2.5 * 2)
    ratios = [rung.ratio for rung in ladder.rungs]
    assert ratios[0] is None
    assert [1 / ratio.mean for ratio in ratios[1:] if ratio] == pytest.approx([wire, mask])
    assert 1 / ladder.whole.mean == pytest.approx(wire * mask)
    assert ladder.rungs[0].bytes.mean == pytest.approx(math.sqrt(8000 * 12_000))
    assert ladder.rungs[2].bytes.low is not None
    assert ladder.product == "15.5 × = 6.93 × wire × 2.24 × mask"
    assert ladder.setting == "partition=iid"


def test_a_step_that_costs_divides() -> None:
    (ladder,), _ = ladders(runs(mpfl=(2000, 4000)), STEPS, "fedavg", 0.0)
    assert ladder.product == "3.46 × = 6.93 × wire ÷ 2.00 (mask)"


def test_every_setting_has_its_own() -> None:
    found, _ = ladders([*runs("iid"), *runs("b", mpfl=(100, 100))], STEPS, "fedavg", 0.0)
    assert {ladder.setting: ladder.rungs[-1].bytes.mean for ladder in found} == pytest.approx(
        {"partition=iid": math.sqrt(400_000), "partition=b": 100}
    )


def test_a_step_that_was_not_run_or_misses_the_target_is_named() -> None:
    without = [run for run in runs() if run.label != "dense"]
    assert ladders(without, STEPS, "fedavg", 0.0) == ([], ["No ladder: dense was not run."])
    died = ladders(without, STEPS, "fedavg", 0.0, failed={"dense"})
    assert died == ([], ["No ladder: dense failed."])
    weak = [*without, *(run_of([(9, 0.1)], "dense", seed) for seed in (0, 1))]
    found, gaps = ladders(weak, STEPS, "fedavg", 0.0)
    assert found == []
    assert gaps == ["No ladder for partition=iid: dense does not reach the target with every seed."]
    assert ladders(runs(), {}, "fedavg", 0.0) == ([], [])
