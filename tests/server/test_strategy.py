"""Our methods under Flower's own strategy.start(): the same mask, model and payloads."""

import hashlib

import numpy as np
import pytest

import server
from clients.app import app
from mpfl.config import to_toml
from server.transport.grid import LocalGrid
from tests.federation import tiny
from tests.runs import run_small


@pytest.mark.parametrize("method", ["mpfl", "prunefl"])
def test_flowers_loop_gives_the_digests_of_ours(tmp_path, method):
    experiment = tiny(method=method)
    config = {"train_samples": 240, "test_samples": 60}
    ours = run_small(
        tmp_path / "ours",
        method=method,
        wire__mask_codec="raw",
        **{f"data__{key}": value for key, value in config.items()},
    )
    strategy = server.MethodStrategy(experiment)
    with LocalGrid(app, 4, {"experiment": to_toml(experiment)}, 0) as grid:
        result = strategy.start(
            grid=grid,
            initial_arrays=strategy.initial_arrays(),
            num_rounds=strategy.rounds,
            evaluate_fn=strategy.evaluate,
        )
    model = strategy.method.model()
    assert strategy.mask().digest() == ours["mask_digest"]
    assert hashlib.sha256(model.tobytes()).hexdigest() == ours["model_digest"]
    assert strategy.ledger.digest == ours["payload_digest"]
    assert result.train_metrics_clientapp[4]["uplink_bytes"] == ours["uplink_bytes"]
    assert result.evaluate_metrics_serverapp[4]["test_accuracy"] == ours["test_accuracy"]
    flat = np.concatenate([array.numpy().ravel() for array in result.arrays.values()])
    assert np.array_equal(flat, model)


def test_a_strategy_needs_clients_and_rounds_in_order():
    with pytest.raises(ValueError, match="centralized has no clients"):
        server.MethodStrategy(tiny(method="centralized"))
    strategy = server.MethodStrategy(tiny())
    with LocalGrid(app, 4, {}, 0) as grid, pytest.raises(ValueError, match="round 2"):
        strategy.configure_train(2, strategy.initial_arrays(), None, grid)
