"""Malicious clients: who they are, what they send, what it does."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.running.experiment import run
from mpfl.faults.attacks import ATTACKS, byzantine_clients, forge
from mpfl.mask import Layout, Mask
from tests.federation import tiny
from tests.runs import records


def test_malicious_clients_are_a_fixed_share_and_grow_with_it() -> None:
    groups = [
        byzantine_clients(tiny(data__clients=40, faults__byzantine=share / 40))
        for share in range(41)
    ]
    assert [len(group) for group in groups] == list(range(41))
    assert all(small < large for small, large in pairwise(groups))
    assert byzantine_clients(tiny(data__clients=40, faults__byzantine=0.5, seed=1)) != groups[20]


LAYOUT = Layout(("a", "b"), (60, 40))
bits = st.lists(st.booleans(), min_size=100, max_size=100).map(
    lambda keep: Mask.from_bools(LAYOUT, np.array(keep))
)


def forged(attack: str, ballot: Mask, allowed: Mask, client: int = 0, number: int = 1) -> Mask:
    experiment = tiny(faults__byzantine=1.0, faults__attack=attack)
    options: dict[str, Any] = {"share": 0.4, "round_number": number, "client": client}
    return forge(experiment, ballot, allowed, **options)


@given(bits, bits)
def test_attacks_send_what_they_promise(some: Mask, allowed: Mask) -> None:
    ballot = some & allowed
    drawn_at_random = forged("random", ballot, allowed)
    assert drawn_at_random.issubset(allowed)
    assert drawn_at_random.counts() == ballot.counts()
    inverted = forged("inverted", ballot, allowed)
    assert inverted & ballot == Mask.empty(LAYOUT)
    assert inverted | ballot == allowed
    together = forged("colluding", ballot, allowed)
    assert together.issubset(allowed)
    assert together.counts() == [round(0.4 * units) for units in allowed.counts()]
    emptied = forged("layer(b)", ballot, allowed)
    assert emptied.counts() == [ballot.counts()[0], 0]
    assert emptied.issubset(ballot)


def test_conspirators_agree_and_others_do_not() -> None:
    full = Mask.full(LAYOUT)
    half = Mask.from_bools(LAYOUT, np.arange(100) % 2 == 0)
    together = {forged("colluding", half, full, client) for client in range(4)}
    alone = {forged("random", half, full, client) for client in range(4)}
    assert (len(together), len(alone)) == (1, 4)
    assert forged("colluding", half, full, number=2) not in together


def test_honest_clients_send_their_own_ballot() -> None:
    experiment = tiny(faults__byzantine=0.5)
    half = Mask.from_bools(LAYOUT, np.arange(100) % 2 == 0)
    sent = {
        client: forge(experiment, half, Mask.full(LAYOUT), share=0.5, round_number=1, client=client)
        for client in range(4)
    }
    assert {c for c, ballot in sent.items() if ballot != half} == byzantine_clients(experiment)


@pytest.mark.parametrize("attack", [*ATTACKS.names()[:3], "layer(fc2)"])
def test_in_a_run_only_malicious_ballots_differ(tmp_path: Path, attack: str) -> None:
    common = {"engine__record_ballots": True, "federation__rounds": 1}
    run(tiny(**common), tmp_path / "honest")
    experiment = tiny(**common, faults__byzantine=0.5, faults__attack=attack)
    run(experiment, tmp_path / "attacked")
    sent = {}
    for name in ("honest", "attacked"):
        folder = tmp_path / name / "ballots" / "round-1"
        sent[name] = [Mask.from_bytes((folder / f"client-{c}.mpfl").read_bytes()) for c in range(4)]
    liars = byzantine_clients(experiment)
    assert {c for c in range(4) if sent["honest"][c] != sent["attacked"][c]} == liars
    assert len(liars) == 2
    if attack == "layer(fc2)":
        assert all(sent["attacked"][c].layers()["fc2"].sum() == 0 for c in liars)
        assert records(tmp_path / "attacked")[0]["layer_density"]["fc2"] > 0


@pytest.mark.parametrize("method", ["mpfl", "fedpm"])
def test_methods_with_ballots_can_be_attacked(tmp_path: Path, method: str) -> None:
    common = {"method": method, "federation__rounds": 2}
    honest = run(tiny(**common), tmp_path / "a")
    attacked = run(tiny(**common, faults__byzantine=0.5), tmp_path / "b")
    assert honest["mask_digest"] != attacked["mask_digest"]
