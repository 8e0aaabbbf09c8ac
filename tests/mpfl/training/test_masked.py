"""Work under a mask: the smaller network trains to what the masked one does."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import mpfl.training.masked
import mpfl.training.together
from mpfl.config import TrainConfig
from mpfl.data import Samples
from mpfl.mask import Mask
from mpfl.models import build_model
from mpfl.network.flat import FlatModel
from mpfl.network.structure import find_structure
from mpfl.scores.gradient import MovementObserver
from mpfl.training.local import evaluate, train
from mpfl.training.masked import MaskedNetwork, Small, Whole
from tests.networks import generator, inputs_for, random_mask, shape_of

# Both networks on the same memory format: another one alone moves resnet20 by more than 1e-5.
CONFIG = TrainConfig(batch_size=8, momentum=0.9, weight_decay=0.01, clip=1.0, channels_last=False)
LAST = replace(CONFIG, channels_last=True)
CASES = [("resnet20", CONFIG), ("lenet5", CONFIG), ("lenet5", LAST), ("vgg11", LAST),
         ("lstm", CONFIG), ("gru_lm", CONFIG)]  # fmt: skip


def network(name: str, granularity: str = "filter"):
    """A model with statistics away from their start, its structure, and 24 samples."""
    shape = shape_of(name)
    model = FlatModel(build_model(name, 10, shape, generator(1)))
    model.buffers.add_(0.1)
    structure = find_structure(model.module, granularity, shape)
    inputs = inputs_for(shape, 24)
    targets = torch.randint(0, 10, (24,), generator=generator(2))
    every_step = model.module(inputs[:2]).dim() == 3
    samples = Samples(inputs, inputs.roll(-1, dims=1) if every_step else targets)
    return model, structure, samples


def both_ways(name: str, config: TrainConfig = CONFIG, observers=(None, None), **options):
    """Train three steps in the masked whole network, and in a `MaskedNetwork`."""
    results = []
    for observer, cut in zip(observers, (False, True), strict=True):
        model, structure, samples = network(name)
        mask = random_mask(structure, 3, 0.4)
        start = model.snapshot()
        call = {"lr": 0.02, "epochs": 1, "generator": generator(4), "observer": observer}
        call |= options
        if cut:
            masked = MaskedNetwork(model, structure)
            assert isinstance(masked.part(mask), Small)
            result = masked.train(samples, mask, config, **call)
        else:
            keep = torch.from_numpy(structure.parameter_mask(mask).astype(np.float32))
            result = train(model, samples, config, keep=keep, **call)
        assert result.steps == 3
        results.append((model.snapshot(), result.loss))
    return results, structure, mask, start


@pytest.mark.parametrize(("name", "config"), CASES)
def test_training_equals_that_of_the_masked_whole_network(name, config):
    ((masked, loss), (small, small_loss)), structure, mask, start = both_ways(name, config)
    keep, kept = structure.parameter_mask(mask), structure.buffer_mask(mask)
    np.testing.assert_allclose(small[0], masked[0], atol=1e-5, rtol=0)
    np.testing.assert_allclose(small[1][kept], masked[1][kept], atol=1e-5, rtol=1e-5)
    assert small_loss == pytest.approx(loss, abs=1e-5)
    assert np.abs(small[0] - start[0])[keep].max() > 1e-3, "nothing was trained"


@pytest.mark.parametrize("channels_last", [True, False])
def test_what_is_cut_out_is_zero_and_its_statistics_stay(channels_last):
    config = LAST if channels_last else CONFIG
    (_, (small, _)), structure, mask, start = both_ways("resnet20", config)
    keep, kept = structure.parameter_mask(mask), structure.buffer_mask(mask)
    assert 0 < keep.mean() < 0.5
    assert (small[0][~keep] == 0).all()
    np.testing.assert_array_equal(small[1][~kept], start[1][~kept])
    assert (small[1][kept] != start[1][kept]).mean() > 0.99


@pytest.mark.parametrize(("channels", "expected"), [(7, False), (16, True)])
def test_channels_last_is_left_out_where_it_corrupts_memory(monkeypatch, channels, expected):
    used = []

    def watched(model, samples, config, **options):
        used.append(config.channels_last)
        return train(model, samples, config, **options)

    monkeypatch.setattr(mpfl.training.together, "train", watched)
    model, structure, samples = network("resnet20")
    layers = Mask.full(structure.layout).layers()
    layers = {name: np.arange(bits.size) < 31 for name, bits in layers.items()}
    first = structure.layers[0].name
    layers[first] = np.arange(layers[first].size) < channels
    call: dict[str, Any] = {"lr": 0.1, "epochs": 1, "generator": generator()}
    MaskedNetwork(model, structure).train(samples, Mask.from_layers(layers), LAST, **call)
    assert used == [expected]


def test_frozen_statistics_stay_all():
    (_, (small, _)), _, _, start = both_ways("resnet20", freeze_statistics=True)
    np.testing.assert_array_equal(small[1], start[1])


@pytest.mark.parametrize("name", ["resnet20", "lstm"])
def test_observers_see_the_whole_network(name):
    _, structure, _ = network(name)
    observers = MovementObserver(structure), MovementObserver(structure)
    _, _, mask, _ = both_ways(name, observers=observers)
    masked, small = (observer.total.numpy() for observer in observers)
    np.testing.assert_allclose(small, masked, atol=1e-5, rtol=0)
    assert np.abs(small).max() > 1e-3
    assert (small[~structure.parameter_mask(mask)] == 0).all()


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_evaluation_equals_that_of_the_masked_whole_network(batch_statistics):
    model, structure, samples = network("resnet20")
    mask = random_mask(structure, 5, 0.4)
    masked = MaskedNetwork(model, structure)
    masked.apply(mask)
    before = model.snapshot()
    expected = evaluate(model, samples, batch_statistics=batch_statistics)
    got = masked.evaluate(samples, mask, batch_statistics=batch_statistics)
    assert got.loss == pytest.approx(expected.loss, abs=1e-5)
    assert (got.accuracy, got.samples) == (expected.accuracy, expected.samples)
    for vector, old in zip(model.snapshot(), before, strict=True):
        np.testing.assert_array_equal(vector, old)


@pytest.mark.parametrize("granularity", ["weight", "filter"])
def test_applying_a_mask_zeroes_exactly_the_pruned(granularity):
    model, structure, _ = network("lenet5", granularity)
    mask = random_mask(structure, 6, 0.4)
    before = model.values.clone()
    masked = MaskedNetwork(model, structure)
    masked.apply(Mask.full(structure.layout))
    assert torch.equal(model.values, before)
    masked.apply(mask)
    keep = torch.from_numpy(structure.parameter_mask(mask))
    assert torch.equal(model.values, torch.where(keep, before, 0.0))


def test_a_network_is_built_once_per_mask_and_two_are_kept(monkeypatch):
    built = []

    def counted(module, structure, mask):
        built.append(mask)
        return compact(module, structure, mask)

    compact = mpfl.network.compact.compact
    monkeypatch.setattr(mpfl.training.masked, "compact", counted)
    model, structure, _ = network("lenet5")
    masked = MaskedNetwork(model, structure)
    a, b, c = (random_mask(structure, seed, 0.5) for seed in (1, 2, 3))
    for mask in (a, a, b, a, b, a):
        assert masked.part(mask) is masked.part(mask)
    assert built == [a, b]
    for mask in (c, a):  # b was used before a
        masked.part(mask)
    assert built == [a, b, c]
    masked.part(b)
    assert built == [a, b, c, b]


def test_nothing_is_cut_where_nothing_can_be():
    for granularity in ("weight", "kernel"):
        model, structure, _ = network("lenet5", granularity)
        assert isinstance(MaskedNetwork(model, structure).part(random_mask(structure, 1)), Whole)
    model, structure, samples = network("lenet5")
    masked = MaskedNetwork(model, structure)
    assert isinstance(masked.part(Mask.full(structure.layout)), Whole)
    layers = {layer.name: np.ones(layer.units, np.bool_) for layer in structure.layers}
    layers["conv1"][:] = False
    mask = Mask.from_layers(layers)
    assert isinstance(masked.part(mask), Whole)
    masked.train(samples, mask, CONFIG, lr=0.1, epochs=1, generator=generator())
    assert (model.values.numpy()[~structure.parameter_mask(mask)] == 0).all()
