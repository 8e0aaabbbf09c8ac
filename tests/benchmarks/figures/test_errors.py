"""The main figure: what differs fills it, every line is named, and pointing says the values."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.figures.errors import Dot, draw_errors, error_picture, shown_range
from benchmarks.figures.groups import Panel, panels
from benchmarks.figures.savings import target_bars
from benchmarks.figures.style import COLUMN
from benchmarks.results.rows import comparison_table
from benchmarks.results.rundata import RunData
from tests.handmade import run_of

NAMES = ["fedavg", "mpfl", "topk", "dense_step", "stc", "eden", "powersgd", "signsgd_mv"]


def compared(ends: dict[str, float], seeds: int = 1, start: float = 0.3) -> Panel:
    """Return a comparison in which each method is ten times dearer than the one before."""
    runs = []
    for place, (label, end) in enumerate(ends.items()):
        for seed in range(seeds):
            cost = 1000 * 4 ** (len(ends) - place)
            steps = [start + (end - start) * (1 - 0.5**n) for n in range(6)]
            points = [(cost * n, s + 0.001 * seed) for n, s in enumerate([*steps, end], start=1)]
            runs.append(run_of(points, label, seed))
    (panel,) = panels(runs, comparison_table(runs), "fedavg")
    return panel


def share_of_axis(panel: Panel, ends: Sequence[float]) -> float:
    """Return the part of the vertical axis between the lowest and the highest end."""
    low, high = shown_range(panel).errors
    errors = [1 - end for end in ends]
    return math.log(max(errors) / min(errors)) / math.log(high / low)


@pytest.mark.parametrize("top", [0.98, 0.9, 0.7, 0.5])
def test_curves_that_end_within_two_points_take_a_quarter_of_the_axis(top: float) -> None:
    ends = {"fedavg": top, "mpfl": top - 0.02, "topk": top - 0.011}
    panel = compared(ends, start=0.1)
    assert share_of_axis(panel, list(ends.values())) >= 0.25
    low, high = shown_range(panel).errors
    assert all(low < 1 - end < high for end in ends.values())


def test_whatever_ends_far_above_is_left_out_and_named() -> None:
    panel = compared({"fedavg": 0.98, "mpfl": 0.97, "signsgd_mv": 0.4})
    assert shown_range(panel).errors[1] < 0.6
    drawn = error_picture(panel)
    assert drawn is not None
    assert "Above the panel: signsgd_mv." in drawn.caption
    assert not named(drawn.svg) & {"signsgd_mv"}


def named(svg: str) -> set[str]:
    return {text.replace("\\-", "-") for text in re.findall(r"<!-- (.*?) -->", svg)}


@pytest.mark.parametrize("count", [2, 5, 8])
@pytest.mark.parametrize("apart", [0.0, 0.0005, 0.01])
def test_every_line_is_named_at_its_end_and_no_two_labels_overlap(count: int, apart: float) -> None:
    panel = compared({name: 0.97 - apart * n for n, name in enumerate(NAMES[:count])}, seeds=2)
    figure = draw_errors([panel])
    assert figure is not None
    (axes,) = figure.axes
    texts = {text.get_text(): text for text in axes.texts}
    assert set(NAMES[:count]) <= set(texts)
    assert sum("target" in text for text in texts) == 2
    boxes = {name: text.get_window_extent() for name, text in texts.items()}
    for one, other in itertools.combinations(boxes, 2):
        assert not boxes[one].overlaps(boxes[other]), (one, other)
    for name, box in boxes.items():
        assert axes.bbox.x0 - 1 <= box.x0, name
        assert box.x1 <= axes.bbox.x1 + 1, name


def test_twelve_variants_have_labels_that_do_not_overlap() -> None:
    panel = compared({f"variant_{n:02}": 0.97 - 0.0003 * n for n in range(12)} | {"fedavg": 0.97})
    figure = draw_errors([panel])
    assert figure is not None
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) >= 13
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)


def test_pointing_at_a_round_says_its_values_where_it_is_drawn() -> None:
    panel = compared({"fedavg": 0.98, "mpfl": 0.97}, seeds=3)
    drawn = error_picture(panel)
    assert drawn is not None
    said = [text for _, _, text in drawn.spots]
    assert "mpfl, round 7: 97.10 % right with 28.0 kB, mean over 3 seeds" in said
    width, height = (float(n) for n in re.findall(r'viewBox="0 0 (\S+) (\S+)"', drawn.svg)[0])
    assert width == pytest.approx(72 * COLUMN)
    ends = {text.split(",")[0]: (x, y) for x, y, text in drawn.spots if "round 7" in text}
    assert ends["mpfl"][0] < ends["fedavg"][0] <= width  # cheaper: further left
    assert ends["fedavg"][1] > ends["mpfl"][1]  # fewer errors: further down
    assert all(0 <= x <= width and 0 <= y <= height for x, y, _ in drawn.spots)
    corners = re.findall(r"^L ([\d.]+) ([\d.]+)", drawn.svg, re.MULTILINE)
    lines = {(round(float(x), 1), round(float(y), 1)) for x, y in corners}
    assert {ends["mpfl"], ends["fedavg"]} <= lines


def test_each_setting_is_a_panel_in_which_variants_look_the_same() -> None:
    runs: list[RunData] = []
    for kind, names in (("a", ["fedavg", "mpfl", "topk"]), ("b", ["fedavg", "mpfl"])):
        runs += [run_of([(9, 0.5), (99, 0.9)], n, sweep={"data.partition": kind}) for n in names]
    first, second = panels(runs, comparison_table(runs), "fedavg")
    assert (first.setting, second.setting) == ("partition=a", "partition=b")
    assert [g.name for g in second.groups] == ["fedavg", "mpfl"]
    looks: dict[str, Any] = {group.name: group.style for group in first.groups}
    assert all(looks[group.name] == group.style for group in second.groups)
    made = [error_picture(panel) for panel in (first, second)]
    assert [item.name for item in made if item] == [
        "error_bytes_partition_a",
        "error_bytes_partition_b",
    ]
    figure = draw_errors([first, second])
    assert figure is not None
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["partition=a", "partition=b"]


def test_tuning_trials_are_faint_dots() -> None:
    panel = compared({"fedavg": 0.98, "mpfl": 0.97})
    plain, dotted = error_picture(panel), error_picture(panel, [Dot("mpfl", 20_000, 0.035)])
    assert plain is not None
    assert dotted is not None
    assert "Faint dots: ends of tuning trials" in dotted.caption
    assert "tuning" not in plain.caption
    assert dotted.svg.count("opacity: 0.45") > plain.svg.count("opacity: 0.45")


def test_nothing_is_drawn_where_nothing_is_sent() -> None:
    runs = [run_of([(0, 0.9)], "centralized")]
    (panel,) = panels(runs, comparison_table(runs), "fedavg")
    assert error_picture(panel) is None
    assert draw_errors([panel]) is None


@pytest.mark.parametrize("held", [None, 0.9])
def test_targets_of_validation_samples_are_not_taken_for_test_errors(held: float | None) -> None:
    panel = compared({"fedavg": 0.98, "mpfl": 0.97})
    runs = [
        replace(run, summary=replace(run.summary, validation_accuracy=held))
        for group in panel.groups
        for run in group.runs
    ]
    (panel,) = panels(runs, comparison_table(runs), "fedavg")
    for drawn in (error_picture(panel), target_bars(panel, "fedavg")):
        assert drawn is not None
        assert ("validation" in drawn.caption) == (held is not None)
