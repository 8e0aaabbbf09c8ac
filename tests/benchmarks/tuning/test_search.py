"""The search repeats itself, learns from finished trials alone, and survives a torn journal."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tuning import search
from benchmarks.tuning.search import Journal, next_point
from benchmarks.tuning.space import Axis, Choice, Range
from mpfl.errors import InputError

AXES: dict[str, Axis] = {
    "lr": Range(0.001, 1, log=True),
    "size": Range(1, 8, whole=True),
    "kind": Choice(("a", "b", True, 0.5)),
}


def bad(point: dict[str, Any]) -> float:
    return abs(point["lr"] - 0.1) + point["size"] + (point["kind"] != "b")


def searched(file: Path, trials: int, stop: int = 10**6, seed: int = 10) -> list[dict[str, Any]]:
    """Return the points of a search that goes on where the journal ends, up to `stop`."""
    journal = Journal(file)
    for number in range(len(journal.finished("s", AXES)), min(trials, stop)):
        point = next_point(AXES, journal.finished("s", AXES), trials, seed, "s")
        assert len(journal.finished("s", AXES)) == number
        journal.add("s", AXES, point, bad(point))
    return [dict(trial.params) for trial in journal.finished("s", AXES)]


def test_a_search_that_was_interrupted_finds_the_same(tmp_path: Path) -> None:
    whole = searched(tmp_path / "whole", 20)
    for stop in range(1, 20, 3):
        assert searched(tmp_path / "parts", 20, stop) == whole[:stop]
    assert searched(tmp_path / "parts", 20) == whole
    assert searched(tmp_path / "other", 20, seed=11) != whole


def test_it_learns(tmp_path: Path) -> None:
    points = searched(tmp_path / "j", 30)
    early, late = points[:10], points[20:]
    assert sum(map(bad, late)) < 0.6 * sum(map(bad, early))


def test_studies_do_not_mix(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    for study in ("a", "b", "a"):
        known = journal.finished(study, AXES)
        journal.add(study, AXES, next_point(AXES, known, 5, 1, study), 1.0)
    assert [len(journal.finished(study, AXES)) for study in ("a", "b", "c")] == [2, 1, 0]
    first = [journal.finished(study, AXES)[0].params for study in ("a", "b")]
    assert first[0] != first[1]


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_half_a_line_does_not_count(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "j"
    whole = searched(file, 6)
    file.write_bytes(file.read_bytes()[:-cut])
    assert len(Journal(file).finished("s", AXES)) == 5
    assert searched(file, 6) == whole


def test_no_lock_is_left_behind(tmp_path: Path) -> None:
    searched(tmp_path / "j", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["j"]


def test_who_has_not_installed_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'mpfl\[tune\]'"):
        search.check_installed()
