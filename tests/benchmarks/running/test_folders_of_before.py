"""Folders that an earlier mpfl wrote (``tests/golden/folders``) are still read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import benchmarks
from benchmarks.running.experiment import resume
from mpfl.errors import InputError

FOLDERS = Path(__file__).parents[2] / "golden" / "folders"


def test_a_finished_run_is_read_whole(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDERS / "finished", tmp_path / "run")
    run = benchmarks.load(folder)
    assert len(run.rounds) == 5
    assert run.rounds[-1].total_bytes == run.ledger.message_bytes.sum() == 59_816
    assert run.mask is not None
    assert run.mask.density() == run.rounds[-1].density
    assert run.report().is_file()


def test_an_interrupted_run_is_left_to_the_version_that_began_it(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDERS / "interrupted", tmp_path / "run")
    with pytest.raises(
        InputError, match=r"latest: checkpoint version 1, expected 4; finish this run with the mpfl"
    ):
        resume(folder)
    for file in (FOLDERS / "interrupted").rglob("*"):
        if file.is_file():
            kept = folder / file.relative_to(FOLDERS / "interrupted")
            assert kept.read_bytes() == file.read_bytes()


def test_a_comparison_is_read_whole(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDERS / "comparison", tmp_path / "comparison")
    comparison = benchmarks.load(folder)
    assert [row.method for row in comparison.rows] == ["mpfl", "fedavg"]
    assert comparison.report().is_file()
