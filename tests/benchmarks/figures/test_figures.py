"""Figures: deterministic, labelled, described, and true to the data."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures.costs import claim_sums, cost_pictures
from benchmarks.figures.curves import accuracy_per_round, curve_pictures
from benchmarks.figures.errors import error_picture
from benchmarks.figures.groups import panels
from benchmarks.figures.one_run import (
    byte_pictures,
    mask_blocks,
    partition_map,
    pruning_pictures,
    weight_shape,
)
from benchmarks.figures.palette import variant_styles
from benchmarks.figures.savings import target_bars, waterfall
from benchmarks.figures.style import Picture, drawn
from benchmarks.figures.votes import rule_density, vote_agreement, vote_shares
from benchmarks.results.ladder import ladders
from benchmarks.results.loading import load_folders, load_run
from benchmarks.results.rows import comparison_table
from tests.benchmarks.conftest import edit_summary

Make = Callable[..., Path]

COMPARED = {
    "error_bytes": ("total bytes, up + down (log scale)", "test error (%, log scale)"),
    "bytes_to_target": ("bytes to the target (log scale)",),
    "waterfall": ("bytes to the target (log scale)", "float32: fedavg", "mask: mpfl"),
    "accuracy_rounds": ("round", "test accuracy (%)"),
    "density_rounds": ("round", "density (log scale)"),
    "byte_composition": ("share (%)", "uplink", "downlink"),
    "claimed_sent_possible": ("bytes of all messages (log scale)", "claimed", "sent", "possible"),
    "client_accuracy": ("accuracy at the client (%)",),
}
MARGIN = 0.5
"""So wide that every method of a few rounds reaches the target."""
OF_ONE_RUN = {
    "layer_density": ("round", "density of the layer"),
    "vote_agreement": ("round", "share (%)"),
    "rule_density": ("round", "density"),
    "vote_histogram": ("ballots that keep the unit (%)", "share of units (%, log scale)"),
    "mask_maps": ("fc1", "fc2"),
    "byte_composition": ("phase mask", "phase train"),
    "bytes_rounds": ("round", "bytes of the round (log scale)"),
    "partition": ("class", "client", "samples"),
}


def words_in(picture: Picture) -> set[str]:
    """Return the texts drawn in a picture (glyphs are paths; the writer notes each text)."""
    return {text.replace("\\-", "-") for text in re.findall(r"<!-- (.*?) -->", picture.svg)}


@pytest.fixture(scope="module")
def comparison(make_comparison: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_comparison(tmp_path_factory.mktemp("figures"))


@pytest.fixture(scope="module")
def compared(comparison: Path) -> dict[str, Picture]:
    return _compared(comparison)


@pytest.fixture(scope="module")
def of_one_run(make_run: Make, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Picture]:
    run = load_run(make_run(tmp_path_factory.mktemp("one") / "run"))
    made = [*pruning_pictures(run), *byte_pictures(run), partition_map(run)]
    return {item.name: item for item in made if item is not None}


def _compared(folder: Path) -> dict[str, Picture]:
    runs = load_folders([folder]).runs
    rows = comparison_table(runs, "fedavg", MARGIN)
    (panel,) = panels(runs, rows, "fedavg")
    steps, _ = ladders(runs, {"float32": "fedavg", "mask": "mpfl"}, "fedavg", MARGIN)
    made = drawn(error_picture(panel), target_bars(panel, "fedavg"), *map(waterfall, steps))
    made += [*curve_pictures(panel.groups), *cost_pictures(panel.groups)]
    return {item.name: item for item in made}


@pytest.mark.parametrize("name", COMPARED)
def test_a_comparison_has_the_figure_with_labelled_axes(
    compared: dict[str, Picture], name: str
) -> None:
    assert set(COMPARED[name]) <= words_in(compared[name])


@pytest.mark.parametrize("name", OF_ONE_RUN)
def test_a_run_has_the_figure_with_labelled_axes(of_one_run: dict[str, Picture], name: str) -> None:
    assert set(OF_ONE_RUN[name]) <= words_in(of_one_run[name])


def test_every_figure_is_an_image_and_is_described(
    compared: dict[str, Picture], of_one_run: dict[str, Picture]
) -> None:
    for item in [*compared.values(), *of_one_run.values()]:
        assert ElementTree.fromstring(item.svg).tag.endswith("svg")
        assert item.png.startswith(b"\x89PNG")
        assert item.pdf.startswith(b"%PDF")
        assert item.title
        assert item.caption.endswith(".")
        assert item.alternative.endswith(".")
        assert not re.search(r"\bnan\b", item.alternative)


def test_a_log_scale_is_said_on_the_axis_and_in_the_caption(
    compared: dict[str, Picture], of_one_run: dict[str, Picture]
) -> None:
    for item in [*compared.values(), *of_one_run.values()]:
        on_axis = any("log scale" in text for text in words_in(item))
        assert on_axis == ("log scale" in item.caption.lower()), item.name


def test_alternatives_hold_the_figures(compared: dict[str, Picture], comparison: Path) -> None:
    runs = load_folders([comparison]).runs
    rows = {row.method: row for row in comparison_table(runs)}
    text = compared["error_bytes"].alternative
    share = 100 * rows["mpfl"].accuracy.mean
    assert f"mpfl ends at {share:.1f} % with" in text
    mine = next(run for run in runs if run.label == "mpfl")
    sent = sum(mine.ledger.message_bytes)
    assert claim_sums(mine)["sent"] == sent
    assert f"sent {sent / 1000:.0f} kB" in compared["claimed_sent_possible"].alternative


def test_a_figure_follows_the_data_and_nothing_else(make_run: Make, tmp_path: Path) -> None:
    drawn = []
    for name, last in (("a", 0.8), ("b", 0.9), ("c", 0.8)):
        points = [(1, 0.1), (2, 0.2), (3, 0.3), (4, last)]
        run = load_run(make_run(tmp_path / name, points=points))
        (panel,) = panels([run], comparison_table([run]), "fedavg")
        drawn.append(accuracy_per_round(panel.groups))
    assert drawn[0] != drawn[1]
    assert drawn[0] == drawn[2]


def test_a_run_that_was_never_right_is_drawn_without_a_warning(
    make_run: Make, tmp_path: Path
) -> None:
    run = load_run(make_run(tmp_path / "r", points=[(n, 0.0) for n in range(1, 5)]))
    (panel,) = panels([run], comparison_table([run]), "fedavg")
    assert accuracy_per_round(panel.groups) is not None


def test_what_was_not_recorded_is_not_drawn(make_run: Make, tmp_path: Path) -> None:
    edit_summary(make_run(tmp_path / "bare", "fedavg"), partition=[], client_accuracy=[])
    run = load_run(tmp_path / "bare")
    assert pruning_pictures(run) == []
    assert partition_map(run) is None
    names = _compared(tmp_path / "bare")
    assert "density_rounds" not in names
    assert "client_accuracy" not in names


def test_a_run_without_messages_has_no_byte_figures(make_run: Make, tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path / "pooled", "centralized"))
    assert byte_pictures(run) == []
    assert set(_compared(tmp_path / "pooled")) == {"accuracy_rounds", "client_accuracy"}


def test_a_ceiling_is_a_curve_alone_and_a_level_beside_others(
    make_run: Make, tmp_path: Path
) -> None:
    runs = [load_run(make_run(tmp_path / name, name)) for name in ("centralized", "fedavg")]
    captions = []
    for some in (runs[:1], runs):
        (panel,) = panels(some, comparison_table(some), "fedavg")
        found = accuracy_per_round(panel.groups)
        assert found is not None
        captions.append(found.caption)
    assert ["Dashed" in caption for caption in captions] == [False, True]


def test_drawing_leaves_matplotlibs_settings_alone(make_run: Make, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    assert "error_bytes" in _compared(make_run(tmp_path / "run"))
    assert dict(mpl.rcParams) == before


def test_importing_the_report_does_not_import_pyplot() -> None:
    code = "import benchmarks.report.write, sys; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


METHODS = [
    *("mpfl", "fedavg", "fedavg_q8", "fedavg_prune", "topk", "signsgd_mv", "fedpm", "ssfl"),
    *("prunefl", "lotteryfl", "mpfl_finetune", "mpfl_regrow", "something_new", "another_one"),
]


def test_no_two_methods_look_the_same() -> None:
    styles = variant_styles({name: name for name in METHODS}, "fedavg")
    assert len({(s.color, s.marker) for s in styles.values()}) == len(METHODS)
    assert len({(s.color, str(s.line)) for s in styles.values()}) == len(METHODS)


def test_a_method_looks_the_same_in_every_comparison() -> None:
    alone = variant_styles({"fedavg": "fedavg", "topk": "topk"}, "fedavg")
    assert alone["topk"] == variant_styles({name: name for name in METHODS}, "fedavg")["topk"]


@given(
    labels=st.dictionaries(
        st.text("abc ", min_size=1, max_size=4) | st.sampled_from(METHODS),
        st.sampled_from(METHODS) | st.text("xyz", min_size=1, max_size=2),
        max_size=40,
    )
)
def test_no_two_variants_share_colour_and_marker(labels: dict[str, str]) -> None:
    styles = variant_styles(labels, "fedavg")
    assert list(styles) == list(labels)
    assert len({(s.color, s.marker) for s in styles.values()}) == len(labels)
    if len(labels) <= 9:
        assert len({s.color for s in styles.values()}) == len(labels)


def test_variants_of_one_method_have_colours_of_their_own() -> None:
    labels = {"fedavg": "fedavg", "mpfl": "mpfl", "dense_step": "dense_step", "d50": "d50"}
    styles = variant_styles({**labels, "mpfl density=0.5": "mpfl"}, "fedavg")
    assert len({style.color for style in styles.values()}) == 5
    assert len({style.marker for style in styles.values()}) == 5


def test_groups_follow_the_table(comparison: Path) -> None:
    runs = load_folders([comparison]).runs
    rows = comparison_table(runs)
    (panel,) = panels(runs, rows, "fedavg")
    assert [group.name for group in panel.groups] == [row.method for row in rows]


@given(
    rows=st.integers(1, 70),
    columns=st.integers(1, 70),
    most=st.integers(1, 60),
    seed=st.integers(0, 9),
)
def test_mask_blocks_count_every_unit_once(rows: int, columns: int, most: int, seed: int) -> None:
    keep = np.random.default_rng(seed).random(rows * columns) < 0.3
    blocks = mask_blocks(keep, (rows, columns), most)
    assert blocks.shape == (min(rows, most), min(columns, most))
    assert blocks.min() >= 0
    assert blocks.max() <= 1
    heights, widths = (
        np.diff(np.linspace(0, n, min(n, most) + 1).round()) for n in (rows, columns)
    )
    assert float(heights @ blocks @ widths) == pytest.approx(keep.sum())


def test_mask_blocks_keep_their_place() -> None:
    keep = np.zeros((4, 6), np.bool_)
    keep[:2, 3:] = True
    assert mask_blocks(keep.ravel(), (4, 3, 2), most=2).tolist() == [[0, 1], [0, 0]]


def test_whole_filters_are_one_row_each() -> None:
    keep = np.array([True, False, True, True])
    assert mask_blocks(keep, (4, 3, 5, 5), most=2).tolist() == [[0.5], [1.0]]
    assert mask_blocks(keep, ()).shape == (1, 4)


def test_kernels_are_one_cell_each() -> None:
    keep = np.array([True, False, False, True, True, True])
    assert mask_blocks(keep, (2, 3, 5, 5)).tolist() == [[1, 0, 0], [1, 1, 1]]


def test_recurrent_layers_have_the_shape_of_their_tensor() -> None:
    shapes = {"fc.weight": (3, 4), "lstm.weight_hh_l0": (8, 2)}
    assert weight_shape("fc", shapes) == (3, 4)
    assert weight_shape("lstm.weight_hh_l0", shapes) == (8, 2)
    assert weight_shape("conv", shapes) == ()


@pytest.mark.parametrize("ballots", range(1, 11))
def test_bins_of_few_ballots_lie_at_their_exact_shares(ballots: int) -> None:
    bins, places = vote_shares(11, ballots)
    for votes in range(ballots + 1):
        # The bin as it is counted: v = 0, then (0, 10 %], (10 %, 20 %], ...
        share = votes / ballots
        counted = sum(share > step / 10 + 1e-12 for step in range(10)) if votes else 0
        assert bins[votes] == counted
        assert places[votes] == pytest.approx(100 * share)


def test_bins_of_many_ballots_lie_at_their_ends() -> None:
    bins, places = vote_shares(11, 50)
    assert bins.tolist() == list(range(11))
    assert places.tolist() == [10 * step for step in range(11)]


def test_rules_of_a_single_vote_are_rows(make_run: Make, tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path / "run"))
    (first, *rest) = run.rounds
    assert first.vote is not None
    once = replace(run, rounds=(first, *(replace(line, vote=None) for line in rest)))
    drawn = rule_density(once)
    assert {"majority", "unanimous", "any", "budget", "density"} <= words_in(drawn)
    assert "round" not in words_in(drawn)
    assert words_in(vote_agreement(once)) >= {"1", "round"}
