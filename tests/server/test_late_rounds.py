"""Round 65,537 is like any other: no counter of a run ends at 16 bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mpfl.world import build_world
from tests.federation import Federation, tiny

LATE = 65_531
RUNS: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "topk": {},
    "signsgd_mv": {},
    "mpfl": {"prune__recovery": "finetune", "prune__regrow": "random"},
    "fedavg_prune": {},
}


@pytest.fixture(scope="module")
def world():
    return build_world(tiny())


def moved_on(versions: dict[int, Any]) -> dict[int, Any]:
    return {version + LATE * (version > 0): held for version, held in versions.items()}


def make_late(game: Federation) -> None:
    """Leave server and clients as 65,531 more masks and models would have left them."""
    state = game.method.state
    state.model.version += LATE
    state.model.held = {c: v + LATE * (v > 0) for c, v in state.model.held.items()}
    if hasattr(state, "masks"):
        state.masks.masks = moved_on(state.masks.masks)
        state.masks.held = {c: v + LATE * (v > 0) for c, v in state.masks.held.items()}
    for client in game.states.values():
        client.masks, client.values = moved_on(client.masks), moved_on(client.values)


@pytest.mark.parametrize("method", RUNS)
def test_a_run_goes_on_beyond_65536_versions_as_before(world, method):
    experiment = tiny(method=method, federation__rounds=12, **RUNS[method])
    early, late = (Federation(experiment, replace(world, experiment=experiment)) for _ in range(2))
    for number in range(10):
        for game in (early, late):
            game.play(lost=[number % 3])
        if number == 2:
            make_late(late)
    assert late.method.state.model.version > 65_536
    assert late.method.mask() == early.method.mask()
    np.testing.assert_array_equal(late.method.model(), early.method.model())


def test_the_number_of_rounds_before_may_be_as_large(world):
    experiment = tiny(method="fedavg", federation__rounds=2**17)
    game = Federation(experiment, replace(world, experiment=experiment))
    game.play()
    game.method.state.step = 65_535
    game.play(3)
    assert game.method.state.step == 65_538
