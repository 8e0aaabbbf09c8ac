"""The written-out gradients against autograd's."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mpfl.models import build_model
from mpfl.training.feedforward import Feedforward


def allocated(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)  # must be overwritten
    return module


def batch(features: tuple[int, ...], classes: int, size: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(size, *features, generator=generator)
    return inputs, torch.randint(0, classes, (size,), generator=generator)


NETWORKS = {
    "lenet300": lambda: build_model("lenet300", 10, (1, 28, 28), torch.Generator().manual_seed(0)),
    "one layer": lambda: nn.Sequential(nn.Linear(12, 4)),
    "no bias": lambda: nn.Sequential(nn.Linear(12, 9, bias=False), nn.ReLU(), nn.Linear(9, 4)),
    "no relu": lambda: nn.Sequential(nn.Linear(12, 9), nn.Linear(9, 6), nn.ReLU(), nn.Linear(6, 4)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [1, 32])
def test_gradients_equal_autograd(name: str, size: int) -> None:
    torch.manual_seed(1)
    module = allocated(NETWORKS[name]())
    shape, classes = ((1, 28, 28), 10) if name == "lenet300" else ((12,), 4)
    inputs, targets = batch(shape, classes, size)
    network = Feedforward.of(module)
    assert network is not None
    loss = network.gradients(inputs, targets)
    expected = functional.cross_entropy(module(inputs), targets)
    slow = torch.autograd.grad(expected, list(module.parameters()))
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-6, atol=1e-6)
    for parameter, gradient in zip(module.parameters(), slow, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_of_descent_equals_that_of_torch(name: str) -> None:
    torch.manual_seed(1)
    module, copy = allocated(NETWORKS[name]()), NETWORKS[name]()
    copy.load_state_dict(module.state_dict())
    shape, classes = ((1, 28, 28), 10) if name == "lenet300" else ((12,), 4)
    inputs, targets = batch(shape, classes)
    network = Feedforward.of(module)
    assert network is not None
    loss = network.descend(inputs, targets, lr=0.5)
    optimizer = torch.optim.SGD(copy.parameters(), lr=0.5)
    expected = functional.cross_entropy(copy(inputs), targets)
    expected.backward()
    optimizer.step()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-6, atol=1e-6)
    for mine, theirs in zip(module.parameters(), copy.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)
        assert mine.grad is not None
        assert (mine.grad == 7.0).all()  # no gradient is written


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(12, 4),
        nn.Sequential(nn.Linear(12, 4), nn.ReLU()),
        nn.Sequential(nn.ReLU(), nn.Linear(12, 4)),
        nn.Sequential(nn.Linear(12, 4), nn.Tanh(), nn.Linear(4, 4)),
        nn.Sequential(nn.Linear(12, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 4)),
        nn.Sequential(nn.Linear(12, 4), nn.ReLU(), nn.ReLU(), nn.Linear(4, 4)),
        nn.Sequential(nn.Conv1d(1, 1, 1), nn.Flatten(), nn.Linear(12, 4)),
        nn.Sequential(),
    ],
)
def test_other_networks_are_left_to_autograd(module: nn.Module) -> None:
    assert Feedforward.of(allocated(module)) is None


def test_what_a_chain_does_beside_is_left_to_autograd() -> None:
    def chain() -> nn.Sequential:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)
        )

    tied, hooked, other, flattened = chain(), chain(), chain(), chain()
    tied[3].weight = tied[1].weight
    hooked[1].register_forward_hook(lambda module, given, outputs: 2 * outputs)
    other[1].forward = lambda inputs: inputs
    flattened[0] = nn.Flatten(2)
    layer = nn.Linear(4, 4)
    twice = nn.Sequential(nn.Flatten(), layer, nn.ReLU(), layer)
    assert Feedforward.of(allocated(chain())) is not None
    for module in (tied, hooked, other, flattened, twice):
        assert Feedforward.of(allocated(module)) is None
    steps = nn.Sequential(nn.Linear(4, 3))  # of a sequence, it sees one step at a time
    assert Feedforward.of(allocated(steps)) is not None
    assert Feedforward.of(allocated(steps), axes=3) is None


def test_frozen_or_unallocated_parameters_are_left_to_autograd() -> None:
    module = nn.Sequential(OrderedDict(a=nn.Linear(4, 3), b=nn.ReLU(), c=nn.Linear(3, 2)))
    assert Feedforward.of(module) is None
    allocated(module).get_submodule("a").requires_grad_(False)
    assert Feedforward.of(module) is None
