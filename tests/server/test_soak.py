"""Long runs: every fault at once for many rounds, and a server killed again and again."""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import statistics
import time
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.cli.main import main
from benchmarks.running.experiment import run
from mpfl.config import Experiment, to_toml
from mpfl.faults.replies import FAULTS, fault_of
from server.sampling import sample_clients
from tests.federation import tiny
from tests.memory import resident_bytes
from tests.processes import ended, forked, until
from tests.runs import digests, records

SOAK_ROUNDS = int(os.environ.get("MPFL_SOAK_ROUNDS", "200"))
"""Rounds of the soak; the long one has 2000."""
SOAK_CLIENTS = int(os.environ.get("MPFL_SOAK_CLIENTS", "5"))
"""Clients of the soak; the crowded one has 10000."""
CROWD = 100
"""From so many on clients are sampled. What the server keeps of them grows until all have trained
weights: a crowd is asked for these early, and all of it within about a hundred rounds."""
KILLS = int(os.environ.get("MPFL_SOAK_KILLS", "5"))
"""Kills of the run that is killed again and again; the long one has 25."""
ROUNDS = 10 * KILLS
"""Rounds of that run: enough for the kills, each of which comes within five rounds."""


def soak(rounds: int, clients: int) -> Experiment:
    crowded = clients >= CROWD
    asked = clients // 25 if crowded else clients
    crowd = {
        "data__partition": "virtual(24, 0.5)",
        "model__size": 0.05,  # of 10,000 clients the last reply is kept, for replays
        "federation__clients_per_round": asked,
    }
    return tiny(
        **(crowd if crowded else {}),
        **{f"faults__{name}": 0.05 for name in FAULTS},
        faults__byzantine=0.05,
        data__clients=clients,
        prune__rounds=rounds // (10 if crowded else 2),
        prune__vote="trimmed(0.2)",
        federation__rounds=rounds,
        federation__eval_every=10,
        federation__min_replies=asked * 3 // 5,
        prune__granularity="filter",
        engine__checkpoint_every=20,
    )


def expected_faults(experiment: Experiment) -> Counter[str]:
    """Return how many replies each fault takes away; the first of a client cannot be a replay."""
    met: Counter[str] = Counter()
    answered = set()
    for number in range(1, experiment.federation.rounds + 1):
        for client in sample_clients(experiment, number):
            fault = fault_of(experiment, number, client)
            if fault and (fault != "replay" or client in answered):
                met[fault] += 1
            if fault != "drop_before":
                answered.add(client)
    return met


@pytest.mark.slow
def test_every_fault_at_once_neither_leaks_nor_hangs_nor_goes_uncounted(tmp_path: Path) -> None:
    experiment, held = soak(SOAK_ROUNDS, SOAK_CLIENTS), list[int]()

    def watch(record: dict[str, object]) -> None:
        if int(str(record["round"])) % max(1, SOAK_ROUNDS // 40) == 0:
            gc.collect()
            held.append(resident_bytes())

    run(experiment, tmp_path / "run", on_round=watch)
    rows = records(tmp_path / "run")
    assert [row["round"] for row in rows] == list(range(1, SOAK_ROUNDS + 1))
    asked = len(sample_clients(experiment, 1))
    got, met = Counter[str](), expected_faults(experiment)
    for row in rows:
        got.update(row["rejected"])
        assert row["clients_replied"] + sum(row["rejected"].values()) == asked
        assert row["counted"] == (row["clients_replied"] >= experiment.federation.min_replies)
    assert got["dropped before training"] == met["drop_before"]
    assert got["dropped after training"] == met["drop_after"]
    assert got["after the deadline"] == met["straggle"]
    assert got["bad round"] == met["replay"] + met["wrong_round"]
    assert got["bad values"] + got["bad metrics"] == met["not_finite"]
    damaged = got["bad checksum"] + got["bad length"] + got["bad magic"] + got["bad version"]
    assert damaged == met["corrupt"] + met["truncate"]
    assert sum(got.values()) == sum(met.values())
    assert min(met.values()) > 0
    warm = held[len(held) // 4 :]
    first, last = warm[: len(warm) // 3], warm[-(len(warm) // 3) :]
    begin, end = statistics.median(first), statistics.median(last)
    print(f"\n{SOAK_ROUNDS} rounds, {SOAK_CLIENTS} clients: {sum(met.values())} faults, "
          f"resident MB {begin / 1e6:.1f} -> {end / 1e6:.1f}, "
          f"range {min(warm) / 1e6:.1f} to {max(warm) / 1e6:.1f}")  # fmt: skip
    assert end < 1.02 * begin


@pytest.mark.slow
def test_a_server_killed_many_times_at_random_moments_comes_to_the_same_result(
    tmp_path: Path,
) -> None:
    experiment = tiny(
        **{f"faults__{name}": 0.05 for name in FAULTS},
        prune__rounds=20,
        federation__rounds=ROUNDS,
        federation__eval_every=5,
        federation__clients_per_round=3,
        wire__up="int8",
        wire__down="int8",
        engine__workers=1,
    )
    started = time.monotonic()
    wanted = run(experiment, tmp_path / "whole")
    pace = (time.monotonic() - started) / ROUNDS
    out, config = tmp_path / "killed", tmp_path / "config.toml"
    config.write_text(to_toml(experiment))
    moment = random.Random(0)

    def start() -> None:
        first = ["run", str(config), "--out", str(out)]
        main([*(["resume", str(out)] if (out / "config.toml").exists() else first), "--quiet"])

    for _ in range(KILLS):
        wait_for = len(_lines(out)) + moment.choice((0, 1, 2, 3))
        child = forked(start)
        until(lambda n=wait_for: len(_lines(out)) >= n)  # type: ignore[misc]
        time.sleep(pace * moment.uniform(0, 2))
        os.kill(child, signal.SIGKILL)
        assert ended(child) == -signal.SIGKILL
    assert ended(forked(start)) == 0
    assert [row["round"] for row in records(out)] == list(range(1, ROUNDS + 1))
    assert (out / "ledger.csv").read_bytes() == (tmp_path / "whole" / "ledger.csv").read_bytes()
    for name in ("mask.mpfl", "model.safetensors"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    summary = json.loads((out / "summary.json").read_text())
    assert digests(summary) == digests(wanted)


def _lines(out: Path) -> list[str]:
    path = out / "rounds.jsonl"
    return path.read_text().splitlines() if path.is_file() else []
