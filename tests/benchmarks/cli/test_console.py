"""What a comparison that goes on says about how far it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.progress import Progress

from benchmarks.cli import console
from benchmarks.cli.console import Reporter, rounds_done
from benchmarks.running.cell import CELLS, Cell
from server.runfolder import ROUNDS, SUMMARY
from tests.runs import small


@pytest.fixture
def cells(tmp_path: Path) -> list[Cell]:
    """Return cells of ten rounds: one finished early, one killed in round 4, one not begun."""
    found = [Cell("mpfl", seed, (), small(federation__rounds=10, seed=seed)) for seed in range(3)]
    for cell, lines in zip(found, ("{}\n" * 7, "{}\n" * 3 + '{"torn'), strict=False):
        folder = tmp_path / CELLS / cell.name
        folder.mkdir(parents=True)
        (folder / ROUNDS).write_text(lines)
    (tmp_path / CELLS / found[0].name / SUMMARY).write_text("{}")
    return found


def test_rounds_that_need_no_more_work(cells: list[Cell], tmp_path: Path) -> None:
    assert [rounds_done(cell, tmp_path) for cell in cells] == [10, 3, 0]


def test_the_bar_of_a_continued_comparison(
    cells: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars: list[Progress] = []

    def bar(*columns: object, **options: object) -> Progress:
        bars.append(Progress(*columns, **options))  # type: ignore[arg-type]
        return bars[-1]

    monkeypatch.setattr(console, "Progress", bar)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    reporter = Reporter(quiet=False, as_json=False)
    with reporter.rounds(30, "3 runs", 13):
        (task,) = bars[0].tasks
        watch = reporter.cell_watcher(cells, tmp_path)
        assert (task.completed, task.total) == (13, 30)
        watch(cells[1], {"round": 4, "rejected": {}, "errors": []})
        assert task.completed == 14
        assert "1/3 finished" in task.fields["now"]
        watch(cells[1], None)
        assert task.completed == 20
        watch(cells[2], {"round": 1, "rejected": {}, "errors": []})
        watch(cells[2], None)
        assert task.completed == 30
        assert "3/3 finished" in task.fields["now"]
        assert task.time_remaining == 0
