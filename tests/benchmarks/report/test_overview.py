"""The first table and that of equal accuracy: cheapest first, ratios in words, the best marked."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from benchmarks.figures.groups import Panel, panels
from benchmarks.report.overview import equal_accuracy, first_table, sampling_error
from benchmarks.results.rows import comparison_table
from tests.handmade import run_of

POINTS = {
    "fedavg": [(400, 0.5), (1000, 0.9), (1100, 0.9), (1200, 0.9)],
    "fedavg_5": [(500, 0.9)],
    "mpfl": [(5, 0.5), (20, 0.88), (100, 0.9)],
    "dear": [(3000, 0.95)],
    "weak": [(1, 0.1)],
    "centralized": [(0, 0.97)],
}


def panel(samples: int | None = None) -> Panel:
    runs = [run_of(points, label) for label, points in POINTS.items()]
    runs = [replace(r, summary=replace(r.summary, test_predictions=samples)) for r in runs]
    rows = comparison_table(runs, margin=0.02, best_of=["fedavg", "fedavg_5"])[::-1]
    (found,) = panels(runs, rows, "fedavg")
    return found


def test_the_cheapest_to_the_target_stands_first_with_its_ratio_in_words() -> None:
    table = first_table(panel(), "fedavg")
    names = [line.name for line in table.lines]
    assert names == ["mpfl", "fedavg_5", "fedavg", "dear", "weak", "centralized"]
    spent = [
        (line.cells[0].text, line.cells[0].small.replace("\u00a0", " ")) for line in table.lines
    ]
    assert spent == [
        *(("20 B", "50.0 × fewer"), ("500 B", "2.00 × fewer"), ("1.00 kB", "")),
        *(("3.00 kB", "3.00 × more"), ("not reached", ""), ("–", "")),
    ]
    assert [line.name for line in table.lines if line.cells[0].best] == ["mpfl"]
    assert [line.name for line in table.lines if line.cells[1].best] == ["weak"]
    assert [line.name for line in table.lines if line.cells[2].best] == ["dear"]


def test_equal_accuracy_has_all_targets_and_both_baselines() -> None:
    table = equal_accuracy(panel(), "fedavg")
    assert list(table.headings) == [
        "method",
        *("to 86.0 % (−4 points)", "to 88.0 % (−2 points)", "to 89.0 % (−1 points)"),
        "to 90.0 % (no margin)",
    ]
    cells = {line.name: line.cells for line in table.lines}
    assert "centralized" not in cells
    assert [cell.text for cell in cells["mpfl"]] == ["20 B", "20 B", "100 B", "100 B"]
    told = [cell.small.replace("\u00a0", " ") for cell in cells["mpfl"]]
    assert told[1] == "50.0 × fewer; 25.0 × fewer than fedavg_5"
    assert told[3] == "10.0 × fewer; 5.00 × fewer than fedavg_5"
    assert cells["weak"][0].text == "not reached"
    assert all(cell.best for cell in cells["mpfl"])
    assert not any(cell.best for name in ("fedavg", "dear", "weak") for cell in cells[name])


def test_the_sampling_error_is_the_binomial_one() -> None:
    said = sampling_error([panel(400)], "fedavg")
    assert f"standard error of {100 * math.sqrt(0.9 * 0.1 / 400):.2f} points" in said
    assert sampling_error([panel()], "fedavg") == ""


@pytest.mark.parametrize("baseline", ["fedavg", "none_of_these"])
def test_without_the_baseline_there_is_still_a_table(baseline: str) -> None:
    runs = [run_of(points, label) for label, points in POINTS.items()]
    (found,) = panels(runs, comparison_table(runs, baseline), baseline)
    assert len(first_table(found, baseline).lines) == len(POINTS)
    assert equal_accuracy(found, "none_of_these").headings[0] == "method"
