"""Convolutions with ReLU and pooling, computed for many samples side by side, against autograd."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import run
from mpfl.data.samples import Samples
from mpfl.models import build_model
from mpfl.network.flat import FlatModel
from mpfl.training.feedforward import Feedforward
from mpfl.training.feedforward.stages import COMPILED
from mpfl.training.local import Evaluation, evaluate

pytestmark = pytest.mark.skipif(
    COMPILED is None, reason="mpfl.training.feedforward._stages is of no use here"
)


@pytest.fixture(params=[16, 8])
def side(request: pytest.FixtureRequest) -> Iterator[int]:
    """As many samples side by side."""
    assert COMPILED is not None
    usual = COMPILED.width()
    if request.param > usual:
        pytest.skip(f"the registers of this processor hold {usual} floats")
    COMPILED.width(request.param)
    yield request.param
    COMPILED.width(usual)


def built(name: str, shape: tuple[int, int, int]) -> nn.Module:
    return build_model(name, 10, shape, torch.Generator().manual_seed(0))


def stages(*layers: nn.Module, features: int) -> nn.Sequential:
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 5), nn.ReLU(), nn.Linear(5, 10))


Network = tuple[Callable[[], nn.Module], tuple[int, int, int]]

NETWORKS: dict[str, Network] = {
    "lenet5": (lambda: built("lenet5", (1, 28, 28)), (1, 28, 28)),
    "lenet5_caffe": (lambda: built("lenet5_caffe", (1, 28, 28)), (1, 28, 28)),
    "niid_cnn": (lambda: built("niid_cnn", (3, 32, 32)), (3, 32, 32)),
    "padded twice, three wide": (
        lambda: stages(
            nn.Conv2d(2, 7, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(7, 13, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d((2, 2), 2),
            features=13 * 2 * 3,
        ),
        (2, 9, 13),
    ),
    "no bias, ReLU after pooling, odd sizes": (
        lambda: stages(
            nn.Conv2d(1, 3, 4, bias=False),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(3, 1, 1, bias=False),
            nn.MaxPool2d(2),
            features=4,
        ),
        (1, 12, 14),
    ),
    "as many filters as there may be": (
        lambda: stages(nn.Conv2d(1, 64, 5, padding=2), nn.MaxPool2d(2), features=64 * 9),
        (1, 6, 6),
    ),
}


def agree(module: nn.Module, inputs: Tensor) -> None:
    """Compare loss and gradients, over two batches so that what the first left behind is seen."""
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)  # must be overwritten
    targets = torch.randint(0, 10, (len(inputs),), generator=torch.Generator().manual_seed(4))
    network = Feedforward.of(module, axes=4)
    assert network is not None
    assert network.convolves
    parts = [slice(None), slice(0, max(1, len(inputs) // 3)), slice(None)]
    for part in parts:
        loss = network.gradients(inputs[part], targets[part])
        expected = functional.cross_entropy(module(inputs[part]), targets[part])
        slow = torch.autograd.grad(expected, list(module.parameters()))
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-6, atol=1e-6)
        for parameter, gradient in zip(module.parameters(), slow, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        logits = network.logits(inputs)
        torch.testing.assert_close(logits, module(inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [1, 16, 37])
def test_gradients_equal_autograd(name: str, size: int, side: int) -> None:
    torch.manual_seed(1)
    make, shape = NETWORKS[name]
    agree(make(), torch.randn(size, *shape))


def test_the_first_of_equal_places_is_chosen(side: int) -> None:
    """On a background of zeros a convolution is equal everywhere."""
    torch.manual_seed(1)
    make, shape = NETWORKS["lenet5"]
    inputs = torch.zeros(20, *shape)
    inputs[:, :, 9:17, 11:13] = torch.rand(20, 1, 8, 2)
    agree(make(), inputs)


def test_inputs_and_weights_may_be_stored_channels_last(side: int) -> None:
    torch.manual_seed(1)
    make, shape = NETWORKS["niid_cnn"]
    module = nn.Module.to(make(), memory_format=torch.channels_last)  # type: ignore[call-overload]
    agree(module, torch.randn(20, *shape).contiguous(memory_format=torch.channels_last))


def test_a_step_of_descent_equals_that_of_torch(side: int) -> None:
    torch.manual_seed(1)
    make, shape = NETWORKS["lenet5"]
    module, copy = make(), make()
    inputs, targets = torch.randn(20, *shape), torch.randint(0, 10, (20,))
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    network = Feedforward.of(module, axes=4)
    assert network is not None
    loss = network.descend(inputs, targets, lr=0.5)
    expected = functional.cross_entropy(copy(inputs), targets)
    expected.backward()
    torch.optim.SGD(copy.parameters(), lr=0.5).step()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-6, atol=1e-6)
    for mine, theirs in zip(module.parameters(), copy.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_what_is_no_number_stays_none(side: int) -> None:
    make, shape = NETWORKS["lenet5"]
    module = make()
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    network = Feedforward.of(module, axes=4)
    assert network is not None
    inputs = torch.zeros(20, *shape)
    inputs[3, 0, 13, 13] = float("nan")
    assert network.gradients(inputs, torch.zeros(20, dtype=torch.int64)).isnan()
    assert network.logits(inputs).isnan().any(1).nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(1, 4, 5, stride=2),
        nn.Conv2d(1, 4, 3, dilation=2),
        nn.Conv2d(1, 4, 5, padding=2, padding_mode="reflect"),
        nn.Conv2d(1, 4, (3, 5)),
        nn.Conv2d(1, 4, 5, padding="same"),
        nn.Conv2d(1, 65, 5),
        nn.Conv2d(33, 4, 5),
        nn.Conv2d(1, 4, 5).double(),
        nn.Conv2d(2, 4, 5, groups=2),
    ],
)
def test_other_convolutions_are_left_to_autograd(layer: nn.Module) -> None:
    module = stages(layer, nn.ReLU(), nn.MaxPool2d(2), features=12)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    assert Feedforward.of(module, axes=4) is None


@pytest.mark.parametrize(
    "after",
    [
        [nn.MaxPool2d(3)],
        [nn.MaxPool2d(2, 1)],
        [nn.MaxPool2d(2, padding=1)],
        [nn.MaxPool2d(2, ceil_mode=True)],
        [nn.MaxPool2d(2, return_indices=True)],
        [nn.AvgPool2d(2)],
        [nn.ReLU()],
        [nn.Tanh(), nn.MaxPool2d(2)],
        [nn.ReLU(), nn.MaxPool2d(2), nn.Dropout()],
    ],
)
def test_other_layers_after_them_are_left_to_autograd(after: list[nn.Module]) -> None:
    module = stages(nn.Conv2d(1, 4, 5), *after, features=12)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    assert Feedforward.of(module, axes=4) is None


def test_networks_that_somebody_watches_are_left_to_autograd() -> None:
    def network() -> nn.Module:
        module = NETWORKS["lenet5"][0]()
        for parameter in module.parameters():
            parameter.grad = torch.zeros_like(parameter)
        return module

    hooked, accumulated, replaced = network(), network(), network()
    hooked.get_parameter("conv1.weight").register_hook(lambda gradient: 0 * gradient)
    accumulated.get_parameter("fc1.bias").register_post_accumulate_grad_hook(lambda bias: None)
    replaced.get_submodule("conv2")._conv_forward = lambda *given: given[0]  # type: ignore[assignment]
    assert Feedforward.of(network(), axes=4) is not None
    for module in (hooked, accumulated, replaced):
        assert Feedforward.of(module, axes=4) is None


def test_what_pytorch_refuses_is_refused() -> None:
    module = NETWORKS["niid_cnn"][0]()
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    network = Feedforward.of(module, axes=4)
    assert network is not None
    with pytest.raises(ValueError, match="1 channels, expected 3"):
        network.logits(torch.zeros(2, 1, 32, 32))
    with pytest.raises(ValueError, match="int32, expected float32"):
        network.logits(torch.zeros(2, 3, 32, 32, dtype=torch.int32))


def test_of_no_samples_nothing_is_right() -> None:
    model = FlatModel(NETWORKS["niid_cnn"][0]())
    nothing = Samples(torch.empty(0, 3, 32, 32), torch.empty(0, dtype=torch.int64))
    assert evaluate(model, nothing) == Evaluation(0.0, 0.0, 0)


def test_sizes_that_do_not_fit_are_refused() -> None:
    assert COMPILED is not None
    side = COMPILED.width()
    stage = (1, 1, 8, 8, 5, 3, 2, 2, 1, 12)
    x, out = np.zeros((1, 8, 8, side), np.float32), np.zeros((3, 2, 2, side), np.float32)
    filters, bias = np.zeros((1, 5, 5, 3), np.float32), np.zeros(3, np.float32)
    chosen = np.zeros(out.shape, np.int32)
    COMPILED.forward(stage, x, filters, bias, out, chosen)
    with pytest.raises(ValueError, match="do not fit"):
        COMPILED.forward(
            (1, 1, 7, 8, 5, 3, 2, 2, 1, 12), x[:, :7].copy(), filters, bias, out, chosen
        )
    with pytest.raises(ValueError, match="do not fit"):
        COMPILED.forward((1, 1, 8, 8, 5, 0, 2, 2, 1, 12), x, filters, bias, out, chosen)
    with pytest.raises(ValueError, match="array 3"):
        COMPILED.forward(stage, x, filters, bias, out[:2].copy(), chosen)
    with pytest.raises(ValueError, match="array 1"):
        COMPILED.group(20, 4, np.zeros(80, np.float32), np.zeros(80, np.float32))
    many = 1 << 20
    with pytest.raises(ValueError, match="do not fit"):  # bytes that cannot be counted
        COMPILED.forward((1, many, many, many, 1, 1, 1, 1, 1, many), x, filters, bias, out, chosen)
    with pytest.raises(ValueError, match="width"):
        COMPILED.width(7)


def test_without_registers_nothing_is_computed() -> None:
    assert COMPILED is not None
    usual = COMPILED.width()
    COMPILED.width(0)
    try:
        with pytest.raises(ValueError, match="registers"):
            COMPILED.group(1, 1, np.zeros(1, np.float32), np.zeros(16, np.float32))
        with pytest.raises(ValueError, match="registers"):
            COMPILED.forward((1, 1, 8, 8, 5, 3, 2, 2, 1, 12), *[np.zeros(1, np.float32)] * 5)
    finally:
        COMPILED.width(usual)


def test_the_summary_says_how_many_samples_are_computed_side_by_side(tmp_path: Path) -> None:
    assert COMPILED is not None
    changes = {"federation.rounds": 1, "data.train_samples": 100, "data.test_samples": 100}
    summary = run("demo", changes, out=tmp_path / "run").summary
    assert summary["machine"]["kernels"].endswith(f", {COMPILED.width()} samples")
