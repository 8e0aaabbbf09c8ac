"""Clients together against one after another and a plain loop: every path but the card itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.cli.main import invoke
from benchmarks.speed import together as module
from benchmarks.speed.engine import write_random_images
from benchmarks.speed.engine_work import BareLoop, Job, experiment, run_job
from benchmarks.speed.together import together_table
from mpfl.config import to_toml
from mpfl.errors import InputError
from mpfl.models import build_model
from mpfl.seeding import torch_generator
from mpfl.world import world_from_toml


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_random_images(folder, train=400, test=50)
    return folder


def test_every_way_is_timed_beside_the_plain_loop(
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "run_apart", lambda job: (run_job(job), None))
    sizes = ["--clients", "4", "--samples", "40", "--rounds", "1", "--together", "1,4"]
    models = ["--device", "cpu", "--models", "lenet5,resnet20", "--data-dir", str(images)]
    out = tmp_path / "rows.json"
    assert invoke(["bench", "engine", *models, *sizes, "--out", str(out), "--json"]) == 0
    said = capsys.readouterr()
    rows = json.loads(said.out)
    assert json.loads(out.read_text()) == rows
    assert said.err.count("\n") == len(rows)
    ways = ["plain loop", "one after another", "4 together"]
    rows = [row for row in rows if row["precision"] == "float32"]
    assert [(r["model"], r["way"]) for r in rows] == [
        (model, way) for model in ("lenet5", "resnet20") for way in ways
    ]
    assert rows[0]["ratio_to_plain"] is None
    for row in rows[1:3]:
        speed = row["clients_per_second"] / rows[0]["clients_per_second"]
        assert row["ratio_to_plain"] == pytest.approx(speed)
    assert [row["failure"] for row in rows] == [""] * 6
    assert all(row["device_memory_bytes"] is None for row in rows)


@pytest.mark.gpu
def test_a_card_is_timed_in_both_precisions(images: Path) -> None:
    rows = together_table("cuda", ["lenet5"], [1, 4], 4, 1, 40, images)
    assert [row["precision"] for row in rows] == ["float32"] * 3 + ["bf16"] * 3
    assert all(row["clients_per_second"] > 0 for row in rows)
    assert all(row["device_memory_bytes"] > 0 for row in rows)


def test_both_precisions_are_tried_where_a_processor_has_them(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = list[Job]()

    def noted(job: Job) -> tuple[dict[str, object], int]:
        jobs.append(job)
        return {"round_seconds": [2.0], "start_seconds": 3.0, "device_bytes": 5}, 7

    monkeypatch.setattr(module, "run_apart", noted)
    monkeypatch.setattr(module, "cpu_has_bf16", lambda: True)
    rows = together_table("cpu", ["lenet5"], [8, 32], 64, 1, 5, images)
    assert [(job.engine, job.together, job.precision) for job in jobs] == [
        (engine, number, precision)
        for precision in ("float32", "bf16")
        for engine, number in (("bare", 0), ("vectorised", 8), ("vectorised", 32))
    ]
    assert {(job.samples, job.clients, job.device, job.model) for job in jobs} == {
        (5, 64, "cpu", "lenet5")
    }
    assert [row["clients_per_second"] for row in rows] == [32.0] * 6
    monkeypatch.setattr(module, "cpu_has_bf16", lambda: False)
    assert {row["precision"] for row in together_table("cpu", ["lenet5"], [8], 8)} == {"float32"}


def test_the_plain_loop_trains_the_network_that_is_asked_for(images: Path) -> None:
    job = Job("bare", 0, 4, 1, str(images), model="lenet5", samples=40)
    world = world_from_toml(to_toml(experiment(job)))
    assert [len(part) for part in world.parts] == [40] * 4
    loop, model = BareLoop(world), build_model("lenet5", 10, (1, 28, 28), torch_generator(0, "w0"))
    start = {name: value.clone() for name, value in loop.model.state_dict().items()}
    assert start.keys() == model.state_dict().keys()
    loop.client(0, 1)
    moved = loop.model.state_dict()
    assert all(not torch.equal(moved[name], value) for name, value in start.items())


def test_jobs_of_the_other_table_are_as_before() -> None:
    before = experiment(Job("bare", 0, 100, 3, "folder"))
    assert (before.model.name, before.prune.granularity) == ("lenet300", "weight")
    assert (before.data.train_samples, before.train.precision) == (0, "float32")
    after = experiment(replace(Job("bare", 0, 100, 3, "folder"), samples=5, model="lenet5"))
    assert (after.data.train_samples, after.model.name) == (500, "lenet5")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--device", "tpu"], "--device: got 'tpu', expected cpu or cuda"),
        (["--device", "cpu", "--models", "lenet6"], "--models: unknown model 'lenet6'"),
        (["--device", "cpu", "--together", "8,256"], "--together: got [8, 256], expected 1 to"),
        (["--device", "cpu", "--together", "0"], "--together: got [0], expected 1 to"),
        (["--device", "cpu", "--together", "x"], "--together: got 'x', expected numbers"),
        (["--device", "cpu", "--samples", "9999"], "--samples: got 9999, expected at most 468"),
    ],
)
def test_what_cannot_be_timed_is_refused_in_one_line(
    options: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["bench", "engine", *options]) == 2
    said = capsys.readouterr().err
    assert why in said
    assert said.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_card_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="no CUDA device here"):
        together_table("cuda")
    assert invoke(["bench", "engine", "--device", "cuda"]) == 2
    said = capsys.readouterr().err
    assert said == "mpfl: --device: no CUDA device here, use cpu\n"
