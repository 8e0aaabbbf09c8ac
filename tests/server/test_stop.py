"""Runs that end before their last round: at an accuracy, a byte budget, a time."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.running.experiment import resume, run
from server import loop
from tests.federation import tiny
from tests.runs import digests, records

ROUNDS = 5


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Records of the run that no rule stops."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(tiny(federation__rounds=ROUNDS), folder)
    return records(folder)


def stopped(folder: Path, **rule: Any) -> list[dict[str, Any]]:
    """Return the records of a run under a rule."""
    run(tiny(federation__rounds=ROUNDS, **rule), folder)
    return records(folder)


def without_time(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def first(rows: list[dict[str, Any]], reached: Any) -> int:
    """Return how many rounds there are up to the first that satisfies `reached`."""
    return next(row["round"] for row in rows if reached(row))


def test_a_run_stops_after_the_round_that_reaches_the_accuracy(
    whole: list[dict[str, Any]], tmp_path: Path
) -> None:
    target = sorted(row["test_accuracy"] for row in whole)[2]
    expected = first(whole, lambda row: row["test_accuracy"] >= target)
    rows = stopped(tmp_path / "run", stop__target_accuracy=target)
    assert expected < ROUNDS
    assert without_time(rows) == without_time(whole[:expected])


def test_an_accuracy_that_was_not_measured_stops_nothing(tmp_path: Path) -> None:
    rows = stopped(tmp_path / "run", stop__target_accuracy=1e-6, federation__eval_every=3)
    assert [row["test_accuracy"] is not None for row in rows] == [False, False, True]


def test_an_accuracy_never_reached_stops_nothing(tmp_path: Path) -> None:
    assert len(stopped(tmp_path / "run", stop__target_accuracy=1.0)) == ROUNDS


@pytest.mark.parametrize(("extra", "rounds"), [(-1, 3), (0, 3), (1, 4)])
def test_no_round_begins_once_the_byte_budget_is_used_up(
    extra: int, rounds: int, whole: list[dict[str, Any]], tmp_path: Path
) -> None:
    budget = whole[2]["total_bytes"] + extra
    rows = stopped(tmp_path / "run", stop__byte_budget=budget)
    assert without_time(rows) == without_time(whole[:rounds])
    assert rows[-1]["total_bytes"] >= budget > rows[-2]["total_bytes"]


def test_the_seconds_of_all_rounds_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count(0, 10)  # read before and after a round: each takes ten seconds
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    rows = stopped(tmp_path / "run", stop__seconds=25.0)
    assert [row["seconds"] for row in rows] == [10.0, 20.0, 30.0]


def test_the_summary_of_a_stopped_run_is_of_its_last_round(tmp_path: Path) -> None:
    summary = run(tiny(federation__rounds=ROUNDS, stop__byte_budget=1), tmp_path / "run")
    (last,) = records(tmp_path / "run")
    assert summary["rounds"] == 1
    assert summary["total_bytes"] == last["total_bytes"]
    assert summary["test_accuracy"] == last["test_accuracy"]
    assert resume(tmp_path / "run") is None


@pytest.mark.parametrize("rule", [{"stop__byte_budget": 1}, {"stop__seconds": 1e-9}])
def test_a_stopped_run_is_evaluated_at_its_end(
    rule: dict[str, Any], whole: list[dict[str, Any]], tmp_path: Path
) -> None:
    summary = run(
        tiny(federation__rounds=ROUNDS, federation__eval_every=3, **rule), tmp_path / "run"
    )
    assert summary["test_accuracy"] == whole[0]["test_accuracy"]
    assert summary["test_loss"] == whole[0]["test_loss"]
    assert without_time(records(tmp_path / "run")) == without_time(whole[:1])


class KilledError(RuntimeError):
    """Stands in for the end of the process."""


@pytest.mark.parametrize(("after", "checkpoint_every"), [(1, 1), (1, 2), (3, 1), (3, 2), (3, 10)])
def test_a_killed_run_stops_where_the_whole_one_does(
    after: int, checkpoint_every: int, whole: list[dict[str, Any]], tmp_path: Path
) -> None:
    rule = {
        "stop__byte_budget": whole[2]["total_bytes"],
        "engine__checkpoint_every": checkpoint_every,
    }
    experiment = tiny(federation__rounds=ROUNDS, **rule)

    def kill(record: dict[str, Any]) -> None:
        if record["round"] == after:
            raise KilledError

    with pytest.raises(KilledError):
        run(experiment, tmp_path / "killed", kill)
    summary = resume(tmp_path / "killed")
    assert summary is not None
    assert without_time(records(tmp_path / "killed")) == without_time(whole[:3])
    assert digests(summary) == digests(run(experiment, tmp_path / "whole"))
