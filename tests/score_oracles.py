"""Small networks of every kind, and slow, obvious implementations of every score on them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mpfl.data.samples import Samples
from mpfl.seeding import numpy_rng, torch_generator


def _mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)
    )


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(3, 4, 2, bias=False),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def _bn_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, bias=False),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.bn0 = nn.BatchNorm2d(4)
        self.conv1 = nn.Conv2d(4, 3, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(3)
        self.conv2 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(4, 3)

    def activations(self, x: Tensor) -> list[Tensor]:
        first = self.relu(self.bn0(self.stem(x)))
        inner = self.relu(self.bn1(self.conv1(first)))
        return [first, inner, self.relu(self.bn2(self.conv2(inner)) + first)]

    def forward(self, x: Tensor) -> Tensor:
        first = self.relu(self.bn0(self.stem(x)))
        inner = self.relu(self.bn1(self.conv1(first)))
        last = self.relu(self.bn2(self.conv2(inner)) + first)
        return self.head(torch.flatten(self.pool(last), 1))


class _Recurrent(nn.Module):
    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.recurrent = kind(3, 4, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(self.embedding(x))[0].mean(1))


@dataclass(frozen=True)
class Network:
    """A small network, and what its filters own: layer -> [(parameter, gates)]."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    filters: dict[str, list[tuple[str, int]]]


NETWORKS = {
    "mlp": Network(_mlp, (3, 2, 2), {"1": [("1.weight", 1)], "3": [("3.weight", 1)]}),
    "cnn": Network(_cnn, (2, 6, 6), {"0": [("0.weight", 1)], "2": [("2.weight", 1)]}),
    "bn_cnn": Network(_bn_cnn, (2, 5, 5), {"0": [("0.weight", 1)], "3": [("3.weight", 1)]}),
    "residual": Network(
        _Residual,
        (2, 4, 4),
        {"stem": [("stem.weight", 1), ("conv2.weight", 1)], "conv1": [("conv1.weight", 1)]},
    ),
    "lstm": Network(
        lambda: _Recurrent(nn.LSTM),
        (6,),
        {"recurrent": [("recurrent.weight_ih_l0", 4), ("recurrent.weight_hh_l0", 4)]},
    ),
    "gru": Network(
        lambda: _Recurrent(nn.GRU),
        (6,),
        {"recurrent": [("recurrent.weight_ih_l0", 3), ("recurrent.weight_hh_l0", 3)]},
    ),
}


@dataclass(frozen=True)
class Case:
    """A network with random weights, running statistics and data."""

    network: Network
    module: nn.Module
    samples: Samples

    def parameters(self) -> dict[str, Tensor]:
        return {name: p.detach() for name, p in self.module.named_parameters()}


def make(name: str) -> Case:
    network = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = network.build()
        for key, tensor in module.state_dict().items():
            if "running_var" in key:
                tensor.uniform_(0.5, 2.0)
            elif tensor.is_floating_point():
                tensor.uniform_(-0.7, 0.8)
        count = 11
        if len(network.shape) == 1:
            inputs = torch.randint(0, 5, (count, *network.shape))
        else:
            inputs = torch.randn(count, *network.shape)
        samples = Samples(inputs, torch.randint(0, 3, (count,)))
    return Case(network, module.eval(), samples)


def over_units(case: Case, granularity: str, entries: dict[str, Tensor]) -> dict[str, list[Tensor]]:
    """Return, per layer and unit, the entries (one tensor per parameter) of its own weights."""
    units: dict[str, list[Tensor]] = {}
    if granularity == "filter":
        for layer, owned in case.network.filters.items():
            parts = [(entries[name], gates) for name, gates in owned]
            count = len(parts[0][0]) // parts[0][1]
            units[layer] = [
                torch.cat([t[u + g * count].flatten() for t, gates in parts for g in range(gates)])
                for u in range(count)
            ]
        return units
    for name, tensor in entries.items():
        owner = case.module.get_submodule(name.rpartition(".")[0])
        leaf = name.rpartition(".")[2]
        if not leaf.startswith("weight") or isinstance(owner, nn.BatchNorm2d | nn.Embedding):
            continue
        layer = name if isinstance(owner, nn.LSTM | nn.GRU) else name.rpartition(".")[0]
        if granularity == "kernel" and tensor.dim() == 4:
            units[layer] = [kernel.flatten() for row in tensor for kernel in row]
        else:
            units[layer] = [weight.reshape(1) for weight in tensor.flatten()]
    return units


def gradients(module: nn.Module, samples: Samples, index: Tensor) -> dict[str, Tensor]:
    names = [name for name, _ in module.named_parameters()]
    inputs, targets = samples.batch(index)
    loss = functional.cross_entropy(module(inputs), targets)
    found = torch.autograd.grad(loss, list(module.parameters()))
    return dict(zip(names, found, strict=True))


def stack(units: dict[str, list[Tensor]], reduce: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    return {layer: torch.stack([reduce(u) for u in of]).detach() for layer, of in units.items()}


def oracle_magnitude(case: Case, granularity: str) -> dict[str, Tensor]:
    entries = case.parameters()
    return stack(over_units(case, granularity, entries), lambda unit: (unit**2).sum().sqrt())


def oracle_l1(case: Case, granularity: str) -> dict[str, Tensor]:
    entries = case.parameters()
    return stack(over_units(case, granularity, entries), lambda unit: unit.abs().sum())


def oracle_taylor(case: Case, granularity: str) -> dict[str, Tensor]:
    weights = case.parameters()
    total: dict[str, Tensor] = {}
    for index in (torch.arange(0, 4), torch.arange(4, 8), torch.arange(8, 11)):
        found = gradients(case.module, case.samples, index)
        products = {name: weights[name] * found[name] for name in weights}
        share = stack(over_units(case, granularity, products), lambda unit: unit.sum().abs())
        for layer, values in share.items():
            total[layer] = total.get(layer, 0) + values * len(index) / 11
    return total


def oracle_fisher(case: Case, granularity: str) -> dict[str, Tensor]:
    weights = case.parameters()
    mean = {name: torch.zeros_like(w) for name, w in weights.items()}
    for i in range(11):
        for name, found in gradients(case.module, case.samples, torch.tensor([i])).items():
            mean[name] += found**2 / 11
    entries = {name: weights[name] ** 2 * mean[name] for name in weights}
    return stack(over_units(case, granularity, entries), lambda unit: (unit**2).sum().sqrt())


def oracle_movement(case: Case, granularity: str) -> dict[str, Tensor]:
    module = copy.deepcopy(case.module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    total = {name: torch.zeros_like(w) for name, w in module.named_parameters()}
    generator = torch_generator(7, "batches")
    for _ in range(2):
        order = torch.randperm(11, generator=generator)
        for index in (order[:4], order[4:8], order[8:]):
            found = gradients(module, case.samples, index)
            for name, weight in module.named_parameters():
                total[name] -= weight.detach() * found[name]
                weight.grad = found[name]
            optimizer.step()
    return stack(over_units(case, granularity, total), lambda unit: unit.sum())


def oracle_random(case: Case, granularity: str) -> dict[str, Tensor]:
    rng = numpy_rng(5, "score")
    units = over_units(case, granularity, case.parameters())
    sizes = {layer: len(of) for layer, of in units.items()}
    return {k: torch.from_numpy(rng.random(n, dtype=np.float32)) for k, n in sizes.items()}


def oracle_activity(case: Case, granularity: str) -> dict[str, Tensor]:
    """A literal double loop over the neurons (filters) and their connections."""
    heard: dict[str, Tensor] = {}
    hooks = []
    for name, part in case.module.named_modules():
        if isinstance(part, nn.Linear | nn.Conv2d):

            def hear(_: nn.Module, arguments: tuple[Tensor, ...], name: str = name) -> None:
                heard[name] = arguments[0].detach()

            hooks.append(part.register_forward_pre_hook(hear))
    with torch.no_grad():
        case.module(case.samples.inputs)
    for hook in hooks:
        hook.remove()
    parts: dict[str, Any] = dict(case.module.named_modules())
    kinds = {nn.Linear: _linear_activity, nn.Conv2d: _conv_activity}
    return {name: kinds[type(parts[name])](parts[name], x) for name, x in heard.items()}


def _detached(part: nn.Linear | nn.Conv2d) -> tuple[Tensor, Tensor | None]:
    return part.weight.detach(), None if part.bias is None else part.bias.detach()


def _linear_activity(part: nn.Linear, x: Tensor) -> Tensor:
    weight, bias = _detached(part)
    rows = []
    for j in range(part.out_features):
        carried = []
        for i in range(part.in_features):
            mean = sum(abs(float(weight[j, i]) * float(x[n, i])) for n in range(len(x)))
            carried.append(mean / len(x))
        whole = sum(carried) + abs(float(bias[j]))
        rows.append([value / whole for value in carried])
    return torch.tensor(rows, dtype=torch.float64).flatten()


def _conv_activity(part: nn.Conv2d, x: Tensor) -> Tensor:
    weight, bias = _detached(part)
    rows = []
    for j in range(part.out_channels):
        carried = []
        for i in range(part.in_channels):
            kernel = weight[j, i].abs()[None, None].double()
            total, area = 0.0, 0
            for n in range(len(x)):
                image = x[n, i].abs()[None, None].double()
                reply = functional.conv2d(image, kernel, stride=part.stride, padding=part.padding)
                total += float((reply**2).sum()) ** 0.5
                area = reply.numel()
            carried.append(total / len(x))
        heard = 0.0 if bias is None else abs(float(bias[j])) * area**0.5
        rows.append([value / (sum(carried) + heard) for value in carried])
    return torch.tensor(rows, dtype=torch.float64).flatten()


def oracle_apoz(case: Case, granularity: str) -> dict[str, Tensor]:
    x = case.samples.inputs
    if isinstance(case.module, _Residual):
        first, inner, last = case.module.activations(x)
        return {"stem": (_alive(first) + _alive(last)) / 2, "conv1": _alive(inner)}
    found, owner = {}, ""
    for name, part in case.module.named_children():
        x = part(x)
        if isinstance(part, nn.Linear | nn.Conv2d):
            owner = name
        if isinstance(part, nn.ReLU):
            found[owner] = _alive(x)
    return found


def _alive(x: Tensor) -> Tensor:
    """Return the share of non-zero entries of each channel, counted one by one."""
    return torch.tensor(
        [
            1 - sum(value == 0.0 for value in x[:, c].flatten().tolist()) / x[:, c].numel()
            for c in range(x.shape[1])
        ]
    )


def oracle_bn_scale(case: Case, granularity: str) -> dict[str, Tensor]:
    if isinstance(case.module, _Residual):
        scales = case.module.bn0.weight, case.module.bn2.weight
        both = [
            (float(a) ** 2 + float(b) ** 2) ** 0.5
            for a, b in zip(*map(Tensor.detach, scales), strict=True)
        ]
        return {"stem": torch.tensor(both), "conv1": case.module.bn1.weight.detach().abs()}
    children = dict(case.module.named_children())
    return {"0": children["1"].weight.detach().abs(), "3": children["4"].weight.detach().abs()}


ORACLES = {
    "magnitude": oracle_magnitude,
    "taylor": oracle_taylor,
    "fisher": oracle_fisher,
    "movement": oracle_movement,
    "activity": oracle_activity,
    "apoz": oracle_apoz,
    "bn_scale": oracle_bn_scale,
    "random": oracle_random,
}
