"""Folders that an earlier mpfl wrote (``tests/golden/folders``, version 0.1.0) are still read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import benchmarks
from benchmarks.running.experiment import resume
from tests.recorded_runs import RECORD, machine

FOLDERS = Path(__file__).parents[2] / "golden" / "folders"


def test_a_finished_run_is_read_whole(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDERS / "finished", tmp_path / "run")
    run = benchmarks.load(folder)
    assert len(run.rounds) == 5
    assert run.rounds[-1].total_bytes == run.ledger.message_bytes.sum() == 59_816
    assert run.mask is not None
    assert run.mask.density() == run.rounds[-1].density
    assert run.report().is_file()


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDERS / "interrupted", tmp_path / "run")
    summary = resume(folder)
    assert summary is not None
    assert summary["rounds"] == 5
    before = json.loads((FOLDERS / "finished" / "summary.json").read_text())
    if machine() == json.loads(RECORD.read_text())["machine"]:
        for kind in ("mask", "model", "payload"):
            assert summary[f"{kind}_digest"] == before[f"{kind}_digest"]


def test_a_comparison_is_read_whole(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDERS / "comparison", tmp_path / "comparison")
    comparison = benchmarks.load(folder)
    assert [row.method for row in comparison.rows] == ["mpfl", "fedavg"]
    assert comparison.report().is_file()
