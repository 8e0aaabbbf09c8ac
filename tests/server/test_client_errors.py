"""What goes wrong at clients has reasons of its own; what goes wrong at the server ends the run."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from benchmarks.cli.main import invoke
from benchmarks.running.experiment import run
from mpfl.config import to_toml
from mpfl.scores import SCORES, Score, ScoreInputs, UnitScores
from mpfl.wire.errors import WireError
from server.methods.mpfl import Mpfl
from tests.federation import tiny
from tests.runs import records


def raising(inputs: ScoreInputs) -> UnitScores:
    raise ValueError("no such luck\nand no explanation")


def exiting(inputs: ScoreInputs) -> UnitScores:
    os._exit(1)


def sleeping(inputs: ScoreInputs) -> UnitScores:
    time.sleep(1.5)
    return SCORES["magnitude"].compute(inputs)


@pytest.fixture(autouse=True)
def scores(monkeypatch: pytest.MonkeyPatch) -> None:
    for score in (raising, exiting, sleeping):
        monkeypatch.setitem(SCORES._parts, score.__name__, Score(score))


def failing(score: str, workers: int = 0, **overrides: object) -> dict[str, object]:
    return {"prune__score": score, "engine__workers": workers, "data__clients": 2,
            "federation__rounds": 2, **overrides}  # fmt: skip


CASES = [
    ("raising", 0, "client error", "ValueError: no such luck"),
    ("raising", 2, "client error", "ValueError: no such luck"),
    ("exiting", 2, "client crashed", "its worker process died 3 times, at last with exit status 1"),
    ("sleeping", 0, "no reply", "no reply within 1 s"),
    ("sleeping", 2, "no reply", "no reply within 1 s"),
]


@pytest.mark.parametrize(("score", "workers", "reason", "line"), CASES)
def test_each_way_to_fail_is_counted_under_its_own_reason(
    tmp_path: Path,
    score: str,
    workers: int,
    reason: str,
    line: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    timeout = 1 if score == "sleeping" else 60
    run(tiny(**failing(score, workers, engine__timeout=timeout)), tmp_path / "run")
    rows = records(tmp_path / "run")
    assert [row["rejected"] for row in rows] == [{reason: 2}] * 2
    for row in rows:
        assert sorted(row["errors"]) == [f"client {client}: {line}" for client in range(2)]
    logged = [record.getMessage() for record in caplog.records if line in record.getMessage()]
    assert len(logged) == (reason != "no reply")  # once a run, not once a client
    if score == "raising":
        assert "and no explanation" in logged[0]
        assert "in raising" in logged[0]


def test_a_client_that_failed_stands_before_simulated_losses(tmp_path: Path) -> None:
    experiment = tiny(
        prune__score="raising", faults__drop_before=0.5, federation__rounds=2, data__clients=12
    )
    run(experiment, tmp_path / "run")
    for row in records(tmp_path / "run"):
        assert row["rejected"].keys() == {"client error", "dropped before training"}
        errors = [error.partition(": ")[2] for error in row["errors"]]
        failures = min(row["rejected"]["client error"], 3)
        assert errors[:failures] == ["ValueError: no such luck"] * failures
        assert errors[failures:] == ["dropped before training"] * (3 - failures)


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.toml"
    path.write_text(to_toml(tiny()))
    return str(path)


def test_a_run_says_last_how_many_clients_failed_and_how(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--set", "prune.score=raising", "--set", "prune.rounds=3"]
    assert invoke(["run", config, "--out", str(tmp_path / "out"), *options]) == 0
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "12 client errors: client 0: ValueError: no such luck"


def test_a_run_without_failures_says_nothing_of_them(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--set", "faults.drop_before=0.5"]
    assert invoke(["run", config, "--out", str(tmp_path / "out"), *options]) == 0
    assert "client error" not in capsys.readouterr().err


def test_a_bug_in_a_servers_method_ends_the_run_with_its_traceback(
    config: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def accept(*arguments: object) -> None:
        raise ValueError("operands could not be broadcast together")

    monkeypatch.setattr(Mpfl, "accept", accept)
    assert invoke(["run", config, "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "Traceback (most recent call last)" in error
    assert "in accept" in error
    assert error.endswith("ValueError: operands could not be broadcast together\n")
    assert records(tmp_path / "out") == []


def test_what_a_method_refuses_is_a_rejected_reply(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def accept(*arguments: object) -> None:
        raise WireError("values", "one is not finite")

    monkeypatch.setattr(Mpfl, "accept", accept)
    assert invoke(["run", config, "--out", str(tmp_path / "out")]) == 0
    assert [row["rejected"] for row in records(tmp_path / "out")] == [{"bad values": 4}] * 4
