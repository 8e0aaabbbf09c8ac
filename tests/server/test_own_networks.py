"""Networks of a researcher's own run like those of the library: one seed, one result."""

import numpy as np
import pytest
from safetensors.numpy import load_file

import tests.plugins.own_networks  # noqa: F401  (registers the networks)
from benchmarks.running.experiment import resume, run
from tests.runs import digests, run_small, small

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
    overrides = {"model__name": name, "federation__rounds": 3, **NETWORKS[name]}
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
