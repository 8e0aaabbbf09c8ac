"""Structure: what is prunable, what is coupled with it, and what it costs."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mpfl.mask import Mask
from mpfl.models import MODELS, build_model
from mpfl.network.cost import macs
from mpfl.network.flat import FlatModel
from mpfl.network.layers import FOLLOW, INPUT, OWN
from mpfl.network.structure import find_structure
from tests.networks import CIFAR, MNIST, TEXT, generator, inputs_for, random_mask, shape_of

GRANULARITIES = ("weight", "kernel", "filter")
NETWORKS = [*MODELS.built_in(), "resnet20(8)", "resnet18(32)"]


class Small(nn.Module):
    """Everything at once: batch normalisation, a residual sum, flatten, linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.inner = nn.Conv2d(4, 5, 3, padding=1, bias=False)
        self.back = nn.Conv2d(5, 4, 1)
        self.pool = nn.MaxPool2d(2)
        self.hidden = nn.Linear(4 * 3 * 3, 6)
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = x + self.back(F.relu(self.inner(x)))
        x = torch.flatten(self.pool(x), 1)
        return self.out(torch.relu(self.hidden(x)))


def test_mask_of_a_small_network_equals_zeroing_module_by_module():
    model = Small()
    structure = find_structure(model, "filter", (2, 6, 6))
    assert [(x.name, x.kind, x.units) for x in structure.layers] == [
        ("stem", "coupled", 4),
        ("inner", "conv", 5),
        ("hidden", "linear", 6),
    ]
    for seed in range(5):
        mask = random_mask(structure, seed)
        bits = mask.layers()
        expected = {n: np.ones(t.shape, bool) for n, t in model.state_dict().items() if t.ndim}
        for u in np.flatnonzero(~bits["stem"]):
            for name in ("stem", "back", "norm"):
                expected[f"{name}.weight"][u] = False
                expected[f"{name}.bias"][u] = False
            expected["norm.running_mean"][u] = False
            expected["norm.running_var"][u] = False
            expected["inner.weight"][:, u] = False
            for pixel in range(9):
                expected["hidden.weight"][:, u * 9 + pixel] = False
        for u in np.flatnonzero(~bits["inner"]):
            expected["inner.weight"][u] = False
            expected["back.weight"][:, u] = False
        for u in np.flatnonzero(~bits["hidden"]):
            expected["hidden.weight"][u] = False
            expected["hidden.bias"][u] = False
            expected["out.weight"][:, u] = False
        flat = np.concatenate([expected[n].ravel() for n, _ in model.named_parameters()])
        np.testing.assert_array_equal(structure.parameter_mask(mask), flat)
        stats = np.concatenate([expected[f"norm.running_{x}"] for x in ("mean", "var")])
        np.testing.assert_array_equal(structure.buffer_mask(mask), stats)


def test_gates_of_recurrent_layers_go_together():
    for name, gates in (("lstm", 4), ("gru", 3)):
        model = build_model(name, 3, TEXT, generator())
        structure = find_structure(model, "filter", TEXT)
        assert [(x.name, x.kind, x.units) for x in structure.layers] == [("recurrent", name, 256)]
        mask = random_mask(structure, 1)
        dead = np.flatnonzero(~mask.bools())
        expected = {n: np.ones(p.shape, bool) for n, p in model.named_parameters()}
        for u in dead:
            for gate in range(gates):
                for leaf in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
                    expected[f"recurrent.{leaf}"][gate * 256 + u] = False
            expected["recurrent.weight_hh_l0"][:, u] = False
            expected["decoder.weight"][:, u] = False
        flat = np.concatenate([e.ravel() for e in expected.values()])
        np.testing.assert_array_equal(structure.parameter_mask(mask), flat)


@pytest.mark.parametrize("name", NETWORKS)
def test_weight_granularity_covers_every_weight_and_nothing_else(name):
    model = build_model(name, 10, shape_of(name), generator())
    structure = find_structure(model, "weight")
    weights = {
        f"{path}.{leaf}": p.numel()
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d | nn.LSTM | nn.GRU)
        for leaf, p in module.named_parameters(recurse=False)
        if "bias" not in leaf
    }
    assert {x.slots[0].parameter: x.units for x in structure.layers} == weights
    mask = random_mask(structure, 2)
    keep = structure.parameter_mask(mask)
    assert keep.sum() == mask.count() + structure.parameters.total - sum(weights.values())
    assert structure.prunable().sum() == sum(weights.values())


def test_weight_layers_are_named_by_their_module():
    names = [
        x.name for x in find_structure(build_model("lstm", 3, TEXT, generator()), "weight").layers
    ]
    assert names == ["recurrent.weight_ih_l0", "recurrent.weight_hh_l0", "decoder"]
    names = [
        x.name
        for x in find_structure(build_model("lenet300", 3, MNIST, generator()), "weight").layers
    ]
    assert names == ["fc1", "fc2", "fc3"]


def test_kernel_granularity_groups_the_kernel_area():
    model = Small()
    structure = find_structure(model, "kernel")
    assert [(x.name, x.units) for x in structure.layers] == [
        ("stem", 8), ("inner", 20), ("back", 20), ("hidden", 216), ("out", 18),
    ]  # fmt: skip
    mask = random_mask(structure, 3)
    keep = structure.parameter_mask(mask)
    bits = mask.layers()
    for name in ("stem", "inner", "back"):
        where, shape = structure.parameters.place(f"{name}.weight")
        got = keep[where].reshape(shape)
        for o in range(shape[0]):
            for i in range(shape[1]):
                assert (got[o, i] == bits[name][o * shape[1] + i]).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_filter_slots_are_complete_and_consistent(name):
    model = build_model(name, 10, shape_of(name), generator())
    structure = find_structure(model, "filter", shape_of(name))
    shapes = dict(model.named_parameters()) | dict(model.named_buffers())
    own, read = set(), set()
    for layer in structure.layers:
        for slot in layer.slots:
            assert shapes[slot.parameter].shape[slot.axis] == layer.units * slot.tile * slot.repeat
            if slot.role == OWN:
                assert slot.parameter not in own
                own.add(slot.parameter)
            if slot.role == INPUT:
                read.add(slot.parameter)
        assert layer.own()
    weights = {x.slots[0].parameter for x in find_structure(model, "weight").layers}
    output = [*weights & {f"{n}.weight" for n in ("fc2", "fc3", "classifier", "fc", "decoder")}]
    last = max(output, key=list(shapes).index)
    assert own == weights - {last}, "all but the output layer own units"
    first = find_structure(model, "weight").layers[0].slots[0].parameter
    assert read >= weights - {first, *(w for w in weights if "weight_ih" in w)}
    norms = {f"{path}.{leaf}" for path, m in model.named_modules()
             if isinstance(m, nn.BatchNorm2d | nn.GroupNorm)
             for leaf in ("weight", "bias", "running_mean", "running_var")
             if hasattr(m, leaf)}  # fmt: skip
    followed = {s.parameter for x in structure.layers for s in x.slots if s.role == FOLLOW}
    assert norms <= followed


def test_residual_stages_of_resnet18_are_coupled():
    model = build_model("resnet18", 10, CIFAR, generator())
    structure = find_structure(model, "filter", CIFAR)
    coupled = {
        x.name: {s.parameter for s in x.own()} for x in structure.layers if x.kind == "coupled"
    }
    assert coupled == {
        "conv1": {"conv1.weight", "layer1.0.conv2.weight", "layer1.1.conv2.weight"},
        **{
            f"layer{i}.0.conv2": {
                f"layer{i}.0.conv2.weight",
                f"layer{i}.0.downsample.0.weight",
                f"layer{i}.1.conv2.weight",
            }
            for i in (2, 3, 4)
        },
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_a_pruned_unit_outputs_exactly_zero(name):
    model = build_model(name, 10, shape_of(name), generator())
    shape = shape_of(name)
    structure = find_structure(model, "filter", shape)
    flat = FlatModel(model)
    rng = torch.Generator().manual_seed(3)
    flat.buffers.uniform_(0.5, 2.0, generator=rng)
    mask = random_mask(structure, 4)
    flat.values.mul_(torch.from_numpy(structure.parameter_mask(mask)))
    flat.buffers.mul_(torch.from_numpy(structure.buffer_mask(mask)))
    seen: dict[str, torch.Tensor] = {}
    for path, module in model.named_modules():
        if isinstance(
            module, nn.Conv2d | nn.Linear | nn.BatchNorm2d | nn.GroupNorm | nn.LSTM | nn.GRU
        ):
            module.register_forward_hook(lambda m, i, o, path=path: seen.__setitem__(path, o))
    inputs = inputs_for(shape, 2)
    for training in (False, True):
        model.train(training)
        with torch.no_grad():
            model(inputs)
        for layer in structure.layers:
            dead = torch.from_numpy(~mask.layers()[layer.name])
            for slot in layer.slots:
                path, _, leaf = slot.parameter.rpartition(".")
                if slot.role == INPUT or leaf.startswith(("running", "bias_")):
                    continue
                output = seen[path][0] if isinstance(seen[path], tuple) else seen[path]
                axis = 1 if output.ndim == 4 else output.ndim - 1
                picked = (
                    output[:, dead.repeat_interleave(slot.repeat)]
                    if axis == 1
                    else (output.index_select(axis, dead.nonzero().ravel()))
                )
                assert (picked == 0).all(), slot.parameter


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_densities_count_weights_and_all_parameters(granularity):
    model = Small()
    structure = find_structure(model, granularity, (2, 6, 6))
    assert structure.densities(Mask.full(structure.layout)) == (1.0, 1.0)
    mask = random_mask(structure, 6)
    keep = structure.parameter_mask(mask)
    own = {s.parameter for x in structure.layers for s in x.own()}
    kept = total = 0
    for name in own:
        where, _ = structure.parameters.place(name)
        kept, total = kept + keep[where].sum(), total + keep[where].size
    assert structure.densities(mask) == (pytest.approx(kept / total), pytest.approx(keep.mean()))


def test_buffers_are_floating_running_statistics_only():
    structure = find_structure(build_model("resnet20", 10, CIFAR, generator()), "weight")
    assert structure.buffers.total == 2 * 7 * (16 + 32 + 64)
    assert all(n.endswith(("running_mean", "running_var")) for n in structure.buffers.names)


def test_tracing_changes_neither_model_nor_generator():
    model = Small().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    find_structure(model, "filter", (2, 6, 6))
    macs(model, (2, 6, 6))
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


class Wrap(nn.Module):
    def __init__(self, function, **modules) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def conv(inputs: int = 2, outputs: int = 2, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, **options)


UNTRACEABLE = {
    "grouped convolution": Wrap(lambda m, x: m.b(m.a(x)), a=conv(2, 4), b=conv(4, 4, groups=2)),
    "is a InstanceNorm2d": Wrap(lambda m, x: m.b(m.a(x)), a=conv(), b=nn.InstanceNorm2d(2)),
    "groups without scales": Wrap(
        lambda m, x: m.b(m.a(x)), a=conv(), b=nn.GroupNorm(2, 2, affine=False)
    ),
    "groups that overlap": Wrap(
        lambda m, x: m.c(m.b(m.a(x))), a=conv(2, 12), b=nn.GroupNorm(2, 12), c=nn.GroupNorm(3, 12)
    ),
    "more than once": Wrap(lambda m, x: m.a(m.a(x)), a=conv()),
    "calls cat": Wrap(lambda m, x: torch.cat([m.a(x)], 1), a=conv()),
    "calls mul": Wrap(lambda m, x: torch.mul(m.a(x), m.b(x)), a=conv(), b=conv()),
    "adds something": Wrap(lambda m, x: m.a(x) + 1.0, a=conv()),
    "different layouts": Wrap(lambda m, x: m.a(x) + m.b(x), a=conv(), b=conv(2, 1)),
    "cannot trace": Wrap(lambda m, x: m.a(x) if x.sum() > 0 else x, a=conv()),
    "does not accept inputs": Wrap(lambda m, x: m.a(x), a=conv(3, 2)),
    "over the units": Wrap(lambda m, x: m.a(x).mean(1), a=conv()),
    "single units": Wrap(lambda m, x: m.a(x)[:, 0], a=conv()),
    "other axes": Wrap(lambda m, x: torch.flatten(m.a(x)), a=conv()),
    "mixes another axis": Wrap(lambda m, x: m.b(m.a(x)), a=conv(), b=nn.Linear(6, 6)),
    "another axis than that": Wrap(lambda m, x: m.b(m.a(x)), a=nn.Linear(6, 6), b=nn.Linear(6, 6)),
    "no module owns": Wrap(lambda m, x: m.a(x) + m.a.weight[0], a=conv()),
    "other than numbers": Wrap(lambda m, x: m.a(x)[..., 0], a=conv()),
    "nothing prunable": Wrap(lambda m, x: m.a(x), a=conv()),
    "single-layer": Wrap(lambda m, x: m.a(x[:, :, 0])[0], a=nn.LSTM(6, 3, num_layers=2)),
}


@pytest.mark.parametrize("words", UNTRACEABLE)
def test_what_cannot_be_coupled_is_said_in_one_line(words, capfd):
    with pytest.raises(ValueError, match=words) as caught:
        find_structure(UNTRACEABLE[words], "filter", (2, 6, 6))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("words", "model"),
    [
        ("initial state", Wrap(lambda m, x: m.a(m.e(x), None)[0], a=nn.GRU(4, 6))),
        ("normalises another axis", Wrap(lambda m, x: m.a(m.e(x)), a=nn.BatchNorm1d(7))),
        ("averages over the units", Wrap(lambda m, x: m.a(m.e(x)).mean(), a=nn.Linear(4, 3))),
    ],
)
def test_what_cannot_be_coupled_after_tokens_is_said(words, model):
    model.e = nn.Embedding(9, 4)
    with pytest.raises(ValueError, match=words):
        find_structure(model, "filter", (7,))


def test_units_before_a_sigmoid_are_left_alone():
    model = nn.Sequential(
        nn.Linear(4, 5), nn.Sigmoid(), nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2)
    )
    assert [x.name for x in find_structure(model, "filter", (4,)).layers] == ["2"]


def test_functions_are_followed_like_modules():
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(m.a(x)), 2).mean((2, 3), keepdim=True)
        x = m.c(torch.sigmoid(m.b(x.flatten(1))))
        return m.d(x.relu())

    parts = {"a": conv(2, 3), "b": nn.Linear(3, 4), "c": nn.Linear(4, 5), "d": nn.Linear(5, 2)}
    model = Wrap(forward, **parts)
    layers = find_structure(model, "filter", (2, 6, 6)).layers
    assert [(x.name, x.units) for x in layers] == [("a", 3), ("c", 5)]


def test_branches_from_one_source_are_one_group_however_they_are_added():
    model = Wrap(
        lambda m, x: m.out(((y := m.a(x)) + m.b(y)) + (m.c(y) + y)),
        a=conv(2, 4), b=conv(4, 4), c=conv(4, 4), out=conv(4, 2),
    )  # fmt: skip
    (layer,) = find_structure(model, "filter", (2, 6, 6)).layers
    assert (layer.name, layer.kind, layer.units) == ("a", "coupled", 4)
    assert [s.parameter for s in layer.own()] == ["a.weight", "b.weight", "c.weight"]


def test_channels_that_are_normalised_together_are_one_unit() -> None:
    model = Wrap(
        lambda m, x: m.out(torch.flatten(m.relu(m.norm(m.a(x)) + m.b(x)), 1)),
        a=conv(2, 8), norm=nn.GroupNorm(4, 8), b=conv(2, 8), relu=nn.ReLU(),
        out=nn.Linear(8 * 36, 2),
    )  # fmt: skip
    structure = find_structure(model, "filter", (2, 6, 6))
    (layer,) = structure.layers
    assert (layer.name, layer.kind, layer.units) == ("a", "coupled", 4)
    assert {(s.parameter, s.role, s.repeat) for s in layer.slots} == {
        ("a.weight", OWN, 2), ("a.bias", FOLLOW, 2), ("b.weight", OWN, 2), ("b.bias", FOLLOW, 2),
        ("norm.weight", FOLLOW, 2), ("norm.bias", FOLLOW, 2), ("out.weight", INPUT, 72),
    }  # fmt: skip
    values = np.zeros(structure.parameters.total, np.float32)
    where, _ = structure.parameters.place("a.weight")
    values[where] = np.arange(16) % 2 + 1  # each channel 1, 2; each unit two channels
    assert structure.unit_values(values)[0] == pytest.approx([np.sqrt(10)] * 4)


def test_units_added_to_the_input_are_left_alone():
    model = Wrap(lambda m, x: m.b(x + m.a(x)), a=nn.Linear(4, 4), b=nn.Linear(4, 2))
    with pytest.raises(ValueError, match="nothing prunable"):
        find_structure(model, "filter", (4,))


def test_stacked_recurrent_layers_and_a_last_step_are_followed():
    model = Wrap(
        lambda m, x: m.out(m.two(m.one(m.embed(x))[0])[0][:, -1]),
        embed=nn.Embedding(9, 4),
        one=nn.LSTM(4, 5, batch_first=True),
        two=nn.GRU(5, 6, batch_first=True),
        out=nn.Linear(6, 2),
    )
    layers = find_structure(model, "filter", (7,)).layers
    assert [(x.name, x.units) for x in layers] == [("one", 5), ("two", 6)]
    assert ("two.weight_ih_l0", 1) in [(s.parameter, s.axis) for s in layers[0].slots]


def test_bad_requests_are_named():
    with pytest.raises(ValueError, match="unknown granularity 'filters'; did you mean 'filter'"):
        find_structure(Small(), "filters")
    with pytest.raises(ValueError, match="needs the shape of one input"):
        find_structure(Small(), "filter")
    with pytest.raises(ValueError, match="nothing prunable"):
        find_structure(nn.Sequential(nn.BatchNorm2d(3)), "weight")


def test_macs_of_known_networks():
    assert macs(build_model("lenet300", 10, MNIST, generator()), MNIST) == 266_200
    caffe = 20 * 25 * 24 * 24 + 50 * 20 * 25 * 8 * 8 + 800 * 500 + 500 * 10
    assert macs(build_model("lenet5_caffe", 10, MNIST, generator()), MNIST) == caffe
    # torchvision states 1.814 and 3.664 billion for its models at 224x224.
    big = (3, 224, 224)
    assert macs(build_model("resnet18", 1000, big, generator()), big) / 1e9 == pytest.approx(
        1.814, abs=1e-3
    )
    text = macs(build_model("gru_lm", 50, TEXT, generator()), TEXT)
    assert text == 12 * (3 * 256 * (128 + 256) + 256 * 50)


def test_macs_under_a_mask_count_surviving_weights():
    model = Small()
    structure = find_structure(model, "weight")
    mask = random_mask(structure, 7)
    counts = {layer.name: n for layer, n in zip(structure.layers, mask.counts(), strict=True)}
    pixels = 36 * (counts["stem"] + counts["inner"] + counts["back"])
    expected = pixels + counts["hidden"] + counts["out"]
    assert macs(model, (2, 6, 6), structure.parameter_mask(mask)) == expected
    with pytest.raises(ValueError, match="expected bool"):
        macs(model, (2, 6, 6), np.ones(3, bool))
