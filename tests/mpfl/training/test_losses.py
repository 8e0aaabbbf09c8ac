"""The hooks of local training: what is minimised, and what becomes of a gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mpfl.config import TrainConfig
from mpfl.data.samples import Samples
from mpfl.errors import InputError
from mpfl.network.flat import FlatModel
from mpfl.seeding import derived, torch_generator
from mpfl.training.local import train
from mpfl.training.losses import (
    GRADIENTS,
    LOSSES,
    GradientInputs,
    LossInputs,
    check_loss,
    cross_entropy,
    label_smoothing,
)
from mpfl.world import build_world
from tests.runs import small

INPUTS = torch.randn(12, 1, 4, 4, generator=torch_generator(1, "inputs"))
TARGETS = torch.arange(12) % 3


def dense() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3))


def convolution() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


def trained(make: Callable[[], nn.Module], config: TrainConfig, **hooks: Any) -> Tensor:
    torch.manual_seed(2)
    model = FlatModel(make())
    where: dict[str, Any] = {
        "generator": torch_generator(3, "batches"),
        "lr": config.lr,
        "epochs": 2,
    }
    train(model, Samples(INPUTS, TARGETS), config, **where, **hooks)
    return model.values


CONFIG = TrainConfig(batch_size=4, lr=0.2, momentum=0.5)


@pytest.mark.parametrize("make", [dense, convolution])
@pytest.mark.parametrize(
    "same",
    [{"loss": "cross_entropy()"}, {"loss": "fedprox(0)"}, {"loss": "label_smoothing(0)"}],
)
def test_a_loss_that_is_cross_entropy_trains_as_cross_entropy(
    make: Callable[[], nn.Module], same: dict[str, Any]
) -> None:
    plain = trained(make, CONFIG)
    assert torch.allclose(trained(make, replace(CONFIG, **same)), plain, atol=1e-6)


@pytest.mark.parametrize("make", [dense, convolution])
@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, momentum=0.0)])
def test_every_path_of_training_minimises_the_loss_that_is_named(
    make: Callable[[], nn.Module], config: TrainConfig
) -> None:
    """By PyTorch's own loop, which knows nothing of flat vectors."""
    torch.manual_seed(2)
    module = make()
    start = [p.detach().clone() for p in module.parameters()]
    optimizer = torch.optim.SGD(module.parameters(), lr=config.lr, momentum=config.momentum)
    generator = torch_generator(3, "batches")
    for _ in range(2):
        for index in torch.randperm(12, generator=generator).split(4):
            optimizer.zero_grad()
            loss = functional.cross_entropy(module(INPUTS[index]), TARGETS[index])
            for now, then in zip(module.parameters(), start, strict=True):
                loss = loss + 0.4 * (now - then).square().sum()
            loss.backward()
            optimizer.step()
    expected = torch.cat([p.detach().flatten() for p in module.parameters()])
    found = trained(make, replace(config, loss="fedprox(0.8)"))
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, trained(make, config), atol=1e-3)


@pytest.mark.parametrize("make", [dense, convolution])
def test_a_gradient_hook_sees_vectors_in_the_usual_order_and_decides_the_step(
    make: Callable[[], nn.Module],
) -> None:
    seen: list[GradientInputs] = []

    def along(inputs: GradientInputs) -> Tensor:
        seen.append(inputs)
        return torch.arange(len(inputs.gradient), dtype=torch.float32)

    config = replace(CONFIG, momentum=0.0)
    torch.manual_seed(2)
    start = FlatModel(make()).values
    end = trained(make, config, gradient=along)
    steps = len(seen)
    assert [inputs.step for inputs in seen] == list(range(steps))
    assert all(torch.equal(inputs.start, start) for inputs in seen)
    assert torch.equal(seen[0].weights, start)
    moved = -config.lr * torch.arange(len(start), dtype=torch.float32)
    assert torch.allclose(seen[1].weights, start + moved, atol=1e-4)
    assert torch.allclose(end, start + steps * moved, atol=1e-3)


def test_a_hook_cannot_bring_pruned_weights_back() -> None:
    keep = torch.ones(16 * 6 + 6 + 6 * 3 + 3)
    keep[:50] = 0
    ends = trained(dense, CONFIG, keep=keep, gradient=lambda inputs: inputs.gradient + 1)
    assert not ends[:50].any()


def test_a_hooks_stream_moves_no_other() -> None:
    generator = torch_generator(3, "batches")
    before = generator.get_state()
    first, second = (torch.rand(3, generator=derived(generator, "gradient")) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(generator.get_state(), before)


def inputs_of(outputs: Tensor, targets: Tensor) -> LossInputs:
    return LossInputs(nn.Identity(), outputs, targets, {}, {})


def test_label_smoothing_takes_outputs_of_any_shape() -> None:
    outputs, targets = torch.randn(2, 5, 3), torch.tensor([[0, 1, 2, 0, 1], [2, 2, 1, 0, 0]])
    logs = torch.log_softmax(outputs, -1)
    right = logs.gather(-1, targets[..., None]).mean()
    expected = -(0.7 * right + 0.3 * logs.mean())
    found = label_smoothing(inputs_of(outputs, targets), 0.3)
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.equal(label_smoothing(inputs_of(outputs, targets), 0.0),
                       cross_entropy(inputs_of(outputs, targets)))  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"loss": "fedporx(1)"}, "train.loss: unknown loss 'fedporx'; did you mean 'fedprox'"),
        ({"loss": "fedprox(-1)"}, "train.loss: got mu = -1, expected at least 0"),
        ({"loss": "label_smoothing(1)"}, "train.loss: got share = 1, expected 0 <= share < 1"),
        ({"loss": "fedprox(x)"}, "train.loss: 'fedprox(x)': 'x' is not a finite number"),
        ({"gradient": "noise"}, "train.gradient: unknown gradient 'noise'"),
        ({"gradient": "Plain"}, "train.gradient: cannot read 'Plain'"),
    ],
)
def test_what_is_wrong_with_a_loss_is_said_before_any_work(
    settings: dict[str, str], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        build_world(small(**{f"train__{key}": value for key, value in settings.items()}))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (1.0, "'mine' returns float, expected one number"),
        (torch.zeros(2), "'mine' returns (2,), expected one number"),
        (torch.zeros(()), "'mine' returns a number that has no gradient"),
    ],
)
def test_what_a_loss_returns_is_checked_before_any_work(returned: Any, said: str) -> None:
    LOSSES.lend("mine", lambda inputs: returned)
    try:
        with pytest.raises(InputError) as caught:
            check_loss(TrainConfig(loss="mine"), dense(), INPUTS[:2], TARGETS[:2])
    finally:
        LOSSES.take_back("mine")
    assert str(caught.value).startswith(f"train.loss: {said}")


def test_what_a_gradient_hook_returns_is_checked_before_any_work() -> None:
    GRADIENTS.lend("mine", lambda inputs: inputs.gradient[:3])
    try:
        with pytest.raises(InputError, match=r"'mine' returns \(3,\), expected float32"):
            check_loss(TrainConfig(gradient="mine"), dense(), INPUTS[:2], TARGETS[:2])
    finally:
        GRADIENTS.take_back("mine")
