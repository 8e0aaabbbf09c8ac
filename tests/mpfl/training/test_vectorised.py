"""Training clients together gives what training them one after another gives, within 1e-5."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mpfl.config import TrainConfig
from mpfl.data.samples import Samples
from mpfl.models import build_model
from mpfl.network.flat import FlatModel
from mpfl.network.structure import find_structure
from mpfl.seeding import torch_generator
from mpfl.training.gang import run_together
from mpfl.training.local import cpu_has_bf16
from mpfl.training.masked import MaskedNetwork
from mpfl.training.vectorised import Job, Together, obstacle
from tests.networks import generator, inputs_for, random_mask, shape_of

CLIENTS = (37, 64, 20, 5)  # samples of each: three, four, two and one batches of 16
TOLERANCE = 1e-5

OPTIMIZERS = {
    "sgd": TrainConfig(lr=0.1),
    "momentum": TrainConfig(lr=0.05, momentum=0.9, weight_decay=0.01),
    "nesterov": TrainConfig(lr=0.02, momentum=0.9, nesterov=True),
    "clip": TrainConfig(lr=0.1, momentum=0.5, clip=0.2),
    "adam": TrainConfig(lr=0.001, optimizer="adam", weight_decay=0.01, clip=1.0),
}


def network(name: str) -> FlatModel:
    return FlatModel(build_model(name, 10, shape_of(name), generator(1)))


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


def assert_same(found, wanted, tolerance: float = TOLERANCE) -> None:
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.result.steps == theirs.result.steps
        assert abs(ours.result.loss - theirs.result.loss) < tolerance
        torch.testing.assert_close(ours.values, theirs.values, rtol=0, atol=tolerance)
        torch.testing.assert_close(ours.buffers, theirs.buffers, rtol=0, atol=tolerance)


def assert_same_but(found, wanted, optimizer: str) -> None:
    """Adam divides a gradient by its own size: where that is rounding, so is the step.

    No value may be off by more than a tenth of a step, nor one in a thousand by the tolerance.
    """
    assert_same(found, wanted, 1e-4 if optimizer == "adam" else TOLERANCE)
    for ours, theirs in zip(found, wanted, strict=True):
        off = (ours.values - theirs.values).abs() > TOLERANCE
        assert off.float().mean() < 1e-3


def both(name: str, config: TrainConfig, keeps=(None,) * 4, epochs: int = 2, **options):
    config = replace(config, batch_size=16)
    model = network(name)
    together = Together(model, config, config.lr, **options)
    jobs, again = (
        [job_of(model, name, c, keep, epochs=epochs) for c, keep in enumerate(keeps)]
        for _ in range(2)
    )
    started = [job.values.clone() for job in jobs]
    found, wanted = together(jobs), one_by_one(together, again)
    for start, trained in zip(started, found, strict=True):
        assert (trained.values - start).abs().max() > 100 * TOLERANCE  # there was work to do
    return found, wanted


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", ["lenet300", "lenet5"])
def test_the_result_is_that_of_training_one_after_another(name: str, optimizer: str) -> None:
    found, wanted = both(name, OPTIMIZERS[optimizer])
    assert_same_but(found, wanted, optimizer)


def test_images_are_changed_as_for_a_client_alone() -> None:
    config = replace(OPTIMIZERS["sgd"], batch_size=16)
    model = network("lenet300")
    together = Together(model, config, config.lr)

    def jobs(augment: str) -> list[Job]:
        parts = [replace(samples_of("lenet300", c), augment=augment) for c in range(len(CLIENTS))]
        return [job_of(model, "lenet300", c, samples=part) for c, part in enumerate(parts)]

    found, plain = together(jobs("crop_flip")), together(jobs(""))
    assert_same(found, one_by_one(together, jobs("crop_flip")))
    changed = [(a.values - b.values).abs().max() for a, b in zip(found, plain, strict=True)]
    assert min(changed) > 100 * TOLERANCE


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_every_client_has_its_own_mask(optimizer: str) -> None:
    model = network("lenet300")
    keeps = (keep_of(model, 0), None, keep_of(model, 2), keep_of(model, 3))
    found, wanted = both("lenet300", OPTIMIZERS[optimizer], keeps)
    assert_same_but(found, wanted, optimizer)
    for keep, trained in zip(keeps, found, strict=True):
        if keep is not None:
            assert (trained.values[keep == 0] == 0).all()


def test_a_common_mask_keeps_pruned_weights_at_zero() -> None:
    keep = keep_of(network("lenet5"), 0)
    found, wanted = both("lenet5", OPTIMIZERS["momentum"], (keep,) * 4)
    assert_same(found, wanted)
    assert all((trained.values[keep == 0] == 0).all() for trained in found)


def test_frozen_statistics_are_trained_together_and_stay() -> None:
    assert obstacle(network("resnet20").module, freeze_statistics=True) is None
    config = replace(OPTIMIZERS["sgd"], lr=0.01)
    found, wanted = both("resnet20", config, (None,) * 2, epochs=1, freeze_statistics=True)
    assert_same(found, wanted, tolerance=1e-4)  # twenty layers: more rounding than in a LeNet
    assert all(torch.equal(t.buffers, network("resnet20").buffers) for t in found)


@pytest.mark.parametrize(
    ("name", "word"), [("resnet20", "statistics"), ("lstm", "vmap"), ("gru", "vmap")]
)
def test_what_cannot_be_batched_falls_back_and_says_why(name: str, word: str) -> None:
    reason = obstacle(network(name).module)
    assert reason is not None
    assert word in reason
    config = replace(OPTIMIZERS["sgd"], batch_size=16)
    model = network(name)
    together = Together(model, config, 0.05)
    jobs, again = ([job_of(model, name, c, epochs=1) for c in (0, 3)] for _ in range(2))
    with pytest.warns(RuntimeWarning, match=word):
        found = together(jobs)
    assert_same(found, one_by_one(together, again), tolerance=1e-12)


def test_dropout_is_an_obstacle_and_a_plain_network_is_none() -> None:
    assert "Dropout" in str(obstacle(nn.Sequential(nn.Linear(2, 2), nn.Dropout())))
    assert obstacle(network("conv4").module) is None


def test_a_client_that_cannot_be_trained_costs_only_itself() -> None:
    model = network("lenet300")
    together = Together(model, replace(OPTIMIZERS["sgd"], batch_size=16), 0.1)
    bad = Samples(torch.zeros(5, 1, 28, 28), torch.full((5,), 99))  # there is no class 99
    jobs = [job_of(model, "lenet300", c) for c in range(3)]
    again = [job_of(model, "lenet300", c) for c in range(3)]
    jobs.insert(1, job_of(model, "lenet300", 3, samples=bad))
    with pytest.warns(RuntimeWarning, match="one after another"):
        found = together(jobs)
    assert isinstance(found[1], Exception)
    assert_same([found[0], *found[2:]], one_by_one(together, again), tolerance=1e-12)


def test_observers_see_the_steps_of_their_own_client() -> None:
    config = replace(OPTIMIZERS["sgd"], batch_size=16)
    model = network("lenet300")
    seen: dict[tuple[str, int], list] = {}

    def observer(kind: str, client: int):
        rows = seen.setdefault((kind, client), [])
        return lambda values, grads, lr: rows.append((values.clone(), grads.clone(), lr))

    for kind in ("together", "alone"):
        jobs = [job_of(model, "lenet300", c, observer=observer(kind, c)) for c in (0, 1)]
        together = Together(model, config, 0.1)
        together(jobs) if kind == "together" else one_by_one(together, jobs)
    for client, steps in ((0, 6), (1, 8)):
        ours, theirs = seen["together", client], seen["alone", client]
        assert len(ours) == len(theirs) == steps
        for (v1, g1, lr1), (v2, g2, lr2) in zip(ours, theirs, strict=True):
            assert lr1 == lr2
            torch.testing.assert_close(v1, v2, rtol=0, atol=TOLERANCE)
            torch.testing.assert_close(g1, g2, rtol=0, atol=TOLERANCE)


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
    np.testing.assert_allclose(np.stack(together), np.stack(alone), rtol=0, atol=TOLERANCE)
    assert not np.allclose(together[0], together[1], atol=100 * TOLERANCE)


def test_running_statistics_of_cut_units_stay_their_clients_own() -> None:
    with pytest.warns(RuntimeWarning, match="statistics"):
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


@pytest.mark.skipif(not cpu_has_bf16(), reason="this processor has no bfloat16")
def test_bf16_trains_together_within_its_own_precision() -> None:
    config = replace(OPTIMIZERS["sgd"], precision="bf16", lr=0.01)
    found, wanted = both("lenet300", config)
    assert_same(found, wanted, tolerance=2e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["lenet300", "lenet5"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_gpu_gives_the_same_within_its_tolerance(name: str, optimizer: str) -> None:
    config = replace(OPTIMIZERS[optimizer], batch_size=16)
    model = network(name)
    here = Together(model, config, config.lr)
    there = Together(model, replace(config, device="cuda"), config.lr)
    wanted = one_by_one(here, [job_of(model, name, c) for c in range(4)])
    jobs = [job_of(model, name, c, samples=samples_of(name, c, "cuda")) for c in range(4)]
    assert_same(there(jobs), wanted, tolerance=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["resnet20", "lstm"])
def test_a_gpu_trains_one_after_another_what_it_cannot_batch(name: str) -> None:
    config = replace(OPTIMIZERS["sgd"], batch_size=16, lr=0.01)
    model = network(name)
    wanted = Together(model, config, config.lr)([job_of(model, name, 0, epochs=1)])
    there = Together(model, replace(config, device="cuda"), config.lr)
    job = job_of(model, name, 0, epochs=1, samples=samples_of(name, 0, "cuda"))
    assert_same(there([job]), wanted, tolerance=1e-3)
