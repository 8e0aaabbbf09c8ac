"""``mpfl pivot``: means, intervals and paired differences of a comparison, by any keys."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import benchmarks
from benchmarks.cli.main import invoke
from benchmarks.cli.pivot import _table
from benchmarks.results.measures import mean_interval
from server.health import write_failure
from server.records import Failure
from server.runfolder import SUMMARY
from tests.runs import SMALL, unseal

ACCURACIES = {
    ("majority", 0.0): (0.90, 0.90),
    ("majority", 0.5): (0.70, 0.72),
    ("budget", 0.0): (0.90, 0.92),
    ("budget", 0.5): (0.80, 0.84),
}
"""Label and share of stressed clients -> made-up accuracy of seeds 0 and 1. Of two values a and b
half the interval is 12.7062 · |a - b| / 2."""
BY_STRESS = ["--rows", "label", "--columns", "faults.stress"]
BY_SEED = ["--rows", "label,faults.stress", "--columns", "seed"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pivot") / "c"
    small = {"data.train_samples": 100, "prune.rounds": 1, "federation.rounds": 1}
    variants = {rule: {"method": "mpfl", "prune.vote": rule} for rule in ("majority", "budget")}
    comparison = benchmarks.compare(
        SMALL,
        {**small, "compare.variants": variants},
        methods=list(variants),
        seeds=[0, 1],
        sweep={"faults.stress": [0.0, 0.5]},
        out=out,
    )
    for run in comparison.runs:
        place = run.data.label, run.data.sweep["faults.stress"]
        edit(run.folder, test_accuracy=ACCURACIES[place][run.data.seed])
    return unseal(out)


@pytest.fixture
def folder(compared: Path, tmp_path: Path) -> Path:
    return shutil.copytree(compared, tmp_path / "c")


def edit(run: Path, **numbers: Any) -> None:
    file = run / SUMMARY
    file.write_text(json.dumps({**json.loads(file.read_text()), **numbers}))


def cell(folder: Path, label: str, stress: float, seed: int) -> Path:
    return folder / "cells" / f"{label}__faults.stress={stress}__seed{seed}"


def shown(capsys: pytest.CaptureFixture[str], folder: Path, *options: str) -> list[str]:
    capsys.readouterr()
    assert invoke(["pivot", str(folder), *options]) == 0
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_rows_and_columns_are_in_the_order_of_configuration(compared, capsys) -> None:
    assert shown(capsys, compared, *BY_STRESS) == [
        "test_accuracy, %, by faults.stress",
        "label              0.0           0.5",
        "majority   90.00 ±0.00  71.00 ±12.71",
        "budget    91.00 ±12.71  82.00 ±25.41",
        "Means over 2 seeds, ± 95 % interval.",
    ]


def test_differences_are_paired_by_seed(compared, capsys) -> None:
    lines = shown(capsys, compared, *BY_STRESS, "--against", "faults.stress=0.0")
    assert lines[0] == "test_accuracy, %, minus faults.stress=0.0, by faults.stress"
    assert lines[2].split() == ["majority", "0.00", "±0.00", "-19.00", "±12.71"]
    assert lines[3].split() == ["budget", "0.00", "±0.00", "-9.00", "±12.71"]
    lines = shown(capsys, compared, *BY_STRESS, "--against", "label=majority")
    assert lines[3].split() == ["budget", "1.00", "±12.71", "11.00", "±12.71"]


def test_single_runs_have_no_interval_and_several_keys_make_a_row(compared, capsys) -> None:
    assert shown(capsys, compared, *BY_SEED, "--where", "label=budget") == [
        "test_accuracy, %, by seed",
        "label   stress      0      1",
        "budget  0.0     90.00  92.00",
        "budget  0.5     80.00  84.00",
    ]


def test_json_has_the_exact_numbers(compared, capsys) -> None:
    options = [*BY_STRESS, "--where", "faults.stress=0.5", "--where", "label=majority", "--json"]
    (found,) = json.loads("".join(shown(capsys, compared, *options)))
    expected = mean_interval(ACCURACIES["majority", 0.5])
    assert found == {
        "label": "majority",
        "faults.stress": 0.5,
        "mean": expected.mean,
        "low": expected.low,
        "high": expected.high,
        "count": 2,
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [("density", "0.2 ±0"), ("total_bytes", "1.50 MB ±0 B"), ("test_loss", "2.3 ±0")],
)
def test_any_number_of_the_summary_has_its_unit(folder, capsys, value, text) -> None:
    numbers = {"density": 0.2, "total_bytes": 1_500_000, "test_loss": 2.3}
    for seed in range(2):
        edit(cell(folder, "budget", 0.0, seed), **numbers)
    lines = shown(capsys, folder, *BY_STRESS, "--value", value, "--where", "label=budget")
    assert " ".join(lines[2].split()).startswith(f"budget {text}")


def test_a_run_without_the_number_or_unfinished_leaves_a_gap(folder, capsys) -> None:
    edit(cell(folder, "budget", 0.0, 0), test_loss=None)
    (cell(folder, "budget", 0.0, 1) / SUMMARY).unlink()
    assert invoke(["pivot", str(folder), *BY_STRESS, "--value", "test_loss"]) == 0
    printed = capsys.readouterr()
    assert printed.err == f"not finished, and in no mean: {cell(folder, 'budget', 0.0, 1).name}\n"
    name, gap, *known = printed.out.splitlines()[3].split()
    assert (name, gap, len(known)) == ("budget", "–", 2)


def test_a_failed_run_is_named_and_what_it_leaves_is_told(folder, capsys) -> None:
    dead = cell(folder, "budget", 0.0, 1)
    (dead / SUMMARY).unlink()
    sweep = {"faults.stress": 0.0}
    write_failure(dead, Failure(label="budget", seed=1, sweep=sweep, error="not finite"))
    assert invoke(["pivot", str(folder), *BY_STRESS]) == 0
    printed = capsys.readouterr()
    assert printed.err == f"failed, and in no mean: {dead.name}\n"
    assert printed.out.splitlines()[3].split()[:3] == ["budget", "90.00", "(1)"]
    assert printed.out.splitlines()[-1].endswith("(n): over n seeds only.")


def test_differences_to_a_place_that_nobody_ran_are_an_empty_table(folder, capsys) -> None:
    keep = ("--where", "label=budget", "--against", "faults.stress=0.0")
    for seed in (0, 1):
        shutil.rmtree(cell(folder, "budget", 0.0, seed))
    assert invoke(["pivot", str(folder), *BY_STRESS, *keep]) == 2
    apart = ("--against", "label=budget", "--against", "faults.stress=0.0")
    capsys.readouterr()
    assert invoke(["pivot", str(folder), *BY_STRESS, *apart]) == 0
    assert "±" not in capsys.readouterr().out


def test_what_retraining_found_is_a_number_too(folder, capsys) -> None:
    run = cell(folder, "budget", 0.5, 1)
    assert invoke(["retrain", str(run), "--epochs", "1", "--quiet"]) == 0
    found = json.loads((run / "central_retrain.json").read_text())["test_accuracy"]
    lines = shown(capsys, folder, *BY_SEED, "--value", "central_retrain.test_accuracy")
    assert lines[1:] == ["label   stress      1", f"budget  0.5     {100 * found:.2f}"]


def test_a_table_too_wide_for_80_columns_breaks_before_intervals() -> None:
    shares = [share / 10 for share in range(6)]
    cells = {("pixels", "layer_threshold", share): mean_interval([0.9, 0.95]) for share in shares}
    console = Console(width=80, no_color=True)
    with console.capture() as captured:
        console.print(_table(cells, ["faults.stress_kind", "label"], "test_accuracy"))
    head, means, intervals = captured.get().splitlines()
    assert head.split() == ["stress_kind", "label", *map(str, shares)]
    assert means.split() == ["pixels", "layer_threshold", *["92.50"] * 6]
    assert intervals.split() == ["±31.77"] * 6


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--rows", "faults.stres", "--columns", "label"], "'faults.stress'"),
        (["--rows", "label", "--columns", "faults"], "unknown key 'faults'"),
        (["--rows", "label", "--columns", "method"], "seed0 and another run of its seed"),
        ([*BY_STRESS, "--value", "accuracy"], "'test_accuracy'"),
        ([*BY_STRESS, "--value", "method"], "unknown value 'method'"),
        ([*BY_STRESS, "--where", "lable=budget"], "'label'"),
        ([*BY_STRESS, "--where", "label=bugdet"], "'budget'"),
        ([*BY_STRESS, "--where", "label"], "--where"),
        ([*BY_STRESS, "--against", "label=bugdet"], "'budget'"),
        ([*BY_STRESS, "--against", "seed=0"], "unknown key of rows and columns 'seed'"),
        ([*BY_STRESS, "--against", "label"], "--against"),
        (["--rows", "label"], "--columns"),
    ],
)
def test_bad_keys_are_one_line_and_status_2(compared, capsys, options, word) -> None:
    assert invoke(["pivot", str(compared), *options]) == 2
    error = capsys.readouterr().err
    assert word in error
    assert error.count("\n") == 1


def test_a_list_is_a_column_and_a_choice_as_any_value(compared, capsys) -> None:
    options = ["--rows", "label,faults.stress", "--columns", "plugins", "--where", "plugins=[]"]
    lines = shown(capsys, compared, *options)
    assert lines[1].split() == ["label", "stress", "[]"]
    assert len(lines) == 2 + len(ACCURACIES) + 1


def test_a_folder_that_is_not_there_is_named(tmp_path, capsys) -> None:
    assert invoke(["pivot", str(tmp_path / "none"), *BY_STRESS]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err
