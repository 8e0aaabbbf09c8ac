"""Presets: each says what it is, every cell can be built, and two rounds of it run."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.running import comparison
from benchmarks.running.cell import Cell
from benchmarks.running.compare_config import split_table
from benchmarks.running.comparison import idle_settings, plan_cells
from benchmarks.running.experiment import run, validate
from mpfl.config import DataConfig, from_mapping
from mpfl.data import DATASETS, DataMissing, Dataset, Samples
from mpfl.errors import InputError
from mpfl.faults.attacks import byzantine_clients
from mpfl.faults.stress import stressed_clients
from mpfl.nested import with_override
from mpfl.presets import describe, load_table, preset_names, preset_text, resolve
from mpfl.scores import SCORES
from server.methods import METHODS

PRESETS = preset_names()
TINY = {"mnist": (1, 28, 28), "fashion_mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
SMALLER = {
    "vgg11": "conv4",
    "vgg16": "conv6",
    "vgg11_plain": "conv4",
    "resnet18": "resnet20",
    "lstm_lm(512)": "lstm_lm(32)",
    "lstm_lm(256)": "lstm_lm(16)",
}
"""What stands in for networks that would take ten seconds."""

QUICK = {
    "data.clients": 2,
    "data.groups": 0,
    "data.train_samples": 40,
    "data.test_samples": 20,
    "train.epochs": 1,
    "prune.rounds": 1,
    "federation.rounds": 2,
    "federation.clients_per_round": 0,
    "engine.workers": 0,
}


def noise(shape: tuple[int, ...]) -> Callable[[DataConfig], Dataset]:
    def load(config: DataConfig) -> Dataset:
        """Load noise in the shape of the real images."""
        rng = np.random.default_rng(0)

        def part(count: int) -> Samples:
            pixels = rng.integers(0, 256, (count, *shape)).astype(np.uint8)
            labels = torch.arange(count) % 10
            return Samples(torch.from_numpy(pixels), labels, scale=(1 / 255,), shift=(0.0,))

        return Dataset(config.name, part(2000), part(40), 10, shape)

    return load


@pytest.fixture(scope="session", autouse=True)  # slow tests of a module run before the others
def stand_ins() -> None:
    for name, shape in TINY.items():
        DATASETS.register(f"noise_{name}", noise(shape))


def noisy(name: str) -> str:
    """Return the name of what stands in for a data set."""
    return f"noise_{name}" if name in TINY else {"textfolder": "pydoc"}.get(name, name)


def quick(preset: str) -> dict[str, Any]:
    """Return a preset's tables on tiny data."""
    table = resolve(preset, (), QUICK)
    table["data"]["name"] = noisy(table["data"]["name"])
    compared = table["compare"]
    if names := compared.get("sweep", {}).get("data.name"):
        compared["sweep"]["data.name"] = [noisy(name) for name in names]
    for rule in compared.get("adjust", []):
        if "data.name" in rule["when"]:
            rule["when"]["data.name"] = noisy(rule["when"]["data.name"])
    if names := compared.get("sweep", {}).get("model.name"):
        compared["sweep"]["model.name"] = [SMALLER.get(name, name) for name in names]
    if "labels(2)" in compared.get("sweep", {}).get("data.partition", []):
        table["data"]["clients"] = 10  # one of each class
    name = table["model"]["name"]
    table["model"]["name"] = SMALLER.get(name, name)
    return table


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_begins_with_a_line_that_says_what_it_is(preset: str) -> None:
    assert len(describe(preset)) > 20
    assert describe(preset).endswith(".")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_says_its_time_on_two_cores_and_a_long_one_in_its_first_line(preset: str) -> None:
    lines = preset_text(preset).splitlines()
    comments = takewhile(lambda line: line.startswith("#"), lines)
    header = " ".join(line.lstrip("# ") for line in comments)
    assert "on two cores" in header
    if re.search(r"\b(days?|hours|90 minutes) on two cores", header):
        assert "on two cores" in describe(preset)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_cell_of_a_preset_can_be_built(preset: str) -> None:
    rest, config = split_table(quick(preset))
    cells = plan_cells(rest, config)
    assert {cell.label for cell in cells} == set(config.methods)
    assert config.baseline in config.methods


@pytest.mark.parametrize("preset", PRESETS)
def test_two_rounds_of_a_preset(preset: str, tmp_path: Path) -> None:
    rest, _ = split_table(quick(preset))
    summary = run(from_mapping(rest), tmp_path / "run")
    assert summary["rounds"] == 2
    assert summary["method"] == load_table(preset)["method"]
    assert 0 < summary["density"] <= 1
    assert (summary["density"] < 1) == (summary["method"] != "fedavg")
    assert 0 <= summary["test_accuracy"] <= 1
    assert summary["uplink_bytes"] > 0


@pytest.mark.data
def test_two_rounds_of_noniid_on_mnist(tmp_path: Path, data_folder: Path) -> None:
    rest, _ = split_table(resolve("noniid", (), {**QUICK, "data.folder": str(data_folder)}))
    try:
        summary = run(from_mapping(rest), tmp_path / "run")
    except DataMissing as error:
        pytest.skip(str(error))
    assert summary["rounds"] == 2


def test_niid_bench_is_the_table_of_fedavg() -> None:
    cells = plan_cells(*split_table(quick("niid_bench")))
    found = {(c.experiment.data.name, c.experiment.data.partition): c.experiment for c in cells}
    assert len(found) == len(cells) == 9
    assert {e.data.augment for (name, _), e in found.items() if "cifar" in name} == {"crop_flip"}
    assert {e.data.augment for (name, _), e in found.items() if "mnist" in name} == {""}
    published = split_table(load_table("niid_bench"))[1].published
    told = {(p.when["data.name"], p.when["data.partition"]) for p in published}
    assert {(name.removeprefix("noise_"), part) for name, part in found} <= told


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["mpfl_paper", "ssfl_paper"])
def test_the_network_of_a_paper_can_be_built(preset: str) -> None:
    table = quick(preset)
    table["model"] = load_table(preset)["model"]
    assert table["model"]["name"] in SMALLER
    validate(from_mapping(split_table(table)[0]))


def test_every_method_compares_them_all() -> None:
    compared = load_table("every_method")["compare"]
    assert set(METHODS.names()) <= set(compared["methods"])
    assert compared["seeds"] == [0, 1, 2]


def test_the_paper_removes_a_tenth_of_the_surviving_filters_each_round() -> None:
    prune = load_table("mpfl_paper")["prune"]
    assert prune["density"] == pytest.approx(0.9 ** prune["rounds"])
    assert prune["schedule"] == "geometric"


@pytest.mark.usefixtures("planned_only")
def test_scores_compares_every_score_each_kind_of_unit_with_random() -> None:
    found = [
        (cell.experiment.prune.score, cell.experiment.prune.granularity, cell.experiment.model.name)
        for cell in one_seed("scores")
    ]
    assert {score.partition("(")[0] for score, *_ in found} == set(SCORES.names())
    assert len(set(found)) == len(found)
    assert all(("random", *units) in found for _, *units in found)


@pytest.mark.usefixtures("planned_only")
def test_stress_spoils_whole_clients_alike_under_every_rule_and_under_none() -> None:
    found: dict[str, set[tuple[str, float]]] = {}
    for cell in one_seed("stress"):
        faults, clients = cell.experiment.faults, cell.experiment.data.clients
        assert len(stressed_clients(0, clients, faults.stress)) == clients * faults.stress
        found.setdefault(cell.label, set()).add((faults.stress_kind, faults.stress))
    assert found["fedavg"] == {(k, n / 10) for k in ("labels", "pixels") for n in range(6)}
    assert all(faults == found["fedavg"] for faults in found.values())


@pytest.mark.usefixtures("planned_only")
def test_byzantine_has_whole_clients_lie() -> None:
    counts = {
        (cell.experiment.faults.byzantine, len(byzantine_clients(cell.experiment)))
        for cell in one_seed("byzantine")
    }
    assert counts == {(0.0, 0), (0.15, 3), (0.3, 6), (0.45, 9)}


@pytest.fixture
def planned_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build no cell: another test does."""
    monkeypatch.setattr(comparison, "plan", lambda *_: SimpleNamespace(ignored={}))


def one_seed(preset: str) -> list[Cell]:
    """Return a preset's cells of seed 0, on noise."""
    images = {"data.name": "noise_mnist", "data.train_samples": 0}
    rest, config = split_table(resolve(preset, (), images))
    return plan_cells(rest, dataclasses.replace(config, seeds=[0]))


def test_rules_adjust_the_cells_they_name() -> None:
    rest, config = split_table(load_table("frugal"))
    cells = plan_cells(
        with_override(rest, "data.name", "noise_mnist"), dataclasses.replace(config, seeds=[0])
    )
    rates = {
        (cell.label, *dict(cell.sweep).values()): (
            cell.experiment.train.lr,
            cell.experiment.train.momentum,
            cell.experiment.federation.rounds,
        )
        for cell in cells
    }
    assert len(rates) == 8 * 4
    assert rates["fedavg", "lenet300", "iid"] == (0.298, 0.0, 19)
    assert rates["fedavg", "lenet300", "dirichlet(0.3)"] == (0.0312, 0.9, 19)
    assert rates["mpfl", "lenet5_caffe", "iid"] == (0.0229, 0.9, 9)
    assert rates["stc", "lenet5_caffe", "dirichlet(0.3)"] == (0.02, 0.9, 9)


def test_what_rules_and_variants_set_anyway_is_told() -> None:
    rule = {"when": {"label": "mpfl"}, "set": {"prune.density": 0.2, "train.lr": 0.3}}
    compare = {
        "methods": ["mpfl", "fedavg"],
        "variants": {"fedavg": {"train.lr": 0.4}},
        "adjust": [rule],
    }
    table = {"train": {"lr": 0.1, "momentum": 0.9}, "compare": compare}
    rest, config = split_table(table)
    why = "a variant, a recipe or a rule of compare.adjust sets it in every run"
    assert idle_settings(rest, config, plan_cells(rest, config)) == {"train.lr": why}
    swept = split_table({**table, "compare": {**compare, "sweep": {"prune.density": [0.1, 0.2]}}})
    with pytest.raises(InputError, match=r"compare\.sweep\.prune\.density: .* sets it to 0\.2"):
        plan_cells(*swept)


def test_what_is_swept_or_put_on_one_wire_is_not_told() -> None:
    swept = {"prune.density": [0.5, 0.05], "train.lr": [0.2, 0.3]}
    for compare in ({"compare.sweep": swept}, {"compare.wire": "float32"}, {}):
        rest, config = split_table(resolve("demo", (), compare))
        assert idle_settings(rest, config, plan_cells(rest, config)) == {}


def test_rules_see_defaults_and_refuse_unknown_keys() -> None:
    def rate(when: dict[str, Any]) -> float:
        rule = {"when": when, "set": {"train.lr": 0.5}}
        table = {"compare": {"methods": ["fedavg"], "adjust": [rule]}}
        (cell,) = plan_cells(*split_table(table))
        return cell.experiment.train.lr

    usual = from_mapping({}).train.lr
    assert rate({"train.optimizer": "sgd", "label": "fedavg"}) == 0.5  # neither is in the table
    assert rate({"train.optimizer": "adam"}) == usual != 0.5
    with pytest.raises(ValueError, match=r"'train\.optimiser'"):
        rate({"label": "other", "train.optimiser": "sgd"})


@pytest.mark.parametrize(
    "rule",
    [{"when": {}}, {"when": {}, "set": {}, "else": {}}, {"when": 1, "set": {}}, "train", 3],
)
def test_a_rule_is_a_pair_of_tables(rule: object) -> None:
    with pytest.raises(ValueError, match=r"compare\.adjust"):
        split_table({"compare": {"adjust": [rule]}})
