"""What stands in the sections: plain data, without columns that nobody knows anything for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.report import sections
from benchmarks.report.tables import Cell
from benchmarks.results.loading import load_run
from benchmarks.results.measures import LINKS
from benchmarks.results.rows import comparison_table
from benchmarks.results.rundata import RunData


@pytest.fixture
def runs(make_run: Callable[..., Path], tmp_path: Path) -> list[RunData]:
    """Return a run of mpfl, one of fedavg, and one that sends nothing."""
    labels = ("mpfl", "fedavg", "centralized")
    return [load_run(make_run(tmp_path / label, label)) for label in labels]


@pytest.mark.parametrize(
    ("value", "key"), [(None, ""), (0.1 + 0.2, "0.3"), (12345678, "12345678"), (False, "False")]
)
def test_a_cell_sorts_by_its_exact_value(value: object, key: str) -> None:
    assert Cell("shown", value).key == key


def test_a_column_that_nobody_knows_anything_for_is_left_out(runs: list[RunData]) -> None:
    groups = {run.name: [run] for run in runs}
    assert "MACs compacted" not in sections.models(groups).headings
    known = replace(runs[0], summary=replace(runs[0].summary, macs_compacted=640))
    table = sections.models({**groups, "mpfl": [known]})
    place = table.headings.index("MACs compacted") - 1
    assert [line.cells[place].text for line in table.lines] == ["640", "–", "–"]


def test_budgets_and_transfers_are_of_those_who_send(runs: list[RunData]) -> None:
    groups = {run.name: [run] for run in runs}
    transfers, budgets = sections.transfers(groups), sections.budgets(groups, "fedavg")
    assert budgets is not None
    for table in (transfers, budgets.table):
        assert [line.name for line in table.lines] == ["mpfl", "fedavg"]
        assert {len(line.cells) + 1 for line in table.lines} == {len(table.headings)}
    assert list(transfers.headings) == ["method", *(link.name for link in LINKS)]
    assert (budgets.whose, budgets.high) == ("fedavg's", runs[1].total_bytes)
    assert budgets.table.lines[1].classes == "baseline"
    assert sections.budgets({"centralized": [runs[2]]}, "fedavg") is None


def test_the_table_marks_the_baseline_and_the_front(runs: list[RunData]) -> None:
    table = sections.methods(comparison_table(runs), "fedavg")
    marks = {line.name: line.classes for line in table.lines}
    assert (marks["mpfl"], marks["centralized"]) == ("front", "")
    assert "baseline" in marks["fedavg"].split()
    assert {len(line.cells) + 1 for line in table.lines} == {len(table.headings)}


def test_facts_without_a_figure_are_left_out(runs: list[RunData]) -> None:
    facts = sections.facts(runs[0])
    assert facts["rounds"] == "4"
    assert "rejected replies" not in facts
    lost = tuple(replace(line, rejected={"no reply": 1}) for line in runs[0].rounds)
    assert sections.facts(replace(runs[0], rounds=lost))["rejected replies"] == "4"
