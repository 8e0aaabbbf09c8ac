"""What a swept key does: one line per method, and no method drawn twice."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.figures.groups import panels
from benchmarks.figures.style import Picture
from benchmarks.figures.sweeps import sweep_pictures
from benchmarks.report.write import write_report
from benchmarks.results.loading import load_folders
from benchmarks.results.rows import comparison_table
from benchmarks.results.rundata import RunData
from benchmarks.results.settings import without_idle_keys
from tests.handmade import run_of

Make = Callable[..., Path]
DENSITY, VOTE, VOTERS = "prune.density", "prune.vote", "prune.voters"


@pytest.fixture
def swept(make_run: Make, tmp_path: Path) -> Callable[..., list[RunData]]:
    """Return a maker of runs: mpfl gets better and dearer with each value, fedavg stays."""

    def make(values: list[dict[str, Any]], seeds: int = 1) -> list[RunData]:
        for place, sweep in enumerate(values):
            for seed in range(seeds):
                cell = f"{place}-{seed}"
                size = 1000 * 10**place
                points = [(n * size, 0.1 * (n + place) + 0.01 * seed) for n in range(1, 5)]
                for label, options in {
                    "mpfl": {"points": points},
                    "fedavg": {},
                    "centralized": {},
                }.items():
                    folder = tmp_path / "c" / "cells" / f"{label}-{cell}"
                    make_run(folder, label, seed=seed, sweep=sweep, **options)
        return load_folders([tmp_path / "c"])[0]

    return make


def words(picture: Picture) -> list[str]:
    return re.findall(r"<!-- (.*?) -->", picture.svg)


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_a_line_a_method_over_the_values(swept: Callable[..., Any], seeds: int) -> None:
    runs = swept([{DENSITY: value} for value in (0.05, 0.2, 0.5)], seeds)
    (drawn,) = sweep_pictures(runs, "fedavg")
    assert drawn.name == "sweep_prune_density"
    shown = words(drawn)
    for text in ("prune.density (log scale)", "0.05", "0.2", "0.5", "mpfl", "fedavg"):
        assert shown.count(text) == 1, text
    assert {"final test accuracy (%)", "total bytes (log scale)"} <= set(shown)
    says = ["One seed.", "Mean of two seeds; dots: each seed.", "Mean over seeds (3); band"]
    assert says[seeds - 1] in drawn.caption
    assert "centralized: a reference that sends nothing" in drawn.caption
    for run in runs:
        if run.label == "mpfl" and seeds == 1:
            accuracy = 100 * run.summary.test_accuracy
            assert f"{run.sweep[DENSITY]:g}: {accuracy:.1f} % for" in drawn.alternative


def test_words_are_no_scale_but_variants_of_the_method(swept: Callable[..., Any]) -> None:
    runs = swept([{VOTE: value} for value in ("majority", "any", "budget")], 3)
    assert sweep_pictures(runs, "fedavg") == []
    drawn = panels(runs, comparison_table(runs), "fedavg")
    groups = [group for panel in drawn for group in panel.groups]
    mine = [group for group in groups if group.name.startswith("mpfl")]
    names = ["mpfl vote=any", "mpfl vote=budget", "mpfl vote=majority"]
    assert sorted(group.name for group in mine) == names
    assert len({(group.style.color, group.style.marker) for group in mine}) == 3


def test_two_keys_are_two_figures_with_the_other_key_in_the_names(
    swept: Callable[..., Any],
) -> None:
    values = [{DENSITY: d, VOTERS: v} for d in (0.1, 0.5) for v in (2, 3)]
    density, voters = sweep_pictures(swept(values), "fedavg")
    assert {"mpfl voters=2", "mpfl voters=3", "fedavg"} <= set(words(density))
    assert {"mpfl density=0.1", "mpfl density=0.5", "fedavg"} <= set(words(voters))
    assert not {"fedavg voters=2", "fedavg density=0.1"} & {*words(density), *words(voters)}


def test_the_other_key_of_words_names_the_lines(swept: Callable[..., Any]) -> None:
    values = [{DENSITY: d, VOTE: v} for d in (0.1, 0.5) for v in ("any", "budget")]
    (density,) = sweep_pictures(swept(values), "fedavg")
    assert {"mpfl vote=any", "mpfl vote=budget", "fedavg"} <= set(words(density))


def test_nothing_is_drawn_without_two_values(swept: Callable[..., Any]) -> None:
    assert sweep_pictures(swept([{DENSITY: 0.1}]), "fedavg") == []
    assert sweep_pictures(swept([{}]), "fedavg") == []


def test_a_method_that_the_key_leaves_alone_is_drawn_once(swept: Callable[..., Any]) -> None:
    runs = swept([{DENSITY: value} for value in (0.05, 0.2)], 2)
    rows = comparison_table(runs)
    assert len(rows) == 6
    groups = [group for panel in panels(runs, rows, "fedavg") for group in panel.groups]
    assert sorted(group.name for group in groups) == [
        "centralized",
        "fedavg",
        "mpfl density=0.05",
        "mpfl density=0.2",
    ]
    assert all(len(group.runs) == 2 for group in groups)
    assert {run.name for run in without_idle_keys(runs, but=DENSITY)} == {run.name for run in runs}


def test_the_figure_is_in_the_report(
    swept: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept([{DENSITY: value} for value in (0.05, 0.2)])
    for name in ("curve_pictures", "cost_pictures", "pruning_pictures"):
        monkeypatch.setattr(f"benchmarks.report.pages.{name}", lambda *_: [])
    for name in ("partition_map", "error_picture"):
        monkeypatch.setattr(f"benchmarks.report.pages.{name}", lambda *_: None)
    text = write_report(tmp_path / "c").path.read_text()
    assert "<h3>Accuracy and bytes against prune.density</h3>" in text
    for kind in ("svg", "png", "pdf"):
        assert (tmp_path / "c" / "figures" / f"sweep_prune_density.{kind}").is_file()


def test_a_setting_of_failed_runs_leaves_the_others_their_heading() -> None:
    runs = [
        run_of([(10, accuracy)], "fedavg", sweep={"faults.drop_before": lost})
        for lost, accuracy in ((0, 0.9), (0.5, 0.4))
    ]
    rows = comparison_table(runs)
    (panel,) = panels(runs[:1], rows[:1], "fedavg", runs)
    assert [row.label for row in panel.rows] == ["fedavg"]
    assert panel.setting == "drop_before=0"
