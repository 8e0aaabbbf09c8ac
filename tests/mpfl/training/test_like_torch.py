"""Networks that others wrote train as with torch.optim, or are refused by name."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from mpfl.config import TrainConfig
from mpfl.data.samples import Samples
from mpfl.errors import InputError
from mpfl.network.flat import FlatModel
from mpfl.network.structure import find_structure
from mpfl.seeding import global_picture, lent_from, torch_generator
from mpfl.training.local import batches, train
from mpfl.training.trial import try_out

SHAPE, CLASSES = (1, 6, 6), 3


def samples(count: int = 20) -> Samples:
    draws = torch.Generator().manual_seed(0)
    inputs = torch.randn((count, *SHAPE), generator=draws)
    return Samples(inputs, torch.randint(0, CLASSES, (count,), generator=draws))


def chain(*inside: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(36, 12), *inside, nn.ReLU(), nn.Linear(12, CLASSES)
    )


def convolved(*inside: nn.Module) -> nn.Sequential:
    first, last = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4 * 36, CLASSES)
    return nn.Sequential(first, *inside, nn.ReLU(), nn.Flatten(), last)


def tied() -> nn.Module:
    network = chain(nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 12))
    network[4].weight, network[4].bias = network[2].weight, network[2].bias
    return network


def applied_twice() -> nn.Module:
    layer = nn.Linear(12, 12)
    return chain(layer, nn.ReLU(), layer)


def partly_frozen() -> nn.Module:
    network = convolved(nn.BatchNorm2d(4))
    network[0].requires_grad_(False)
    network[1].bias.requires_grad_(False)
    return network


def hooked() -> nn.Module:
    network = chain()
    network[1].register_forward_hook(lambda module, given, outputs: outputs * 2)
    network[3].weight.register_hook(lambda gradient: gradient * 3)
    return network


class Embedded(nn.Module):
    def __init__(self, **options: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 4, padding_idx=0, **options)  # type: ignore[arg-type]
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.turned = nn.Parameter(torch.randn(CLASSES, 4).t())
        self.inner = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = (x.flatten(1) * 3).long().clamp(0, 8)
        return self.inner(self.embedding(tokens).mean(1)) @ self.turned * self.scale


class Viewed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.last = nn.Conv2d(1, 4, 3), nn.Linear(4 * 16, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.convolution(x).relu().view(-1, 4 * 16))


class Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.last = nn.Linear(6, CLASSES)
        self.register_buffer("mask", torch.triu(torch.full((6, 6), float("-inf")), 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps = x[:, 0]
        return self.last(self.attention(steps, steps, steps, attn_mask=self.mask)[0].mean(1))


class Drawing(nn.Module):
    """Draws from all three global generators."""

    def __init__(self) -> None:
        super().__init__()
        self.network = chain(nn.Dropout(0.4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return self.network(x)
        return self.network(x) * float(np.random.rand()) + random.random()  # noqa: NPY002


NETWORKS = {
    "tied": tied,
    "applied twice": applied_twice,
    "partly frozen": partly_frozen,
    "hooked": hooked,
    "embedding": Embedded,
    "embedding of bounded norm": lambda: Embedded(max_norm=1.0),
    "view": Viewed,
    "attention": Attentive,
    "drawing": Drawing,
    "layer norm": lambda: chain(nn.LayerNorm(12)),
    "rms norm": lambda: chain(nn.RMSNorm(12)),
    "slopes": lambda: chain(nn.PReLU(12)),
    "weight norm": lambda: chain(weight_norm(nn.Linear(12, 12))),
    "spectral norm": lambda: chain(spectral_norm(nn.Linear(12, 12))),
    "group norm": lambda: convolved(nn.GroupNorm(2, 4)),
    "instance norm": lambda: convolved(nn.InstanceNorm2d(4, affine=True, track_running_stats=True)),
    "batch norm": lambda: convolved(nn.BatchNorm2d(4)),
    "batch norm without tensors": lambda: convolved(
        nn.BatchNorm2d(4, affine=False, track_running_stats=False)
    ),
    "batch norm over all batches": lambda: convolved(nn.BatchNorm2d(4, momentum=None)),
    "local response norm": lambda: convolved(nn.LocalResponseNorm(2)),
    "depthwise": lambda: convolved(nn.Conv2d(4, 4, 3, padding=1, groups=4)),
    "transposed": lambda: convolved(nn.ConvTranspose2d(4, 4, 3, padding=1)),
}


def by_torch(network: nn.Module, config: TrainConfig, epochs: int) -> nn.Module:
    """Train as a PyTorch user would, on the batches and with the draws of `train`."""
    order, data = torch_generator(1, "batches"), samples()
    trained = [p for p in network.parameters() if p.requires_grad]
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.SGD
    options = {"momentum": config.momentum, "nesterov": config.nesterov}
    options = {} if config.optimizer == "adam" else options
    optimizer = kind(trained, lr=config.lr, weight_decay=config.weight_decay, **options)  # type: ignore[arg-type]
    network.train()
    with lent_from(order):
        for _ in range(epochs):
            for index in batches(len(data), config.batch_size, order):
                optimizer.zero_grad()
                inputs, targets = data.batch(index)
                functional.cross_entropy(network(inputs), targets).backward()
                optimizer.step()
    return network


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(batch_size=8, lr=0.05, momentum=0.9, weight_decay=0.01),
        TrainConfig(batch_size=8, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
        TrainConfig(batch_size=8, lr=0.01, optimizer="adam", weight_decay=0.01),
    ],
    ids=["sgd", "nesterov", "adam"],
)
@pytest.mark.parametrize("name", NETWORKS)
def test_training_is_that_of_torch(name: str, config: TrainConfig) -> None:
    torch.manual_seed(0)
    ours = NETWORKS[name]()
    theirs = by_torch(copy.deepcopy(ours), config, 2) if name != "hooked" else None
    if theirs is None:  # hooks of tensors are not copied
        torch.manual_seed(0)
        theirs = by_torch(NETWORKS[name](), config, 2)
    trial, structure = FlatModel(ours), find_structure(ours, "weight")
    before = global_picture()
    manner, _ = try_out(trial, structure, samples(), CLASSES, config)
    model = FlatModel(ours, manner)
    order = torch_generator(1, "batches")
    train(model, samples(), config, lr=config.lr, epochs=2, generator=order)
    assert global_picture() == before
    expected = theirs.state_dict()
    for key, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, expected[key], atol=2e-5, rtol=1e-3)


def test_the_trial_leaves_the_network_as_it_was() -> None:
    for build in NETWORKS.values():
        network = build()
        before = copy.deepcopy(network.state_dict())
        find = find_structure(network, "weight")
        try_out(FlatModel(network), find, samples(), CLASSES, TrainConfig())
        after = network.state_dict()
        assert all(torch.equal(after[key], before[key]) for key in before)


def tried(network: nn.Module, data: Samples | None = None):
    structure = find_structure(network, "weight")
    return try_out(FlatModel(network), structure, data or samples(), CLASSES, TrainConfig())


def test_the_trial_finds_what_draws_and_what_needs_its_order() -> None:
    assert not tried(Drawing())[0].replays
    assert tried(convolved(nn.BatchNorm2d(4)))[0].replays
    assert not tried(Viewed())[0].channels_last
    plain, structure = tried(convolved(nn.GroupNorm(2, 4)))
    assert plain.channels_last
    assert not plain.draws
    assert plain.replays
    assert structure.moves.all()
    _, constant = tried(Attentive())
    assert constant.buffers.names == ("mask",)
    assert not constant.moving_buffers.any()
    assert constant.moving_parameters.all()


class Counting(nn.Module):
    calls = 0

    def __init__(self, how: str) -> None:
        super().__init__()
        self.network, self.how, self.count = chain(), how, 0
        self.draws = torch.Generator().manual_seed(0)
        self.inner = {"normalisation": [nn.BatchNorm1d(CLASSES)]}
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = self.network(x)
        if self.how == "count":
            self.count += 1
        elif self.how == "steps":
            self.steps += 1  # type: ignore[assignment]
        elif self.how == "calls":
            Counting.calls += 1
        elif self.how == "draws":
            outputs = outputs * torch.rand((), generator=self.draws)
        elif self.how == "last":
            self.last = outputs.detach()
        elif self.how == "inner":
            outputs = self.inner["normalisation"][0](outputs)
        elif self.how == "nothing inside":
            outputs = outputs * float(np.random.default_rng().random())
        return outputs


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("count", "'count'"),
        ("steps", "'steps'"),
        ("calls", "'Counting.calls'"),
        ("draws", "'draws'"),
        ("last", "'last'"),
        ("inner", "'inner'"),
        ("nothing inside", "something outside the network"),
    ],
)
def test_state_that_no_client_would_be_sent_is_refused_by_name(how: str, said: str) -> None:
    assert tried(Counting("nothing at all"))
    with pytest.raises(InputError, match=said):
        tried(Counting(how))


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(35, 3)), "cannot take inputs of shape"),
        (nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), r"returns shape \[4, 2\]"),
        (nn.Sequential(nn.Linear(6, 3)), r"returns shape \[4, 1, 6, 3\]"),
        (nn.Sequential(nn.Flatten(0), nn.Linear(144, 3)), r"returns shape \[3\]"),
    ],
)
def test_outputs_that_are_no_logits_are_refused(network: nn.Module, said: str) -> None:
    with pytest.raises(InputError, match=said):
        tried(network)
