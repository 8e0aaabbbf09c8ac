"""Cells whose effective configuration is equal run once, and are shown at every setting."""

from __future__ import annotations

import json
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w

import benchmarks
from benchmarks.results.loading import load_folders, load_run
from benchmarks.running import side_by_side
from benchmarks.running.cell import CELLS, Cell
from benchmarks.running.compare_config import split_table
from benchmarks.running.comparison import compare, plan_cells, read_comparison
from benchmarks.running.experiment import run
from mpfl.config import Experiment, from_mapping, to_mapping
from mpfl.errors import InputError
from mpfl.nested import dotted, with_override
from server.custody import digest_of, seal
from server.methods import METHODS
from tests.federation import tiny
from tests.runs import digests

SHARED = "same_run.json"
DENSITIES = [0.1, 0.3]


def table(methods: list[str], sweep: dict[str, list[Any]], **more: Any) -> dict[str, Any]:
    base = to_mapping(tiny(federation__rounds=2, prune__rounds=1))
    return {**base, "compare": {"methods": methods, "sweep": sweep, **more}}


def planned(methods: list[str], sweep: dict[str, list[Any]], **more: Any) -> list[Cell]:
    return plan_cells(*split_table(table(methods, sweep, **more)))


def homes(cells: list[Cell]) -> list[str]:
    return [cell.same_as or cell.name for cell in cells]


def test_a_setting_that_is_not_read_makes_no_run_of_its_own() -> None:
    cells = planned(["mpfl", "fedavg"], {"prune.density": DENSITIES}, seeds=[0, 1])
    assert [cell.same_as for cell in cells if cell.label == "mpfl"] == [""] * 4
    assert [cell.same_as for cell in cells if cell.label == "fedavg"] == [
        *("", ""),
        *("fedavg__prune.density=0.1__seed0", "fedavg__prune.density=0.1__seed1"),
    ]


@pytest.mark.parametrize(
    ("sweep", "runs"),
    [
        ({"train.lr": [0.1, 0.2]}, 2),
        ({"data.partition": ["iid", "shards(2)"]}, 2),
        ({"wire.up": ["", "float32"]}, 1),
        ({"wire.up": ["", "int8"]}, 2),
        ({"prune.granularity": ["weight", "filter"]}, 2),
        ({"train.batch_size": [16, 32], "prune.density": DENSITIES}, 2),
    ],
)
def test_what_matters_makes_one(sweep: dict[str, list[Any]], runs: int) -> None:
    assert len(set(homes(planned(["fedavg"], sweep)))) == runs


def test_variants_share_as_well() -> None:
    variants = {"other": {"method": "fedavg", "prune.density": 0.7}}
    cells = planned(["fedavg", "other"], {}, variants=variants)
    assert homes(cells) == ["fedavg__seed0", "fedavg__seed0"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shared") / "c"
    asked = table(["mpfl", "fedavg"], {"prune.density": DENSITIES})
    assert compare(asked, plan_cells(*split_table(asked)), out, workers=0) == {}
    return out


def test_the_run_is_done_once_and_shown_at_every_setting(compared: Path) -> None:
    later = compared / CELLS / "fedavg__prune.density=0.3__seed0"
    assert sorted(path.name for path in later.iterdir()) == ["manifest.json", SHARED]
    runs = load_folders([compared]).runs
    first, second = (run for run in runs if run.label == "fedavg")
    assert [dict(run.sweep) for run in (first, second)] == [{"prune.density": d} for d in DENSITIES]
    assert second.name == "fedavg density=0.3"
    assert second.config["prune"]["density"] == 0.3
    assert second.rounds == first.rounds


def test_every_row_of_the_table_has_figures(compared: Path) -> None:
    found = benchmarks.load(compared)
    rows = {row.method: row for row in found.rows}
    for density in DENSITIES:
        row = rows[f"fedavg density={density}"]
        assert row.ratio.mean == row.ratio_at_target.mean == 1.0
        assert rows[f"mpfl density={density}"].ratio.mean < 1
    assert all(run.model for run in found.runs)


def test_a_second_start_runs_nothing(compared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "run_cell", None)
    asked = table(["mpfl", "fedavg"], {"prune.density": DENSITIES})
    assert compare(asked, plan_cells(*split_table(asked)), compared, workers=0) == {}


def test_a_comparison_begun_before_a_key_was_known_goes_on(
    compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "run_cell", None)
    out = tmp_path / "c"
    shutil.copytree(compared, out)
    stored = tomllib.loads((out / "comparison.toml").read_text("utf-8"))
    for key in ("published", "best_of", "ladder"):
        del stored["compare"][key]
    content = tomli_w.dumps(stored).encode()
    (out / "comparison.toml").write_bytes(content)
    seal(out, {"comparison.toml": digest_of(content)})
    again = read_comparison(out)
    assert compare(again, plan_cells(*split_table(again)), out, workers=0) == {}
    other = with_override(again, "compare.margin", 0.3)
    with pytest.raises(InputError, match="holds another comparison"):
        compare(other, plan_cells(*split_table(other)), out, workers=0)


def test_the_shared_run_is_the_one_of_the_cells_own_configuration(
    compared: Path, tmp_path: Path
) -> None:
    asked = planned(["fedavg"], {"prune.density": DENSITIES})[1]
    own = run(asked.experiment, tmp_path / "own")
    assert digests(own) == digests(vars(load_run(compared / CELLS / asked.name).summary))


def test_a_codec_that_is_the_default_shares_the_run_when_read_back(tmp_path: Path) -> None:
    asked = table(["fedavg"], {"wire.up": ["", "float32"]})
    assert compare(asked, plan_cells(*split_table(asked)), tmp_path / "c", workers=0) == {}
    runs = load_folders([tmp_path / "c"]).runs
    assert sorted(run.sweep["wire.up"] for run in runs) == ["", "float32"]
    (file,) = (tmp_path / "c").rglob(SHARED)
    content = file.read_text()
    (file.parent / "manifest.json").unlink()
    file.write_text(content.replace('"wire.up": "float32"', '"wire.up": "int8"'))
    assert file.read_text() != content
    with pytest.raises(InputError, match="is the run of other work"):
        load_folders([tmp_path / "c"])


def test_one_that_failed_failed_everywhere(tmp_path: Path) -> None:
    changes = {"fedavg": {"faults.drop_before": 1.0}}
    asked = table(["mpfl", "fedavg"], {"prune.density": DENSITIES}, variants=changes)
    failed = compare(asked, plan_cells(*split_table(asked)), tmp_path / "c", workers=0)
    names = [f"fedavg__prune.density={density}__seed0" for density in DENSITIES]
    assert list(failed) == names
    found = load_folders([tmp_path / "c"]).failures
    assert [found[name].sweep for name in names] == [{"prune.density": d} for d in DENSITIES]
    shutil.copytree(tmp_path / "c", tmp_path / "d")
    both = load_folders([tmp_path / "c", tmp_path / "d"]).failures
    assert list(both) == [f"{folder}/cells/{name}" for folder in "cd" for name in names]


def test_a_pointer_that_was_edited_is_refused(compared: Path, tmp_path: Path) -> None:
    copy = tmp_path / "c"
    shutil.copytree(compared, copy)
    file = copy / CELLS / "fedavg__prune.density=0.3__seed0" / SHARED
    file.write_text(file.read_text().replace("0.1", "0.2"))
    with pytest.raises(InputError, match=r"same_run\.json: edited or damaged"):
        load_folders([copy])
    file.parent.joinpath("manifest.json").unlink()
    for cell in ("../x", "..", ".", "", file.parent.name):
        file.write_text(json.dumps({"cell": cell, "label": "a", "seed": 0, "sweep": {}}))
        with pytest.raises(InputError, match="is no cell with a run of its own"):
            load_folders([copy])


@pytest.mark.parametrize(
    "change",
    [
        {"cell": "mpfl__prune.density=0.1__seed0"},  # another method
        {"cell": "fedavg__prune.density=0.1__seed1"},  # another seed
        {"cell": "fedavg__prune.density=0.1__seed1", "seed": 1},
        {"label": "mpfl"},
    ],
)
def test_a_pointer_to_the_run_of_other_work_is_refused_though_it_is_sealed(
    compared: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    copy = tmp_path / "c"
    shutil.copytree(compared, copy)
    file = copy / CELLS / "fedavg__prune.density=0.3__seed0" / SHARED
    content = json.dumps({**json.loads(file.read_text()), **change}).encode()
    file.write_bytes(content)
    seal(file.parent, {SHARED: digest_of(content)})
    with pytest.raises(InputError, match=r"same_run\.json: damaged \(.* of other work than 'fed"):
        load_folders([copy])


def test_a_pointer_to_another_value_of_a_key_that_is_read_is_refused(
    compared: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "c"
    shutil.copytree(compared, copy)
    file = copy / CELLS / "mpfl__prune.density=0.3__seed0" / SHARED
    record = {
        "cell": "mpfl__prune.density=0.1__seed0",
        "label": "mpfl",
        "seed": 0,
        "sweep": {"prune.density": 0.3},
    }
    shutil.rmtree(file.parent)
    file.parent.mkdir()
    file.write_text(json.dumps(record))
    with pytest.raises(InputError, match="is the run of other work"):
        load_folders([copy])


OTHERS: dict[str, Any] = {
    "train.lr": 0.3,
    "train.momentum": 0.5,
    "prune.density": 0.7,
    "prune.score": "taylor",
    "prune.ranking": "flat",
    "prune.vote": "majority",
    "prune.schedule": "linear",
    "prune.rounds": 3,
    "prune.epochs": 2,
    "prune.rescale": True,
    "prune.weighted": True,
    "prune.voters": 1,
    "prune.min_units": 2,
    "prune.recovery": "finetune",
    "prune.gate": 0.5,
    "prune.converged": 0.5,
    "prune.score_samples": 10,
    "wire.mask_codec": "matrix",
    "wire.mask_classes": 2,
    "wire.up": "int8",
    "wire.down": "int8",
    "wire.error_feedback": False,
    "wire.value_classes": True,
    "comparator.sign_step": 0.1,
    "comparator.fedpm_lr": 0.3,
    "comparator.fedpm_reset": 3,
    "comparator.prunefl_every": 2,
}
"""Other values than those of the small experiment, for keys that a method may never read."""


def _with_unread_changed(experiment: Experiment) -> Experiment:
    """Return an experiment with as many other values as are said to change nothing."""
    changed: dict[str, Any] = to_mapping(experiment)
    for key, value in OTHERS.items():
        candidate = with_override(changed, key, value)
        pair = {"a": dotted(changed), "b": dotted(candidate)}
        for keys in pair.values():
            del keys["seed"]
        asked = {"methods": ["a", "b"], "variants": pair}
        first, second = plan_cells(*split_table({**to_mapping(experiment), "compare": asked}))
        changed = candidate if second.same_as == first.name else changed
    return from_mapping(changed)


@pytest.mark.parametrize("method", METHODS.names())
def test_what_is_said_not_to_be_read_changes_nothing(method: str, tmp_path: Path) -> None:
    experiment = replace(tiny(federation__rounds=4), method=method)
    other = _with_unread_changed(experiment)
    first, second = run(experiment, tmp_path / "a"), run(other, tmp_path / "b")
    assert digests(first) == digests(second)
    assert first["test_accuracy"] == second["test_accuracy"]


def test_the_keys_tried_are_many() -> None:
    experiment = replace(tiny(), method="fedavg")
    changed = dotted(to_mapping(_with_unread_changed(experiment)))
    before = dotted(to_mapping(experiment))
    assert sum(changed[key] != before[key] for key in before) > 15
