"""What makes another setting, and what only another variant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.results.rows import comparison_table
from benchmarks.results.rundata import RunData
from benchmarks.results.settings import setting_keys, split_settings, without_constant_keys
from server.records import Failure
from tests.handmade import run_of

DENSITY, PARTITION, EPOCHS = "prune.density", "data.partition", "train.epochs"


def swept(key: str, values: tuple[object, ...], felt: bool = False) -> list[RunData]:
    runs = []
    for place, value in enumerate(values):
        runs.append(run_of([(100 + place * felt, 0.5)], "fedavg", sweep={key: value}))
        runs.append(run_of([(10 + place, 0.5)], "mpfl", sweep={key: value}))
    return runs


def test_data_and_whatever_the_baseline_feels_are_settings() -> None:
    assert setting_keys(swept(PARTITION, ("iid", "one")), "fedavg") == (PARTITION,)
    assert setting_keys(swept(EPOCHS, (1, 2), felt=True), "fedavg") == (EPOCHS,)
    assert setting_keys(swept(DENSITY, (0.1, 0.2)), "fedavg") == ()
    assert setting_keys(swept(PARTITION, ("iid",)), "fedavg") == ()


def test_rows_of_a_setting_lose_its_value_and_keep_the_others() -> None:
    rows = comparison_table(swept(PARTITION, ("iid", "one")))
    names = [(row.setting, row.variant) for row in rows]
    assert names == [
        *(("partition=iid", "mpfl"), ("partition=iid", "fedavg")),
        *(("partition=one", "mpfl"), ("partition=one", "fedavg")),
    ]
    rows = comparison_table(swept(DENSITY, (0.1, 0.2)))
    assert {row.setting for row in rows} == {""}
    assert rows[0].variant == "mpfl density=0.1"


def test_a_key_of_one_value_is_in_no_name() -> None:
    runs = [replace(run, sweep={**run.sweep, DENSITY: 0.1}) for run in swept(PARTITION, ("a", "b"))]
    assert {run.name for run in without_constant_keys(runs)[0]} == {
        *("fedavg partition=a", "fedavg partition=b", "mpfl partition=a", "mpfl partition=b"),
    }
    one = [*runs, run_of([(1, 0.5)], "centralized")]
    assert without_constant_keys(one)[0] == one, "here it tells apart who has it"


def test_what_failed_is_held_against_its_method_without_keys_of_one_value() -> None:
    runs = swept(DENSITY, (0.1,))
    dead = Failure(label="mpfl", seed=1, sweep={DENSITY: 0.1}, error="lost")
    rows = comparison_table(*_with_failures(*without_constant_keys(runs, [dead])))
    assert [(row.method, row.failed) for row in rows] == [("fedavg", 0), ("mpfl", 1)]
    other = replace(dead, sweep={DENSITY: 0.2})
    rows = comparison_table(*_with_failures(*without_constant_keys(runs, [other])))
    assert {row.method: row.failed for row in rows} == {
        **{f"{label} density=0.1": 0 for label in ("mpfl", "fedavg")},
        "mpfl density=0.2": 1,
    }


def _with_failures(runs: list[RunData], dead: list[Failure]) -> tuple[Any, ...]:
    return runs, "fedavg", 0.005, dead


def test_settings_are_in_the_order_of_their_numbers() -> None:
    rows = comparison_table(swept("data.clients", (100, 9, 20)))
    order = list(dict.fromkeys(row.setting for row in rows))
    assert order == ["clients=9", "clients=20", "clients=100"]


def test_each_setting_has_a_front_of_its_own() -> None:
    rows = comparison_table(swept(PARTITION, ("iid", "one")))
    assert [row.method for row in rows if row.on_front] == [
        "mpfl partition=iid",
        "mpfl partition=one",
    ]


def test_a_run_that_was_not_swept_belongs_to_every_setting() -> None:
    runs = [*swept(PARTITION, ("iid", "one")), run_of([(5, 0.5)], "alone")]
    parts = split_settings(runs, (PARTITION,))
    assert list(parts) == ["partition=iid", "partition=one"]
    assert all([run.label for run in part].count("alone") == 1 for part in parts.values())
    assert all(run.sweep == {} for part in parts.values() for run in part)
