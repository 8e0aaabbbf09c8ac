"""The comparison table: exact in the CSV file, escaped in LaTeX, narrow in the terminal."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.report.table import table_csv, table_tex, table_text
from benchmarks.results.loading import load_folders
from benchmarks.results.rows import comparison_table
from benchmarks.results.rundata import RunData
from tests.handmade import run_of


@pytest.fixture(scope="module")
def runs(
    make_comparison: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> list[RunData]:
    return load_folders([make_comparison(tmp_path_factory.mktemp("table") / "c")])[0]


def test_the_csv_is_exact(runs: list[RunData]) -> None:
    file = io.StringIO(table_csv(comparison_table(runs)))
    rows = {row["method"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"fedavg", "mpfl", "signsgd_mv", "centralized"}
    mine = [run for run in runs if run.label == "mpfl"]
    accuracy = [run.summary.test_accuracy for run in mine]
    assert float(rows["mpfl"]["test_accuracy"]) == pytest.approx(sum(accuracy) / 2)
    sent = [run.ledger.message_bytes.sum() for run in mine]
    assert float(rows["mpfl"]["total_bytes"]) == pytest.approx(sum(sent) / 2)
    assert rows["mpfl"]["seeds"] == "0 1"
    assert rows["centralized"]["total_ratio"] == ""
    assert float(rows["fedavg"]["total_ratio"]) == 1
    assert rows["centralized"]["pareto"] == rows["centralized"]["seeds_reaching_target"] == ""
    assert (rows["signsgd_mv"]["pareto"], rows["mpfl"]["pareto"]) == ("1", "0")
    assert float(rows["mpfl"]["baseline_accuracy"]) == pytest.approx(
        float(rows["mpfl"]["target_accuracy"]) + 0.005
    )
    low, high = (float(rows["mpfl"][f"total_ratio_{end}"]) for end in ("low", "high"))
    assert low <= float(rows["mpfl"]["total_ratio"]) <= high


def test_the_latex_table_escapes_and_has_one_line_a_method(runs: list[RunData]) -> None:
    rows = comparison_table(runs)
    text = table_tex(rows)
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) == 1 + len(rows)
    assert {line.count(" & ") for line in body} == {13}
    assert r"signsgd\_mv" in text
    assert not re.search(r"(?<!\\)[_%#]", text)


def test_the_terminal_table_fits_80_columns_and_loses_nothing(runs: list[RunData]) -> None:
    rows = comparison_table(runs)
    out = io.StringIO()
    Console(file=out, width=80).print(table_text(rows))
    text = out.getvalue()
    assert "…" not in text
    for row in rows:
        (line,) = [line for line in text.splitlines() if line.startswith(row.method + " ")]
        assert f"{100 * row.accuracy.mean:.2f}±" in line


SETTINGS = [
    run_of([(sent, 0.5)], label, sweep={"data.partition": kind})
    for kind, factor in (("iid", 1), ("one", 10))
    for label, sent in (("fedavg", 1000 * factor), ("mpfl", 10), ("dear", 3000 * factor))
]


def test_ratios_are_told_as_how_many_times_fewer_or_more() -> None:
    text = table_tex(comparison_table(SETTINGS))
    assert r"1000 $\times$ fewer" in text
    assert r"3.00 $\times$ more" in text
    assert not re.search(r"& 0\.\d+ &.*fewer.*0\.0\d+ ", text)


def test_settings_stand_apart_and_the_best_of_each_is_bold() -> None:
    text = table_tex(comparison_table(SETTINGS))
    first, second = text.split(r"\midrule")[1:]
    assert "partition=iid" in first
    assert "partition=one" in second
    for part in (first, second):
        (line,) = [line for line in part.splitlines() if line.startswith("mpfl &")]
        assert r"\textbf{10 B}" in line
        assert r"\textbf{50.00 \%}" not in line  # as accurate as all others
    out = io.StringIO()
    Console(file=out, width=80).print(table_text(comparison_table(SETTINGS)))
    lines = [line.split()[0] for line in out.getvalue().splitlines() if line.strip()]
    order = [name for name in lines if name.startswith(("partition", "mpfl", "fedavg", "dear"))]
    names = ["mpfl", "fedavg", "dear"]
    assert order == ["partition=iid", *names, "partition=one", *names]


@pytest.mark.parametrize(("label", "shown"), [("=cmd()", "'=cmd()"), ("a\x1b[31m", "a␛[31m")])
def test_no_label_is_a_formula_or_steers_a_terminal(label: str, shown: str) -> None:
    text = table_csv(comparison_table([run_of([(10, 0.5)], label)]))
    assert next(csv.DictReader(io.StringIO(text)))["method"] == shown
