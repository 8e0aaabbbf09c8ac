"""Clients trained side by side end, bit for bit, as if each had been alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mpfl.config import TrainConfig
from mpfl.data.samples import Samples
from mpfl.models import build_model
from mpfl.network.flat import FlatModel, Manner
from mpfl.network.structure import find_structure
from mpfl.seeding import torch_generator
from mpfl.training.gang import run_together
from mpfl.training.masked import MaskedNetwork
from mpfl.training.together import Job, Together, side_by_side, why_alone
from tests.networks import generator, inputs_for, random_mask, shape_of

CLIENTS = (37, 64, 20, 5)  # samples of each: three, four, two and one batches of 16
OPTIMIZERS = {
    "sgd": TrainConfig(lr=0.1),
    "momentum": TrainConfig(lr=0.05, momentum=0.9, weight_decay=0.01),
    "nesterov": TrainConfig(lr=0.02, momentum=0.9, nesterov=True),
    "clip": TrainConfig(lr=0.1, momentum=0.5, clip=0.2),
    "adam": TrainConfig(lr=0.001, optimizer="adam", weight_decay=0.01, clip=1.0),
}


def network(name: str) -> FlatModel:
    module = build_model(name, 10, shape_of(name), generator(1))
    return FlatModel(module, Manner(draws="plain" in name, replays=name != "lstm"))


def samples_of(name: str, client: int, device: str = "cpu") -> Samples:
    count = CLIENTS[client]
    inputs = inputs_for(shape_of(name), count, seed=10 + client)
    targets = torch.randint(0, 10, (count,), generator=generator(20 + client))
    return Samples(inputs, targets).to(device)


def job_of(model: FlatModel, name: str, client: int, keep=None, **options) -> Job:
    """Every client starts elsewhere, so that no mix-up goes unnoticed."""
    noise = torch.randn(model.values.shape, generator=generator(30 + client))
    defaults = {"epochs": 2, "generator": torch_generator(0, "batches", client)}
    return Job(
        model.values + 0.01 * noise,
        model.buffers.clone(),
        keep=keep,
        **{**defaults, "samples": samples_of(name, client), **options},
    )


def keep_of(model: FlatModel, client: int) -> torch.Tensor:
    return (torch.rand(model.values.shape, generator=generator(40 + client)) < 0.5).float()


def one_by_one(together: Together, jobs: list[Job]) -> list:
    return [together([job])[0] for job in jobs]


def assert_same(found, wanted, tolerance: float = 0.0) -> None:
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.result.steps == theirs.result.steps
        assert abs(ours.result.loss - theirs.result.loss) <= tolerance
        torch.testing.assert_close(ours.values, theirs.values, rtol=0, atol=tolerance)
        torch.testing.assert_close(ours.buffers, theirs.buffers, rtol=0, atol=tolerance)


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
STEADY = ("sgd", "momentum", "nesterov")


def jobs_of(name: str, device: str, keeps=(None,) * 4, augment: str = "", **options) -> list[Job]:
    parts = [replace(samples_of(name, c, device), augment=augment) for c in range(len(keeps))]
    model = network(name)
    return [
        job_of(model, name, c, keep, samples=part, **options)
        for c, (keep, part) in enumerate(zip(keeps, parts, strict=True))
    ]


def both(name: str, device: str, config: TrainConfig, keeps=(None,) * 4, freeze=False, **options):
    """What clients come to side by side, twice in the same lanes, and one after another."""
    config = replace(config, batch_size=16, device=device)
    model, alone = network(name), Together(network(name), config, config.lr, freeze)
    side_by_side(model, config, config.lr / 2, freeze, jobs_of(name, device, **options)[:2])
    found = [
        side_by_side(model, config, config.lr, freeze, jobs_of(name, device, keeps, **options))
        for _ in range(2)
    ]
    wanted = one_by_one(alone, jobs_of(name, device, keeps, **options))
    assert_same(found[0], found[1])
    for job, trained in zip(jobs_of(name, device, keeps), wanted, strict=True):
        assert (trained.values - job.values).abs().max() > 1e-3  # there was work to do
    return found[1], wanted


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("optimizer", STEADY)
@pytest.mark.parametrize("name", ["lenet300", "lenet5"])
def test_side_by_side_is_as_alone(name: str, optimizer: str, device: str) -> None:
    assert_same(*both(name, device, OPTIMIZERS[optimizer]))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("freeze", [False, True])
def test_statistics_of_batches_are_each_clients_own(freeze: bool, device: str) -> None:
    config = replace(OPTIMIZERS["momentum"], lr=0.01)
    found, wanted = both("resnet20", device, config, (None,) * 2, freeze)
    assert_same(found, wanted)
    stayed = [torch.equal(t.buffers, network("resnet20").buffers) for t in found]
    assert stayed == [freeze] * 2


@pytest.mark.parametrize("device", DEVICES)
def test_images_are_changed_as_for_a_client_alone(device: str) -> None:
    assert_same(*both("lenet300", device, OPTIMIZERS["sgd"], augment="crop_flip"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("optimizer", STEADY)
def test_every_client_has_its_own_mask(optimizer: str, device: str) -> None:
    model = network("lenet5")
    keeps = (keep_of(model, 0), None, keep_of(model, 2), keep_of(model, 3))
    found, wanted = both("lenet5", device, OPTIMIZERS[optimizer], keeps)
    assert_same(found, wanted)
    for keep, trained in zip(keeps, found, strict=True):
        if keep is not None:
            assert (trained.values[keep == 0] == 0).all()


def test_what_goes_side_by_side() -> None:
    model, sgd = network("lenet5"), OPTIMIZERS["sgd"]

    def why(config: TrainConfig = sgd, model: FlatModel = model, **options) -> str:
        return why_alone(model, config, [job_of(model, "lenet5", 0, **options)])

    assert why() == "on a processor"
    assert "clip" in why(OPTIMIZERS["clip"])
    assert "sgd" in why(OPTIMIZERS["adam"])
    assert "draws" in why(model=FlatModel(model.module, Manner(draws=True, replays=True)))
    assert "replayed" in why(model=FlatModel(model.module, Manner(draws=False)))
    assert "look" in why(observer=lambda values, grads, lr: None)


def test_a_client_that_cannot_be_trained_costs_only_itself() -> None:
    config = replace(OPTIMIZERS["sgd"], batch_size=16)
    bad = Samples(torch.zeros(5, 1, 28, 28), torch.full((5,), 99))  # there is no class 99
    for train in (
        lambda jobs: Together(network("lenet300"), config, 0.1)(jobs),
        lambda jobs: side_by_side(network("lenet300"), config, 0.1, False, jobs),
    ):
        jobs = jobs_of("lenet300", "cpu", (None,) * 3)
        jobs.insert(1, job_of(network("lenet300"), "lenet300", 3, samples=bad))
        found = train(jobs)
        assert isinstance(found[1], Exception)
        wanted = one_by_one(
            Together(network("lenet300"), config, 0.1), jobs_of("lenet300", "cpu", (None,) * 3)
        )
        assert_same([found[0], *found[2:]], wanted)


def trained_masked(name: str, granularity: str, gang: bool) -> list[np.ndarray]:
    """Train clients 0 to 3, the last two under a mask of their own, on one shared network."""
    model = network(name)
    structure = find_structure(model.module, granularity, shape_of(name))
    masked, config = MaskedNetwork(model, structure), replace(OPTIMIZERS["momentum"], batch_size=16)
    start, statistics = model.snapshot()

    def job(client: int) -> np.ndarray:
        model.load(start, statistics + np.float32(client))
        result = masked.train(
            samples_of(name, client),
            random_mask(structure, seed=1 if client < 2 else client),
            config,
            lr=0.05,
            epochs=1,
            generator=torch_generator(0, "batches", client),
        )
        return np.concatenate([*model.snapshot(), [np.float32(result.loss)]])

    jobs = [lambda c=c: job(c) for c in range(4)]
    return run_together(jobs) if gang else [job() for job in jobs]


@pytest.mark.parametrize(
    ("name", "granularity"), [("lenet300", "weight"), ("lenet300", "filter"), ("lenet5", "filter")]
)
def test_a_gang_shares_one_masked_network(name: str, granularity: str) -> None:
    together = trained_masked(name, granularity, gang=True)
    alone = trained_masked(name, granularity, gang=False)
    np.testing.assert_array_equal(np.stack(together), np.stack(alone))
    assert not np.allclose(together[0], together[1], atol=1e-3)


def test_running_statistics_of_cut_units_stay_their_clients_own() -> None:
    together = trained_masked("resnet20", "filter", gang=True)
    alone = trained_masked("resnet20", "filter", gang=False)
    np.testing.assert_array_equal(np.stack(together), np.stack(alone))


def test_a_model_works_elsewhere_in_a_copy_whose_numbers_come_back() -> None:
    model = network("resnet20")
    with model.on(model.values.device) as same:
        assert same is model
    device = torch.device("cpu:0")  # not equal to "cpu", as if it were another one
    wanted = network("resnet20")
    for round_number in range(2):
        with model.on(device) as there:
            assert there is not model
            assert torch.equal(there.values, wanted.values)
            there.module.train()
            there.module(inputs_for(shape_of("resnet20"), 4, seed=round_number))
            there.values.add_(1)
            assert torch.equal(model.values, wanted.values)
            assert torch.equal(model.buffers, wanted.buffers)
        wanted.values.add_(1)
        assert torch.equal(model.values, wanted.values)
        assert not torch.equal(model.buffers, wanted.buffers)
        wanted.buffers.copy_(model.buffers)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:RNN module weights")
@pytest.mark.parametrize("name", ["lenet300", "lenet5", "resnet20", "lstm"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_gpu_gives_the_same_within_its_tolerance(name: str, optimizer: str) -> None:
    lr = min(OPTIMIZERS[optimizer].lr, 0.01)
    config = replace(OPTIMIZERS[optimizer], batch_size=16, lr=lr)
    here = Together(network(name), config, lr)
    there = Together(network(name), replace(config, device="cuda"), lr)
    keeps = (None,) * (2 if name == "resnet20" else 4)
    wanted = one_by_one(here, jobs_of(name, "cpu", keeps, epochs=1))
    tolerance = 1e-3 if name == "resnet20" else 1e-4
    assert_same(there(jobs_of(name, "cuda", keeps, epochs=1)), wanted, tolerance)
