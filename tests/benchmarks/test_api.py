"""Runs and comparisons from Python."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from matplotlib.figure import Figure

import benchmarks
from mpfl.config import from_mapping
from server.runfolder import SUMMARY
from tests.runs import DIGESTS, SMALL

QUICK = {
    "data.train_samples": 240,
    "data.test_samples": 60,
    "prune.rounds": 1,
    "federation.rounds": 2,
}
HAS_PANDAS = importlib.util.find_spec("pandas") is not None


@pytest.fixture(scope="module")
def run() -> benchmarks.Run:
    return benchmarks.run(SMALL, QUICK)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> benchmarks.Comparison:
    out = tmp_path_factory.mktemp("comparison") / "out"
    return benchmarks.compare(
        SMALL, QUICK, methods=["mpfl", "fedavg", "centralized"], seeds=[0, 1], out=out
    )


def test_importing_the_package_loads_no_network_library() -> None:
    script = (
        "import sys, benchmarks; print('torch' in sys.modules); "
        "print(benchmarks.compare.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "benchmarks.api.calls"], done.stderr


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        benchmarks.nonsense  # noqa: B018


def test_a_run_holds_what_its_folder_holds(run: benchmarks.Run) -> None:
    assert len(run.rounds) == 2
    assert run.rounds[-1].total_bytes == run.ledger.message_bytes.sum()
    assert run.summary["test_accuracy"] == run.rounds[-1].test_accuracy
    assert run.mask is not None
    assert run.mask.count() == run.summary["surviving_units"]
    assert sum(values.size for values in run.model.values()) == run.summary["parameters"]
    kept = sum(int(np.count_nonzero(v)) for name, v in run.model.items() if "weight" in name)
    assert kept <= run.mask.count()


def test_every_kind_of_configuration_gives_the_same_run(
    run: benchmarks.Run, tmp_path: Path
) -> None:
    file = tmp_path / "small.toml"
    file.write_text(tomli_w.dumps(SMALL))
    for config in (str(file), file, from_mapping(SMALL)):
        other = benchmarks.run(config, QUICK)
        assert [other.summary[key] for key in DIGESTS] == [run.summary[key] for key in DIGESTS]


def test_overrides_decide(run: benchmarks.Run) -> None:
    assert run.summary["density"] == pytest.approx(0.2, abs=1e-3)
    other = benchmarks.run(SMALL, {**QUICK, "prune.density": 0.5})
    assert other.summary["density"] == pytest.approx(0.5, abs=1e-3)


def test_a_folder_with_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(ValueError, match="not empty"):
        benchmarks.run(SMALL, QUICK, out=tmp_path)


def test_a_run_is_plotted_and_reported(run: benchmarks.Run) -> None:
    figure = run.plot()
    assert isinstance(figure, Figure)
    accuracy, cost = figure.axes
    np.testing.assert_array_equal(
        accuracy.lines[0].get_ydata(), [line.test_accuracy for line in run.rounds]
    )
    np.testing.assert_array_equal(
        cost.lines[0].get_ydata(), [line.uplink_bytes for line in run.rounds]
    )
    assert run.report().is_file()


def test_a_comparison_has_its_runs_in_the_order_asked_for(
    comparison: benchmarks.Comparison,
) -> None:
    names = [(run.data.label, run.data.seed) for run in comparison.runs]
    assert names == [(m, s) for m in ("mpfl", "fedavg", "centralized") for s in (0, 1)]
    assert [row.seeds for row in comparison.rows] == [(0, 1)] * 3
    assert all((run.folder / SUMMARY).is_file() for run in comparison.runs)


def test_a_comparison_as_text_names_every_method(comparison: benchmarks.Comparison) -> None:
    text = comparison.table()
    assert all(method in text for method in ("mpfl", "fedavg", "centralized"))
    assert "\x1b" not in text


def test_a_comparison_is_plotted_over_bytes(comparison: benchmarks.Comparison) -> None:
    (axes,) = comparison.plot().axes
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert {"mpfl", "fedavg"} <= {text.get_text() for text in axes.texts}
    assert {"mpfl", "fedavg"} <= {str(line.get_label()) for line in axes.lines}


def test_a_comparison_again_in_its_folder_runs_nothing(
    comparison: benchmarks.Comparison,
) -> None:
    seen = []
    again = benchmarks.compare(
        SMALL,
        QUICK,
        methods=["mpfl", "fedavg", "centralized"],
        seeds=[0, 1],
        out=comparison.folder,
        on_cell=lambda cell, _: seen.append(cell),
    )
    assert seen == []
    assert again.rows == comparison.rows


def test_a_loaded_folder_is_what_was_returned(
    run: benchmarks.Run, comparison: benchmarks.Comparison
) -> None:
    assert benchmarks.load(run.folder).summary == run.summary
    assert benchmarks.load(str(comparison.folder)).rows == comparison.rows


def test_only_ceilings_cannot_be_plotted_over_bytes() -> None:
    alone = benchmarks.compare(SMALL, QUICK, methods=["centralized"], seeds=[0])
    with pytest.raises(ValueError, match="no run of this comparison sends"):
        alone.plot()


@pytest.mark.skipif(HAS_PANDAS, reason="pandas is installed")
def test_without_pandas_the_extra_is_named(
    run: benchmarks.Run, comparison: benchmarks.Comparison
) -> None:
    for convert in (run.to_pandas, comparison.to_pandas):
        with pytest.raises(ImportError, match=r"mpfl\[pandas\]"):
            convert()


@pytest.mark.skipif(not HAS_PANDAS, reason="needs pandas")
def test_frames_hold_the_figures(run: benchmarks.Run, comparison: benchmarks.Comparison) -> None:
    rounds, ledger, table = run.to_pandas(), run.to_pandas("ledger"), comparison.to_pandas()
    assert rounds.total_bytes.iloc[-1] == ledger.message_bytes.sum()
    assert list(rounds.index) == [1, 2]
    assert table.loc["mpfl", "accuracy"] == comparison.rows[0].accuracy.mean


def test_an_unknown_table_is_refused(run: benchmarks.Run) -> None:
    with pytest.raises(ValueError, match="ledger"):
        run.to_pandas("legder")
