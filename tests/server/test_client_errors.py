"""What goes wrong at clients has reasons of its own; what goes wrong at the server ends the run."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from benchmarks.cli.main import invoke
from mpfl.config import to_toml
from mpfl.scores import SCORES, Score, ScoreInputs, UnitScores
from mpfl.wire.errors import WireError
from server.methods.mpfl import Mpfl
from tests.federation import tiny
from tests.runs import records, run_in_vain


def raising(inputs: ScoreInputs) -> UnitScores:
    raise ValueError("no such luck\nand no explanation")


def exiting(inputs: ScoreInputs) -> UnitScores:
    os._exit(1)


def sleeping(inputs: ScoreInputs) -> UnitScores:
    time.sleep(1.5)
    return SCORES["magnitude"].compute(inputs)


ONCE: list[str] = []
"""Filled by the first client of a test."""


def once(inputs: ScoreInputs) -> UnitScores:
    if not ONCE:
        ONCE.append("now")
        raise MemoryError("this once")
    return SCORES["magnitude"].compute(inputs)


def leaving(inputs: ScoreInputs) -> UnitScores:
    sys.exit(0)


def bus_error(inputs: ScoreInputs) -> UnitScores:
    os.kill(os.getpid(), signal.SIGBUS)
    time.sleep(60)
    return []


@pytest.fixture(autouse=True)
def scores(monkeypatch: pytest.MonkeyPatch) -> None:
    ONCE.clear()
    for score in (raising, exiting, sleeping, once, leaving, bus_error):
        monkeypatch.setitem(SCORES._own, score.__name__, Score(score))


def failing(score: str, workers: int = 0, **overrides: object) -> dict[str, object]:
    return {"prune__score": score, "engine__workers": workers, "data__clients": 2,
            "federation__rounds": 2, **overrides}  # fmt: skip


DEATHS = "its worker process died 3 times, the last time with "

CASES = [
    ("raising", 0, "client error", "ValueError: no such luck"),
    ("raising", 2, "client error", "ValueError: no such luck"),
    ("exiting", 2, "client crashed", f"{DEATHS}exit status 1"),
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
    overrides = {"engine__timeout": timeout, "faults__tolerate": "everything"}
    error = run_in_vain(tiny(**failing(score, workers, **overrides)), tmp_path / "run")
    assert "none of the 2 rounds of phase 'mask' counted; first cause: round 1: 0 of 2" in error
    assert error.endswith(line)
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
        prune__score="raising",
        faults__drop_before=0.5,
        faults__tolerate="client error",
        federation__rounds=2,
        data__clients=12,
    )
    run_in_vain(experiment, tmp_path / "run")
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


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_a_run_says_last_how_many_replies_were_lost_and_to_what(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], quiet: list[str]
) -> None:
    options = ["--set", "prune.score=once", "--set", "faults.tolerate=client error", *quiet]
    assert invoke(["run", config, "--out", str(tmp_path / "out"), *options]) == 0
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == (
        "replies that did not count: 1 (client error); "
        "first client that failed: client 0: MemoryError: this once"
    )
    health = json.loads((tmp_path / "out" / "summary.json").read_text())["health"]
    assert health["lost"] == {"client error": 1}
    assert health["rounds"] == {"mask": [2, 2], "train": [2, 2]}
    assert "1 (client error)" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("workers", [0, 2])
def test_one_client_that_fails_ends_a_simulation_at_once(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    """What was recorded stays, and a mended run goes on."""
    options = ["--set", "prune.score=once", "--set", f"engine.workers={workers}"]
    out = tmp_path / "out"
    assert invoke(["run", config, "--out", str(out), *options]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("mpfl: round 1, client ")
    assert "MemoryError: this once (client error; faults.tolerate says" in error
    assert (records(out), (out / "failure.json").is_file()) == ([], True)
    ONCE.clear()
    ONCE.append("mended")
    assert invoke(["resume", str(out), "--quiet"]) == 0
    assert (len(records(out)), (out / "failure.json").exists()) == (4, False)


def test_a_client_that_leaves_the_program_costs_its_reply_and_not_the_run(tmp_path: Path) -> None:
    """``sys.exit()`` in a client's code would end a run of one process, with status 0."""
    error = run_in_vain(tiny(**failing("leaving")), tmp_path / "run")
    assert error.startswith("round 1, client 0: SystemExit: 0 (client error")


def test_a_bus_error_has_its_name(tmp_path: Path) -> None:
    error = run_in_vain(tiny(**failing("bus_error", 2)), tmp_path / "run")
    assert f"{DEATHS}signal SIGBUS (client crashed; faults.tolerate" in error


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
    assert invoke(["run", config, "--out", str(tmp_path / "out")]) == 1
    assert [row["rejected"] for row in records(tmp_path / "out")] == [{"bad values": 4}] * 2
