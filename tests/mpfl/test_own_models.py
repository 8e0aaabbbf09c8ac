"""Builders of a researcher's own: what they give their tensors is what every party gets."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
import torch
from torch import nn

from mpfl.errors import InputError
from mpfl.models import Shapes
from mpfl.models.own import build_own
from mpfl.network.cost import macs
from mpfl.network.flat import FlatModel, aliases_of
from mpfl.network.structure import find_structure
from mpfl.seeding import global_picture
from tests.networks import generator

SHAPES = Shapes(4, (1, 5, 5), 256)


def linear(**options: bool) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(25, 8, **options), nn.ReLU(), nn.Linear(8, 4))


def built(build, seed: int = 1) -> nn.Module:
    return build_own(build, SHAPES, generator(seed))


def with_value(value: float) -> nn.Module:
    network = linear()
    nn.init.constant_(network[1].bias, value)  # type: ignore[arg-type]
    return network


def test_values_of_constructors_stay() -> None:
    class Own(nn.Module):
        def __init__(self, shapes: Shapes) -> None:
            super().__init__()
            self.scale = torch.tensor(2.0)
            self.slope = nn.Parameter(torch.full((3,), 0.25))
            self.embedding = nn.Embedding(5, 3, padding_idx=0)
            self.last = nn.Linear(3, shapes.classes)
            nn.init.zeros_(self.last.weight)
            self.norm = nn.GroupNorm(1, 3)
            assert float(self.last.weight.detach().sum()) == 0

    network = built(Own)
    assert network.scale == 2
    assert network.scale.device.type == "cpu"
    assert (network.slope == 0.25).all()
    assert (network.embedding.weight[0] == 0).all()  # type: ignore[index]
    assert (network.embedding.weight[1:] != 0).all()  # type: ignore[index]
    assert (network.last.weight == 0).all()
    assert (network.norm.weight == 1).all()


def test_draws_of_constructors_follow_from_the_seed_and_nothing_else() -> None:
    def build(shapes: Shapes) -> nn.Module:
        return with_value(float(np.random.rand()) + random.random())  # noqa: NPY002

    before = global_picture()
    one, again, other = built(build), built(build), built(build, 2)
    assert global_picture() == before
    for key, value in one.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
        assert not torch.equal(value, other.state_dict()[key])


@pytest.mark.parametrize(
    "draw",
    [
        lambda: time.perf_counter() * 1e3 % 1,
        lambda: np.random.default_rng().random(),
        random.SystemRandom().random,
    ],
)
def test_a_builder_that_is_no_function_of_the_seed_is_refused(draw) -> None:
    with pytest.raises(InputError, match=r"no function of the seed.*'1.bias' differs"):
        built(lambda shapes: with_value(draw()))


def test_a_network_handed_out_twice_is_copied() -> None:
    common = linear()
    first = built(lambda shapes: common)
    with torch.no_grad():
        first[1].weight.zero_()  # type: ignore[index]
    assert (common[1].weight != 0).any()


def test_lazy_modules_get_their_sizes() -> None:
    network = built(lambda shapes: nn.Sequential(nn.Flatten(), nn.LazyLinear(4)))
    assert network[1].weight.shape == (4, 25)  # type: ignore[index]


def sharing(shapes: Shapes) -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(25, 25), nn.Linear(25, 25), nn.Linear(25, 4))
    network[2].weight = nn.Parameter(network[1].weight.data.t())
    return network


def expanded(shapes: Shapes) -> nn.Module:
    network = linear()
    network[1].bias = nn.Parameter(torch.zeros(1).expand(8))
    return network


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda shapes: linear, "returns function"),
        (lambda shapes: linear().half(), "'1.weight' is float16"),
        (lambda shapes: linear().double(), "'1.weight' is float64"),
        (lambda shapes: linear(dtype=torch.complex64), "'1.weight' is complex64"),  # type: ignore[arg-type]
        (lambda shapes: linear(device="meta"), "'1.weight' is a torch.strided tensor on meta"),  # type: ignore[arg-type]
        (lambda shapes: with_value(float("nan")), "'1.bias' starts with a number"),
        (sharing, "'1.weight' and '2.weight' share memory"),
        (expanded, "elements of parameter '1.bias' share memory"),
    ],
)
def test_networks_that_cannot_be_trained_are_refused_by_name(build, said: str) -> None:
    with pytest.raises(InputError, match=said):
        built(build)


def three_ways() -> nn.Module:
    network = nn.Sequential(nn.Flatten(), *(nn.Linear(25, 25) for _ in range(3)), nn.Linear(25, 4))
    network[2].weight = network[3].weight = network[1].weight
    return network


def test_a_tied_tensor_is_one_wherever_it_is_counted() -> None:
    network = three_ways()
    structure = find_structure(network, "weight")
    assert aliases_of(network) == {"2.weight": "1.weight", "3.weight": "1.weight"}
    assert [layer.name for layer in structure.layers] == ["1", "4"]
    assert structure.parameters.total == 625 + 3 * 25 + 104
    assert macs(network, (25,)) == 3 * 625 + 100
    keep = np.zeros(structure.parameters.total, np.bool_)
    keep[:10] = True  # of the tied weights
    assert macs(network, (25,), keep) == 30
    model = FlatModel(network)
    named = structure.named(model.read_model())
    assert named.keys() == network.state_dict().keys()
    assert named["3.weight"] is named["1.weight"]
    model.values.add_(1)
    assert network[3].weight.data_ptr() == network[1].weight.data_ptr() == model.values.data_ptr()  # type: ignore[index]


def test_tied_float_buffers_stay_one() -> None:
    network = three_ways()
    network[1].register_buffer("table", torch.arange(3.0))  # type: ignore[index]
    network[2].register_buffer("table", network[1].table)  # type: ignore[index]
    model = FlatModel(network)
    model.buffers.add_(1)
    assert torch.equal(network[2].table, torch.arange(3.0) + 1)  # type: ignore[index]


@pytest.mark.parametrize("decoder_first", [False, True])
def test_what_is_tied_to_an_embedding_is_not_prunable(decoder_first: bool) -> None:
    parts = nn.ModuleDict({"embedding": nn.Embedding(6, 4), "decoder": nn.Linear(4, 6)})
    parts["decoder"].weight = parts["embedding"].weight
    names = ["decoder", "embedding"] if decoder_first else ["embedding", "decoder"]
    network = nn.ModuleDict({name: parts[name] for name in names})
    network["other"] = nn.Linear(4, 4)
    layers = find_structure(network, "weight").layers
    assert [layer.name for layer in layers] == ["other"]


def test_frozen_weights_own_no_unit_and_do_not_travel() -> None:
    network = linear()
    network[1].requires_grad_(False)
    structure = find_structure(network, "weight")
    assert [layer.name for layer in structure.layers] == ["3"]
    assert structure.moving_parameters.sum() == 8 * 4 + 4
    with pytest.raises(InputError, match="nothing prunable"):
        find_structure(linear().requires_grad_(False), "weight")


def hooked() -> nn.Module:
    network = linear()
    network[1].register_forward_hook(lambda module, given, outputs: outputs)
    return network


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (three_ways(), "is tied to another layer"),
        (hooked(), "has hooks"),
        (nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(25, 8)),
                       nn.Linear(8, 4)), "computes its weights"),
    ],
)  # fmt: skip
def test_filters_of_tied_hooked_and_computed_layers_are_refused(network, said: str) -> None:
    with pytest.raises(InputError, match=said):
        find_structure(network, "filter", (1, 5, 5))


def test_filters_of_frozen_layers_are_kept() -> None:
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(25, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4)
    )
    network[1].requires_grad_(False)
    assert [layer.name for layer in find_structure(network, "filter", (1, 5, 5)).layers] == ["3"]
