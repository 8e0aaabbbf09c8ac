"""Compact: a smaller network with the outputs of the masked one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mpfl.mask import Mask
from mpfl.models import MODELS, build_model
from mpfl.network.compact import compact
from mpfl.network.cost import macs
from mpfl.network.flat import FlatModel, tensors_of
from mpfl.network.layers import Layer, Slot, Structure
from mpfl.network.structure import find_structure
from tests.networks import CIFAR, MNIST, generator, inputs_for, random_mask, shape_of


def lived_in(name: str, seed: int):
    """Return a flat model whose every number, statistics included, is away from its start."""
    shape = shape_of(name)
    rng = generator(seed)
    flat = FlatModel(build_model(name, 10, shape, rng))
    structure = find_structure(flat.module, "filter", shape)
    for module in flat.module.modules():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            with torch.no_grad():
                module.weight.uniform_(-1.0, 1.5, generator=rng)
                module.bias.uniform_(-0.5, 0.5, generator=rng)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5, generator=rng)
            module.running_var.uniform_(0.5, 2.0, generator=rng)
    if name == "vgg11_plain":
        flat.values.mul_(1.6)  # or signals would fade where units are gone
    return flat, structure, inputs_for(shape, 3, seed)


def zero_pruned(flat: FlatModel, structure, mask: Mask) -> None:
    flat.values.mul_(torch.from_numpy(structure.parameter_mask(mask)))
    flat.buffers.mul_(torch.from_numpy(structure.buffer_mask(mask)))


@pytest.mark.parametrize("name", [*MODELS.built_in(), "resnet20(8)", "resnet18(32)"])
def test_outputs_and_flat_vectors_equal_the_masked_network(name):
    flat, structure, inputs = lived_in(name, seed=1)
    mask = random_mask(structure, 2, 0.4)
    before, stats = flat.snapshot()
    small = compact(flat.module, structure, mask).eval()
    np.testing.assert_array_equal(flat.values.numpy(), before)
    zero_pruned(flat, structure, mask)
    with torch.no_grad():
        expected = flat.module.eval()(inputs)
        got = small(inputs)
    assert float(expected.std()) > 1e-3, "a constant output would hide differences"
    assert float((got - expected).abs().max()) <= 1e-5

    values, buffers = FlatModel(small).snapshot()
    np.testing.assert_array_equal(values, before[structure.parameter_mask(mask)])
    np.testing.assert_array_equal(buffers, stats[structure.buffer_mask(mask)])

    again = find_structure(small, "filter", shape_of(name))
    assert again.layout.names == structure.layout.names
    assert list(again.layout.units) == mask.counts()
    keep = structure.parameter_mask(mask)
    assert macs(small, shape_of(name)) == macs(flat.module, shape_of(name), keep)


@pytest.mark.parametrize("name", ["lenet5", "vgg11", "resnet20", "resnet20(4)", "lstm_lm", "gru"])
def test_training_the_small_network_equals_masked_training(name):
    flat, structure, inputs = lived_in(name, seed=3)
    mask = random_mask(structure, 4, 0.5)
    keep = structure.parameter_mask(mask)
    small = FlatModel(compact(flat.module, structure, mask))
    zero_pruned(flat, structure, mask)
    for model, kept in ((flat, keep), (small, slice(None))):
        model.module.train()
        for _ in range(2):
            model.grads.zero_()
            model.module(inputs).square().mean().backward()
            step = torch.zeros_like(model.values)
            step[kept] = model.grads[kept]
            model.values.sub_(0.01 * step)
    np.testing.assert_allclose(small.values.numpy(), flat.values.numpy()[keep], atol=2e-5)
    statistics = flat.buffers.numpy()[structure.buffer_mask(mask)]
    np.testing.assert_allclose(small.buffers.numpy(), statistics, atol=1e-4)


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.floats(0.01, 1.0), st.sampled_from(["lenet5", "lenet300"]))
def test_any_mask_of_a_small_network(seed, density, name):
    flat, structure, inputs = lived_in(name, seed=seed % 7)
    mask = random_mask(structure, seed, density)
    small = compact(flat.module, structure, mask).eval()
    zero_pruned(flat, structure, mask)
    with torch.no_grad():
        difference = small(inputs) - flat.module.eval()(inputs)
    assert float(difference.abs().max()) <= 1e-5


@pytest.mark.parametrize("name", ["lenet5_caffe", "resnet20", "lstm"])
def test_one_unit_per_layer_and_a_full_mask_both_work(name):
    flat, structure, inputs = lived_in(name, seed=5)
    with torch.no_grad():
        expected = flat.module.eval()(inputs)
        same = compact(flat.module, structure, Mask.full(structure.layout)).eval()(inputs)
    assert torch.equal(same, expected)
    single = random_mask(structure, 6, 0.0)
    assert set(single.counts()) == {1}
    small = compact(flat.module, structure, single).eval()
    zero_pruned(flat, structure, single)
    with torch.no_grad():
        torch.testing.assert_close(small(inputs), flat.module(inputs), atol=1e-5, rtol=0)


def test_masks_compose():
    flat, structure, inputs = lived_in("resnet20", seed=7)
    first = random_mask(structure, 8, 0.7)
    small = compact(flat.module, structure, first)
    inner = find_structure(small, "filter", CIFAR)
    second = random_mask(inner, 9, 0.5)
    both = first.bools()
    both[both] = second.bools()
    direct = compact(flat.module, structure, Mask.from_bools(structure.layout, both))
    twice = compact(small, inner, second)
    assert all(
        torch.equal(a, b) for a, b in zip(direct.parameters(), twice.parameters(), strict=True)
    )
    with torch.no_grad():
        assert torch.equal(direct.eval()(inputs), twice.eval()(inputs))


def test_stated_sizes_are_those_of_the_tensors():
    flat, structure, _ = lived_in("resnet20", seed=1)
    small = compact(flat.module, structure, random_mask(structure, 1, 0.4))
    for module in small.modules():
        if isinstance(module, nn.Conv2d):
            assert (module.out_channels, module.in_channels) == tuple(module.weight.shape[:2])
        elif isinstance(module, nn.Linear):
            assert (module.out_features, module.in_features) == tuple(module.weight.shape)
        elif isinstance(module, nn.BatchNorm2d):
            assert module.num_features == len(module.weight) == len(module.running_var)
    flat, structure, _ = lived_in("gru", seed=1)
    mask = random_mask(structure, 1, 0.4)
    assert compact(flat.module, structure, mask).recurrent.hidden_size == mask.count()


def test_the_copy_shares_nothing_with_the_original():
    flat, structure, _ = lived_in("lenet5", seed=1)
    before = flat.values.clone()
    small = compact(flat.module, structure, Mask.full(structure.layout))
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.zero_()
    assert torch.equal(flat.values, before)


def test_what_cannot_be_cut_is_said():
    model = build_model("lenet5", 10, MNIST, generator())
    structure = find_structure(model, "filter", MNIST)
    with pytest.raises(ValueError, match="'conv1' keeps no unit"):
        compact(model, structure, Mask.empty(structure.layout))
    for granularity in ("weight", "kernel"):
        fine = find_structure(model, granularity)
        with pytest.raises(ValueError, match="only whole units"):
            compact(model, fine, Mask.full(fine.layout))
        with pytest.raises(ValueError, match="not those of the structure"):
            compact(model, structure, Mask.full(fine.layout))


def test_two_layers_that_decide_about_one_axis_must_both_keep():
    model = nn.Linear(1, 3)
    slots = {name: (Slot("weight", 0), Slot("bias", 0, role="follow")) for name in "ab"}
    layers = tuple(Layer(name, "linear", 3, both) for name, both in slots.items())
    structure = Structure(layers, *tensors_of(model))
    keep = {"a": np.array([True, True, False]), "b": np.array([False, True, True])}
    small = compact(model, structure, Mask.from_layers(keep))
    for name, values in model.named_parameters():
        assert torch.equal(small.get_parameter(name), values[1:2])
