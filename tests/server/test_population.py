"""Ten thousand clients: memory that grows neither with clients nor with replies."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.running.experiment import run, validate
from mpfl.config import Experiment, from_mapping
from mpfl.mask import Layout, Mask
from mpfl.state import flatten, restore
from server.checkpoint import load_checkpoint
from server.transport.states import PIECE, Holdings, StateStore
from server.versions import MaskCoder, MaskLog
from tests.federation import tiny
from tests.memory import Peak
from tests.runs import records

CONTENTS = st.sampled_from([b"one", b"two", b"three" * 10])


@given(st.lists(st.tuples(st.integers(0, 5), CONTENTS | st.none())))
def test_a_store_is_a_dictionary_that_holds_each_content_once(
    changes: list[tuple[int, bytes | None]],
) -> None:
    store, plain = StateStore(), dict[int, bytes]()
    for node, state in changes:
        if state is None:
            store.pop(node, None)
            plain.pop(node, None)
        else:
            copy = bytes(bytearray(state))
            store[node] = plain[node] = copy
    assert dict(store) == plain
    assert store.size == sum(map(len, set(plain.values())))
    assert len(store.holdings().pieces) == len(set(plain.values()))
    again = StateStore()
    again.restore(restore(Holdings, flatten(store.holdings()), Layout((), ())))
    assert dict(again) == plain
    assert again.size == store.size


def test_states_share_what_they_have_in_common_at_the_same_place() -> None:
    rng = np.random.default_rng(0)
    common = rng.bytes(5 * PIECE)
    store = StateStore()
    for node in range(20):
        store[node] = rng.bytes(PIECE // 2) + common[PIECE // 2 :]
    assert store.size == 20 * PIECE + 4 * PIECE
    again = StateStore()
    again.restore(restore(Holdings, flatten(store.holdings()), Layout((), ())))
    assert (dict(again), again.size) == (dict(store), store.size)
    for node in range(20):
        del store[node]
    assert (store.size, len(store)) == (0, 0)


def test_a_checkpoint_holds_what_many_clients_have_in_common_once(tmp_path: Path) -> None:
    sizes = {}
    for clients in (2, 12):
        folder = tmp_path / str(clients)
        run(tiny(data__clients=clients, federation__rounds=2, prune__rounds=2), folder)
        _, arrays = load_checkpoint(folder / "checkpoint" / "latest")
        held = restore(Holdings, arrays, Layout((), ()), "clients/")
        assert len(held.counts) == clients
        assert len(held.pieces) == 1
        sizes[clients] = (folder / "checkpoint" / "latest").stat().st_size
    assert sizes[12] < sizes[2] + 10 * 100


def test_masks_that_nobody_holds_are_forgotten() -> None:
    layout = Layout(("a",), (64,))
    log, coder = MaskLog.start(layout), MaskCoder(np.zeros(64, np.uint8), "raw")
    log.confirm(7)
    for version in range(1, 30):
        keep = np.arange(64) >= version
        log.advance(Mask.from_bools(layout, keep))
        assert log.version == version
        for client in range(3):
            log.confirm(client)
        if version == 10:
            log.confirm(8)
    assert sorted(log.masks) == [0, 10, 28, 29]
    twin = restore(MaskLog, flatten(log), layout)
    assert (twin.version, twin) == (29, log)
    log.advance(Mask.empty(layout))
    twin.advance(Mask.empty(layout))
    for client in (0, 7, 8, 9):
        assert twin.offer(client, coder) == log.offer(client, coder)


# ------------------------------------------------------------------------------- real data

MNIST: Mapping[str, Any] = {
    "model": {"name": "lenet300"},
    "prune": {"density": 0.1, "rounds": 3, "recovery": "finetune"},
    "wire": {"mask_codec": "rans"},
}
REPLY_BYTES = 4 * 266_610
"""A reply has the values of lenet300 in float32, and a ballot."""


def crowd(data_folder: Path, sampled: int, rounds: int, partition: str = "iid") -> Experiment:
    return from_mapping(
        {
            **MNIST,
            "data": {
                "name": "mnist",
                "folder": str(data_folder),
                "clients": 10_000,
                "partition": partition,
            },
            "federation": {"rounds": rounds, "clients_per_round": sampled, "eval_every": rounds},
        }
    )


@pytest.mark.data
@pytest.mark.parametrize("partition", ["iid", "dirichlet(0.5)", "shards(2)", "quantity(1.0)"])
def test_a_world_of_ten_thousand_clients_is_built(data_folder: Path, partition: str) -> None:
    world = validate(crowd(data_folder, 100, 3, partition))
    assert len(world.parts) == 10_000
    assert sum(map(len, world.parts)) == 60_000
    assert min(map(len, world.parts)) >= 1


@pytest.mark.data
@pytest.mark.slow
def test_memory_of_a_crowd_does_not_grow_with_replies(data_folder: Path, tmp_path: Path) -> None:
    held, together = {}, {}
    run(crowd(data_folder, 50, 1), tmp_path / "warm", workers=2)
    for sampled in (50, 400):
        gc.collect()
        with Peak() as peak:
            summary = run(crowd(data_folder, sampled, 2), tmp_path / str(sampled), workers=2)
        held[sampled], together[sampled] = peak.alone, peak.proportional
        assert summary["partition"] == summary["client_accuracy"] == []
        assert [r["clients_replied"] for r in records(tmp_path / str(sampled))] == [sampled] * 2
    assert 0 < max(together.values()) < 2e9  # pages that workers share with the server count once
    print(f"\n{held[50] / 1e6:.1f} MB held with 50 replies, {held[400] / 1e6:.1f} with 400")
    assert held[400] < held[50] + 350 * REPLY_BYTES / 4
