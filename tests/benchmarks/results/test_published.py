"""Published accuracies beside reached ones: which runs count, what is compared, how it is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report.table import meetings_text
from benchmarks.report.write import write_report
from benchmarks.results.published import meetings
from benchmarks.results.rundata import RunData
from benchmarks.running.compare_config import split_table
from mpfl.errors import InputError
from mpfl.presets import load_table, preset_names
from tests.handmade import run_of

ENTRY = {"when": {"label": "fedavg", "data.name": "mnist"}, "accuracy": 0.8, "source": "Them 2022"}


def reached(accuracies: list[float], label: str = "fedavg", seed: int = 0) -> RunData:
    points = [(n + 1, accuracy) for n, accuracy in enumerate(accuracies)]
    return replace(run_of(points, label, seed), config={"data": {"name": "mnist"}})


def settings(**changes: Any) -> dict[str, Any]:
    return {"published": [{**ENTRY, **changes}]}


def test_best_and_last_rounds_are_means_over_seeds_of_the_runs_that_match() -> None:
    runs = [reached([0.7, 0.82, 0.79]), reached([0.7, 0.8, 0.77], seed=1), reached([0.1], "mpfl")]
    (met,) = meetings(runs, settings())
    assert (met.name, met.seeds) == ("fedavg", (0, 1))
    assert met.best.mean == pytest.approx(0.81)
    assert met.last.mean == pytest.approx(0.78)
    assert met.reached == met.best
    assert met.difference == pytest.approx(0.01)
    (last,) = meetings(runs, settings(round="last"))
    assert last.difference == pytest.approx(-0.02)


@pytest.mark.parametrize(
    ("changes", "accuracy", "verdict"),
    [
        ({}, 0.805, "met"),  # half a point
        ({}, 0.806, "above"),
        ({}, 0.794, "below"),
        ({"std": 0.001}, 0.795, "met"),
        ({"std": 0.01}, 0.78, "met"),  # two deviations
        ({"std": 0.01}, 0.779, "below"),
        ({"std": 0.01, "tolerance": 0.03}, 0.77, "met"),
        ({"tolerance": 0.001}, 0.802, "above"),
    ],
)
def test_the_allowance_decides(changes: dict[str, Any], accuracy: float, verdict: str) -> None:
    (met,) = meetings([reached([accuracy])], settings(**changes))
    assert met.verdict == verdict


def test_runs_of_other_work_meet_nothing() -> None:
    assert meetings([reached([0.8])], settings(when={"data.name": "cifar10"})) == []
    assert meetings([reached([0.8])], {}) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"accuracy": 80}, "compare.published.accuracy: got 80.0, expected a share, 0 to 1"),
        ({"round": "first"}, "compare.published.round: got 'first', expected best or last"),
        ({"source": " "}, "compare.published.source: got ' ', expected who published it"),
        ({"when": {"data.nmae": "mnist"}}, "unknown key 'data.nmae'"),
        ({"mean": 1}, "unknown key 'compare.published[0].mean'"),
    ],
)
def test_wrong_entries_are_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        split_table({"compare": settings(**changes)})
    assert said in str(caught.value)


def test_the_page_shows_both(make_comparison: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "comparison")
    page = write_report(folder)
    assert page.meetings == []
    assert "Published and reached" not in page.path.read_text()
    entry = 'when = { label = "fedavg" }\naccuracy = 0.7654\nstd = 0.0123\nsource = "Them <2022>"\n'
    with (folder / "comparison.toml").open("a") as file:
        file.write(f"\n[[compare.published]]\n{entry}")
    text = (folder / "comparison.toml").read_text().replace("published = []\n", "")
    (folder / "comparison.toml").write_text(text)
    page = write_report(folder)
    (met,) = page.meetings
    shown = page.path.read_text()
    assert "Published and reached" in shown
    assert "76.54 % (std 1.23)" in shown
    assert "Them &lt;2022&gt;" in shown
    assert f"{100 * met.difference:+.2f} of ±2.46" in shown
    table = meetings_text(page.meetings)
    assert table.row_count == 1
    assert [str(next(iter(column.cells))) for column in table.columns][1] == "76.54 (±1.23)"


@pytest.mark.parametrize("preset", preset_names())
def test_what_presets_say_is_published_can_be_read(preset: str) -> None:
    _, config = split_table(load_table(preset))
    for entry in config.published:
        assert 0.2 < entry.accuracy < 1
        assert entry.allowed <= 0.06
