"""Rewinding, finetuning and the early end of phase 1."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from benchmarks.running.experiment import run
from clients.replica import follow
from mpfl.regrow import training_rounds
from mpfl.state import flatten, restore
from mpfl.wire.frame import Kind, Section
from server.methods.averaging import WeightState
from server.methods.mpfl import Mpfl
from server.records import UPLINK
from tests.federation import Federation, tiny
from tests.runs import ledger, records


def test_rewinding_clients_start_from_w0_and_send_no_values() -> None:
    federation = Federation(tiny())
    federation.play(2)
    assert all(Section.VALUES not in f.sections for f in federation.replies.values())
    assert all(Section.VALUES not in f.sections for f in federation.requests.values())
    count = federation.world.structure.parameters.total
    expected = np.where(federation.survivors()[:count], federation.world.w0, 0)
    np.testing.assert_array_equal(federation.method.model()[:count], expected)


def test_finetuning_replies_hold_ballot_and_values() -> None:
    federation = Federation(tiny(prune__recovery="finetune"))
    federation.play()
    for frame in federation.replies.values():
        assert frame.kind is Kind.BALLOT
        assert set(frame.sections) == {Section.MASK, Section.VALUES, Section.METRICS}


def test_finetuning_continues_from_the_mean_under_the_new_mask() -> None:
    federation = Federation(tiny(prune__recovery="finetune"))
    before = federation.method.mask()
    federation.play()
    assert federation.method.mask().count() < before.count()
    expected = np.where(federation.survivors(), federation.mean(), 0)
    np.testing.assert_allclose(federation.method.model(), expected, atol=2e-6)


@pytest.mark.parametrize("codec", ["float32", "int8"])
def test_finetuning_clients_and_server_agree_on_the_model(codec: str) -> None:
    federation = Federation(tiny(prune__recovery="finetune", wire__up=codec, wire__down=codec))
    for _ in range(3):
        federation.play()
        federation.method.begin_round(federation.number + 1, list(federation.states))
        frame = federation.method.request(1).frame
        state = copy.copy(federation.states[1])
        replica = follow(federation.world, state, frame)
        np.testing.assert_array_equal(replica.public, federation.method.model())


def test_values_of_finetuning_are_counted_in_phase_one(tmp_path: Path) -> None:
    run(tiny(federation__rounds=2), tmp_path / "rewind")
    run(tiny(federation__rounds=2, prune__recovery="finetune"), tmp_path / "finetune")
    sums = {}
    for name in ("rewind", "finetune"):
        rows = [r for r in ledger(tmp_path / name) if r["phase"] == "mask"]
        up = [
            int(r["values_bytes"]) for r in rows if r["direction"] == UPLINK and r["round"] == "1"
        ]
        sums[name] = up
    assert set(sums["rewind"]) == {0}
    assert all(value >= 4 * 50_610 for value in sums["finetune"])  # float32[P], all of them


def test_state_of_a_finetuning_run_survives_a_restart() -> None:
    federation = Federation(tiny(prune__recovery="finetune"))
    federation.play()
    twin = Mpfl(federation.world)
    written = flatten(federation.method.state)
    twin.restore(restore(WeightState, written, federation.world.layout))
    for method in (federation.method, twin):
        method.begin_round(2, [0, 1, 2, 3])
    for client in range(4):
        assert twin.request(client).frame == federation.method.request(client).frame


def test_phase_one_ends_when_the_mask_has_stopped_moving(tmp_path: Path) -> None:
    experiment = tiny(
        prune__schedule="one_shot",
        prune__rounds=4,
        prune__converged=0.01,
        federation__rounds=5,
    )
    run(experiment, tmp_path / "run")
    rows = records(tmp_path / "run")
    assert [r["phase"] for r in rows] == ["mask", "mask", "train", "train", "train"]
    assert rows[0]["moved"] > 0.01
    assert rows[1]["moved"] == 0.0


def test_phase_one_runs_on_while_the_mask_moves() -> None:
    federation = Federation(tiny(prune__rounds=3, prune__converged=0.01))
    phases = []
    for _ in range(4):
        phases.append(federation.method.phase)
        before = federation.method.mask()
        columns = federation.play()
        if phases[-1] == "mask":
            assert columns["moved"] == 1 - before.jaccard(federation.method.mask())
    assert phases == ["mask", "mask", "mask", "train"]


def test_a_round_in_which_nobody_was_ready_to_prune_is_no_end() -> None:
    federation = Federation(tiny(prune__rounds=3, prune__converged=0.01, prune__gate=1.0))
    for _ in range(3):
        assert federation.method.phase == "mask"
        assert federation.play()["moved"] == 0
    assert federation.method.phase == "train"


def test_a_mask_of_nothing_can_be_asked_to_regrow() -> None:
    federation = Federation(
        tiny(
            prune__vote="unanimous", prune__min_units=0, prune__score="random",
            prune__density=0.01, prune__schedule="one_shot", prune__rounds=1,
            prune__regrow="random", federation__rounds=6,
        )
    )  # fmt: skip
    federation.play(4)
    assert federation.method.mask().count() == 0


def test_rounds_that_phase_one_leaves_belong_to_phase_two() -> None:
    experiment = tiny(prune__rounds=6, federation__rounds=10)
    assert training_rounds(experiment, 7, 0) == 4
    assert training_rounds(experiment, 9, 2) == 4
    assert training_rounds(experiment, 3, 0) == 8  # phase 1 ended after two rounds
