"""Same configuration and seed: the same masks, model and payloads, whatever happens."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr

import numpy as np
import pytest

from benchmarks.cli.main import main
from benchmarks.running.experiment import resume, run
from clients.client import Client
from clients.replica import ClientState
from mpfl.config import to_toml
from mpfl.mask import Mask
from mpfl.world import build_world
from tests.federation import tiny
from tests.processes import ended, forked, killed_before, until
from tests.runs import DIGESTS, digests, records, run_small, small


def test_client_and_server_agree_on_w0_without_a_message():
    ours = build_world(small())
    script = (
        "import sys, hashlib; from mpfl.config import from_toml; "
        "from mpfl.world import build_world; w = build_world(from_toml(sys.stdin.read())); "
        "print(hashlib.sha256(w.w0.tobytes()).hexdigest())"
    )
    theirs = subprocess.run(
        [sys.executable, "-c", script],
        input=to_toml(small()),
        capture_output=True,
        text=True,
        check=True,
    )
    assert theirs.stdout.strip() == hashlib.sha256(ours.w0.tobytes()).hexdigest()
    other = build_world(small(seed=1))
    assert not np.array_equal(ours.w0, other.w0)


def test_two_runs_are_identical_and_another_seed_is_not(tmp_path):
    first = run_small(tmp_path / "a")
    again = run_small(tmp_path / "b")
    other = run_small(tmp_path / "c", seed=1)
    assert digests(first) == digests(again)
    for name in ("mask.mpfl", "model.safetensors", "ledger.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert all(first[key] != other[key] for key in DIGESTS)


@pytest.mark.parametrize("method", ["mpfl", "fedavg"])
def test_the_number_of_workers_does_not_matter(tmp_path, method):
    runs = [
        run_small(tmp_path / str(n), engine__workers=n, method=method, federation__rounds=3)
        for n in (0, 1, 3)
    ]
    assert digests(runs[0]) == digests(runs[1]) == digests(runs[2])


def test_a_run_killed_before_every_change_to_its_folder_comes_to_the_same_result(tmp_path):
    """The n-th start is killed before its n-th change, so each start gets a little further."""
    experiment = tiny(federation__rounds=5)
    wanted = run(experiment, tmp_path / "whole")
    out, kills = tmp_path / "killed", 0

    def start():
        return resume(out) if (out / "config.toml").exists() else run(experiment, out)

    while killed_before(kills + 1, start, out):
        kills += 1
        assert kills < 100
    assert kills >= 10
    assert digests(json.loads((out / "summary.json").read_text())) == digests(wanted)
    assert [r["round"] for r in records(out)] == [1, 2, 3, 4, 5]
    assert (out / "ledger.csv").read_bytes() == (tmp_path / "whole" / "ledger.csv").read_bytes()


def test_resuming_a_finished_run_does_nothing(tmp_path):
    run_small(tmp_path / "a", federation__rounds=2)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "a").iterdir()}
    assert resume(tmp_path / "a") is None
    assert before == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "a").iterdir()}


def test_partial_participation_and_quantised_updates_survive_a_restart(tmp_path):
    overrides = {
        "federation__clients_per_round": 2,
        "federation__rounds": 7,
        "wire__up": "int8",
        "wire__down": "int8",
    }
    wanted = run_small(tmp_path / "whole", **overrides)
    stopped = []

    def stop(record):
        stopped.append(record)
        if record["round"] == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(small(**overrides), tmp_path / "cut", on_round=stop)
    assert digests(resume(tmp_path / "cut")) == digests(wanted)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_pruned_weights_are_exactly_zero_after_every_step(optimizer):
    world = build_world(
        small(
            train__momentum=0.9,
            train__weight_decay=0.01,
            train__clip=1.0,
            train__optimizer=optimizer,
            train__lr=0.01,
            train__batch_size=8,
        )
    )
    rng = np.random.default_rng(0)
    mask = Mask.from_bools(world.layout, rng.random(world.layout.total) < 0.3)
    keep = world.structure.parameter_mask(mask)
    seen = []

    def watch(values, grads, lr):
        seen.append(bool((values.numpy()[~keep] == 0).all()))
        assert not (values.numpy()[keep] == 0).all()

    start = np.concatenate([world.w0, world.b0])
    Client(world, 0, ClientState()).train(start, 1, mask=mask, observer=watch)
    assert len(seen) > 5
    assert all(seen)
    assert (world.model.values.numpy()[~keep] == 0).all()
    assert (world.model.values.numpy()[keep] != 0).mean() > 0.99


def test_ctrl_c_leaves_a_resumable_folder_and_status_130(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(to_toml(small(federation__rounds=500)))
    out = tmp_path / "out"

    def command():
        with (tmp_path / "errors").open("w") as errors, redirect_stderr(errors):
            main(["run", str(config), "--out", str(out), "--quiet"])

    child = forked(command)
    until(lambda: (out / "checkpoint" / "latest").exists())
    os.kill(child, signal.SIGINT)
    assert ended(child) == 130
    errors = (tmp_path / "errors").read_text()
    assert "mpfl resume" in errors
    assert "Traceback" not in errors
    assert (out / "checkpoint" / "latest").exists()


def test_a_start_cut_short_before_its_configuration_can_begin_again(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "checkpoint").mkdir()
    (out / "rounds.jsonl").write_text("")
    run_small(out, federation__rounds=1)
    assert len(records(out)) == 1


def test_the_summary_counts_the_work_of_a_forward_pass(tmp_path):
    by_weight = run_small(tmp_path / "weight", federation__rounds=2)
    assert by_weight["macs_dense"] == 64 * 300 + 300 * 100 + 100 * 10
    assert by_weight["macs_masked"] == by_weight["surviving_units"]
    assert "macs_compacted" not in by_weight
    by_filter = run_small(tmp_path / "filter", federation__rounds=2, prune__granularity="filter")
    assert by_filter["macs_compacted"] == by_filter["macs_masked"] < by_filter["macs_dense"] / 4


@pytest.mark.parametrize("method", ["fedavg_prune", "lotteryfl"])
def test_every_method_that_ranks_knows_the_row_widths(tmp_path, method):
    run_small(tmp_path / "run", method=method, prune__ranking="erk", federation__rounds=2)
    assert records(tmp_path / "run")[-1]["rejected"] == {}
