"""``mpfl retrain``: a run's mask, retrained on the pooled data; nothing of the run changes."""

import json
import shutil

import numpy as np
import pytest
import torch

from benchmarks.cli.main import invoke
from benchmarks.results.loading import load_run
from mpfl.central import central_retrain, pooled_samples
from mpfl.mask import Mask
from mpfl.seeding import torch_generator
from mpfl.training.local import evaluate, train
from mpfl.world import build_world
from tests.networks import random_mask
from tests.runs import run_small, small, unseal


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("retrain") / "run"
    run_small(folder, federation__rounds=3, data__train_samples=0)
    return folder


@pytest.fixture
def run_folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_it_prints_one_line_and_writes_one_file_and_touches_nothing_else(run_folder, capsys):
    before = content(run_folder)
    assert invoke(["retrain", str(run_folder), "--epochs", "2"]) == 0
    shown = capsys.readouterr().out
    line = next(text for text in shown.splitlines() if text.startswith("central_retrain:"))
    record = json.loads((run_folder / "central_retrain.json").read_text())
    summary = json.loads((run_folder / "summary.json").read_text())
    assert f"test accuracy {record['test_accuracy']:.4f} after 2 epochs" in line
    assert f"the federated model's is {summary['test_accuracy']:.4f}" in line
    assert record["mask_digest"] == summary["mask_digest"]
    assert record["density"] == pytest.approx(summary["density"])
    assert (record["epochs"], record["start"], len(record["losses"])) == (2, "w0", 2)
    assert record["losses"][1] < record["losses"][0]
    assert record["test_accuracy"] > 0.5
    after = content(run_folder)
    assert {name.name for name in after.keys() - before.keys()} == {"central_retrain.json"}
    changed = {name.name for name in before if after[name] != before[name]}
    assert changed == {"manifest.json"}, "which lists the new file"
    assert load_run(run_folder).sealed


def test_json_says_what_the_file_says_and_both_repeat(run_folder, tmp_path, capsys):
    out = tmp_path / "elsewhere.json"
    assert invoke(["retrain", str(run_folder), "--json", "--out", str(out)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads(out.read_text())
    assert shown["epochs"] == 3, "as many as a client makes in three rounds"
    assert invoke(["retrain", str(run_folder), "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("central_retrain: ")
    assert json.loads((run_folder / "central_retrain.json").read_text()) == shown


def test_training_equals_that_of_the_pooled_masked_network():
    world = build_world(small(train__lr_decay="exponential(0.5)", prune__density=0.3))
    mask = random_mask(world.structure, 1, 0.3)
    seen = []
    found = central_retrain(world, mask, 2, lambda number, loss: seen.append((number, loss)))
    got = world.model.values.numpy().copy()
    assert seen == [(1, found.losses[0]), (2, found.losses[1])]

    data = world.data.train
    assert found.samples == len(data), "iid or not, the clients hold all of it"
    keep = torch.from_numpy(world.structure.parameter_mask(mask).astype(np.float32))
    world.model.load(world.w0, world.b0)
    for epoch, lr in enumerate((0.1, 0.05)):
        generator = torch_generator(0, "central retrain", epoch)
        config = world.experiment.train
        train(world.model, data, config, lr=lr, epochs=1, generator=generator, keep=keep)
    np.testing.assert_allclose(got, world.model.values.numpy(), atol=1e-6)
    assert (got[keep.numpy() == 0] == 0).all()
    assert found.test == evaluate(world.model, world.data.test)


def test_what_is_pooled_is_all_clients_data_unspoiled():
    plain = small(data__train_samples=200)
    spoiled = small(data__train_samples=200, faults__stress=0.5, faults__stress_kind="labels")
    pooled = [pooled_samples(build_world(experiment)) for experiment in (plain, spoiled)]
    assert len(pooled[0]) == 200
    assert torch.equal(pooled[0].targets, pooled[1].targets)


def test_a_structural_mask_is_retrained_in_the_small_network(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    run_small(folder, federation__rounds=2, prune__granularity="filter", prune__rounds=1)
    sizes = []

    def watched(model, *arguments, **options):
        sizes.append(model.values.numel())
        return train(model, *arguments, **options)

    monkeypatch.setattr("mpfl.training.together.train", watched)
    assert invoke(["retrain", str(folder), "--epochs", "1"]) == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert sizes == [summary["surviving_parameters"]]
    assert sizes[0] < summary["parameters"]


def spoil_nothing_there(folder):
    (folder / "config.toml").unlink()


def spoil_unfinished(folder):
    (folder / "summary.json").unlink()


def spoil_mask_missing(folder):
    (folder / "mask.mpfl").unlink()


def spoil_mask_damaged(folder):
    path = folder / "mask.mpfl"
    path.write_bytes(path.read_bytes()[:-3])


def spoil_mask_of_another_run(folder):
    mask = Mask.from_bytes((folder / "mask.mpfl").read_bytes())
    (folder / "mask.mpfl").write_bytes(Mask.full(mask.layout).to_bytes())


def spoil_summary(folder):
    (folder / "summary.json").write_text("{")


def spoil_config(folder):
    (folder / "config.toml").write_text("nonsense = 1\n")


def spoil_model(folder):
    path = folder / "config.toml"
    path.write_text(path.read_text().replace("lenet300", "conv4"))


def spoil_by_result(folder):
    (folder / "central_retrain.json").write_text("kept")


CASES = {
    "no config.toml": spoil_nothing_there,
    "use mpfl resume": spoil_unfinished,
    "mask.mpfl: cannot be read": spoil_mask_missing,
    "mask.mpfl:": spoil_mask_damaged,
    "not the mask that summary.json names": spoil_mask_of_another_run,
    "summary.json: damaged": spoil_summary,
    "config.toml: ": spoil_config,
    "its layers are not those": spoil_model,
    "is there already": spoil_by_result,
}


@pytest.mark.parametrize("message", CASES)
def test_bad_input_is_one_line_and_status_2_and_writes_nothing(run_folder, capsys, message):
    CASES[message](unseal(run_folder))
    before = content(run_folder)
    assert invoke(["retrain", str(run_folder), "--epochs", "1"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert content(run_folder) == before


@pytest.mark.parametrize("options", [["--epochs", "-1"], ["--out", "/no/such/folder/file.json"]])
def test_bad_options_are_one_line_and_status_2(run_folder, capsys, options):
    assert invoke(["retrain", str(run_folder), *options]) == 2
    error = capsys.readouterr().err
    assert options[0] in error
    assert error.count("\n") == 1
    assert not (run_folder / "central_retrain.json").exists()
