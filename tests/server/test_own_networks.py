"""Networks of a researcher's own run like those of the library: one seed, one result."""

import warnings

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

import tests.plugins.own_networks  # noqa: F401  (registers the networks)
from benchmarks.running.experiment import resume, run
from mpfl.mask import Mask
from mpfl.models import MODELS, Shapes
from mpfl.world import build_world
from server.methods import METHODS
from tests.runs import digests, records, run_small, small

COLOURED = {"data__name": "coloured", "data__train_samples": 0, "data__test_samples": 0}
TEXT = {
    "data__name": "pydoc",
    "data__partition": "natural",
    "data__train_samples": 80,
    "data__test_samples": 40,
    "train__lr": 0.5,
}
NETWORKS = {
    "quickstart": COLOURED,
    "tied_autoencoder": {},
    "group_resnet": {"data__train_samples": 160},
    "dropout_lstm": TEXT,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_workers_and_a_restart_do_not_matter(tmp_path, name):
    overrides = {"model__name": name, "federation__rounds": 3, **NETWORKS[name]}  # type: ignore[dict-item]
    wanted = run_small(tmp_path / "0", **overrides)
    for workers in (1, 2):
        again = run_small(tmp_path / str(workers), engine__workers=workers, **overrides)
        assert digests(again) == digests(wanted)

    def stop(record):
        if record["round"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(small(**overrides), tmp_path / "cut", on_round=stop)
    assert digests(resume(tmp_path / "cut")) == digests(wanted)
    assert np.isfinite(wanted["test_loss"])


@pytest.mark.parametrize("method", ["fedavg", "mpfl", "signsgd_mv", "fedpm", "fedavg_q8"])
def test_tied_parameters_are_one_and_stay_one(tmp_path, method):
    summary = run_small(tmp_path / "a", model__name="tied_autoencoder", method=method)
    assert summary["parameters"] == 64 * 32 + 32 + 64 + 32 * 10 + 10
    assert summary["prunable"] == 64 * 32 + 32 * 10
    model = load_file(tmp_path / "a" / "model.safetensors")
    for leaf in ("weight", "bias"):
        assert np.array_equal(model[f"encoder.{leaf}"], model[f"again.{leaf}"])


class Partly(nn.Module):
    """A frozen first layer with a frozen shift, constants that are infinite, one running mean."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self.features, self.last = nn.Linear(64, 32), nn.Linear(32, shapes.classes)
        self.features.requires_grad_(False)
        self.shift = nn.Parameter(torch.full((32,), 1 / 3), requires_grad=False)
        self.register_buffer("infinite", torch.full((5,), float("-inf")))
        self.register_buffer("running", torch.zeros(32))

    def forward(self, x):
        hidden = (self.features(x.flatten(1)) + self.shift).relu()
        if self.training:
            with torch.no_grad():
                self.running.mul_(0.9).add_(0.1 * hidden.mean(0))
        return self.last(hidden - self.running)


MODELS.register("partly", Partly)


@pytest.mark.parametrize(
    "overrides",
    [
        *({"method": method} for method in METHODS.names()),
        {"wire__up": "int4", "wire__down": "float16"},
        {"wire__up": "sparse(0.1)", "prune__regrow": "gradient"},
        {"prune__rescale": True, "train__optimizer": "adam"},
    ],
    ids=lambda overrides: ", ".join(map(str, overrides.values())),
)
def test_what_is_frozen_or_constant_never_moves_and_never_travels(tmp_path, overrides):
    general = {"model__name": "partly", "train__weight_decay": 0.1, "federation__rounds": 3}
    if overrides.get("train__optimizer") != "adam":
        general["train__momentum"] = 0.9
    summary = run_small(tmp_path, **general, **overrides)
    world = build_world(small(**general, **overrides))
    began = world.structure.named(world.initial)
    ended = load_file(tmp_path / "model.safetensors")
    for name in ("features.weight", "features.bias", "shift", "infinite"):
        assert np.array_equal(ended[name], began[name])
    for name in ("last.weight", "running"):
        assert not np.array_equal(ended[name], began[name])
    assert summary["prunable"] == 320
    assert all(not line["rejected"] for line in records(tmp_path))
    moving = 320 + 10 + 32
    assert world.footprint(Mask.full(world.layout)).count == moving


@pytest.mark.parametrize("name", ["dropout_lstm", "tied_autoencoder", "partly"])
def test_clients_trained_together_repeat_themselves(tmp_path, name):
    overrides = {
        "model__name": name,
        "federation__rounds": 3,
        "engine__vectorised": 4,
        "train__weight_decay": 0.1,
        **NETWORKS.get(name, {}),  # type: ignore[dict-item]
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "engine.vectorised", RuntimeWarning)
        first, again = (run_small(tmp_path / key, **overrides) for key in "ab")
    assert digests(first) == digests(again)
    if name == "partly":
        world = build_world(small(**overrides))
        ended = load_file(tmp_path / "a" / "model.safetensors")
        assert np.array_equal(ended["shift"], world.structure.named(world.initial)["shift"])
