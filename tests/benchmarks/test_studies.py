"""The studies of docs/results run, and their tables hold what the runs say."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from benchmarks.studies import common, scores, stress
from mpfl.config import from_mapping
from mpfl.nested import with_override
from mpfl.scores import SCORES


def options(out: Path) -> argparse.Namespace:
    return argparse.Namespace(out=out, data_dir="", seeds=1, workers=1, smoke=True)


def test_score_study_names_every_score() -> None:
    named = {name.partition("(")[0] for of in scores.SCORES.values() for name in of}
    assert named == set(SCORES.names())


@pytest.mark.parametrize("study", [scores, stress])
def test_every_cell_of_a_study_is_a_valid_configuration(study: object) -> None:
    table = study.TABLE  # type: ignore[attr-defined]
    for keys in study.variants().values():  # type: ignore[attr-defined]
        changed = table
        for key, value in keys.items():
            changed = with_override(changed, key, value)
        assert from_mapping(changed).data.clients == 10


def test_margins_are_paired_by_seed() -> None:
    def runs(*values: float) -> dict[int, dict[str, float]]:
        return {seed: {"test_accuracy": value} for seed, value in enumerate(values)}

    results = {
        f"{score}, {granularity}": runs(0.5, 0.7) if score == "random" else runs(0.6, 0.8)
        for granularity, of in scores.SCORES.items()
        for score in of
    }
    lines = scores.table_of(results).splitlines()
    assert lines[2].split("|")[3].strip().startswith("60.00 ± ")
    assert lines[3].split("|")[4].strip() == "10.00 ± 0.00"
    assert lines[2].split("|")[4].strip() == ""


def test_a_study_runs_and_continues(tmp_path: Path) -> None:
    table = common.settings(scores.TABLE, options(tmp_path))
    variants = {"random": {"prune.score": "random"}, "taylor": {"prune.score": "taylor"}}
    first = common.run_study(table, variants, options(tmp_path))
    again = common.run_study(table, variants, options(tmp_path))
    assert first == again
    assert set(first) == {"random", "taylor"}
    assert common.accuracies(first, "taylor")[0] == 100 * first["taylor"][0]["test_accuracy"]


def test_bad_input_is_one_line_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["study", "--out", str(tmp_path / "out"), "--data-dir", str(tmp_path / "nowhere")]
    monkeypatch.setattr("sys.argv", asked)
    with pytest.raises(SystemExit) as ended:
        common.print_study("A study.", stress.TABLE, {"one": {}}, stress.table_of)
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_masks_under_stress_are_retrained_once(tmp_path: Path) -> None:
    table = common.settings(stress.TABLE, options(tmp_path))
    label = stress.label_of("majority", "labels", 2)
    results = common.run_study(table, {label: stress.variants()[label]}, options(tmp_path))
    text = stress.retrained_cell(results, label)
    (file,) = tmp_path.rglob("central_retrain.json")
    record = json.loads(file.read_text())
    assert record["epochs"] == stress.EPOCHS
    assert record["samples"] == 300
    assert text == f"{100 * record['test_accuracy']:.2f}"
    written = file.stat().st_mtime_ns
    assert stress.retrained_cell(results, label) == text
    assert file.stat().st_mtime_ns == written


def test_averaging_alone_is_stressed_like_the_rest() -> None:
    keys = stress.variants()[stress.label_of(stress.NO_MASK, "pixels", 3)]
    assert keys == {"method": "fedavg", "faults.stress": 0.3, "faults.stress_kind": "pixels"}
