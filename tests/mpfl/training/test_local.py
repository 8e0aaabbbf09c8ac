"""Local training: what becomes of the last batch of an epoch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mpfl.config import TrainConfig
from mpfl.data.samples import Samples
from mpfl.network.flat import FlatModel
from mpfl.seeding import torch_generator
from mpfl.training.local import TrainResult, batches, batches_of, evaluate, train
from mpfl.training.stochastic_mask import train_scores


def samples(count: int) -> Samples:
    inputs = torch.randn(count, 3, 2, 2, generator=torch_generator(1, "inputs"))
    return Samples(inputs, torch.arange(count) % 2)


def network(normalised: bool) -> FlatModel:
    torch.manual_seed(2)
    middle = nn.BatchNorm1d(5) if normalised else nn.ReLU()
    return FlatModel(nn.Sequential(nn.Flatten(), nn.Linear(12, 5), middle, nn.Linear(5, 2)))


def trained(model: FlatModel, data: Samples, size: int = 4, frozen: bool = False) -> TrainResult:
    return train(
        model,
        data,
        TrainConfig(batch_size=size, lr=0.05),
        lr=0.05,
        epochs=3,
        generator=torch_generator(3, "batches"),
        freeze_statistics=frozen,
    )


@pytest.mark.parametrize(
    ("count", "normalised", "frozen", "steps"),
    [
        (9, True, False, 2),  # 4 + 4 + 1: one sample has no statistics
        (10, True, False, 3),
        (1, True, False, 0),
        (9, True, True, 3),
        (9, False, False, 3),
        (1, False, False, 1),
    ],
)
def test_batch_normalisation_never_sees_a_single_sample(
    count: int, normalised: bool, frozen: bool, steps: int
) -> None:
    model = network(normalised)
    before = model.values.clone()
    result = trained(model, samples(count), frozen=frozen)
    assert result.steps == 3 * steps
    assert np.isfinite(result.loss)
    assert torch.equal(before, model.values) == (steps == 0)


def test_batches_of_one_are_trained_on_by_who_asks_for_them() -> None:
    torch.manual_seed(2)  # PyTorch takes them as long as there is more than one pixel
    pixels = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))
    assert trained(FlatModel(pixels), samples(5), size=1).steps == 3 * 5
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        trained(network(True), samples(5), size=1)


def test_scores_of_stochastic_masks_never_see_one_either() -> None:
    model = network(True)
    size = model.values.numel()
    _, result = train_scores(
        model,
        samples(9),
        TrainConfig(batch_size=4, lr=0.05),
        model.values.numpy().copy(),
        np.ones(size, np.bool_),
        np.full(size, 0.5, np.float32),
        lr=0.1,
        draws=torch_generator(3, "draws"),
        order=torch_generator(3, "batches"),
    )
    assert result.steps == 2


@pytest.mark.parametrize("count", [9, 2_049])  # within what is gathered at once, and beyond
@pytest.mark.parametrize("least", [1, 2])
def test_epochs_gather_the_batches_that_are_drawn(count: int, least: int) -> None:
    data = samples(count)
    order = torch_generator(5, "order")
    drawn = [index for _ in range(2) for index in batches(count, 4, order, least)]
    gathered = list(batches_of(data, 4, 2, torch_generator(5, "order"), least))
    assert [len(index) for index in drawn] == ([4] * (count // 4) + [1] * (least == 1)) * 2
    assert len(gathered) == len(drawn)
    for index, (inputs, targets) in zip(drawn, gathered, strict=True):
        assert torch.equal(inputs, data.inputs[index])
        assert torch.equal(targets, data.targets[index])


@pytest.mark.parametrize("count", [1, 8, 9, 10])
def test_batch_statistics_need_no_second_sample_and_lose_none(count: int) -> None:
    model, data = network(True), samples(count)
    found = evaluate(model, data, batch_size=4, batch_statistics=True)
    model.module.train(count > 1)
    ends = {1: [1], 8: [4, 8], 9: [4, 9], 10: [4, 8, 10]}[count]
    with torch.no_grad():
        parts = zip([0, *ends], ends, strict=False)
        logits = torch.cat([model.module(data.inputs[a:b]) for a, b in parts])
    assert found.accuracy == float((logits.argmax(1) == data.targets).double().mean())
    assert found.samples == count


def test_batch_statistics_leave_dropout_out() -> None:
    torch.manual_seed(2)
    layers = nn.Flatten(), nn.Linear(12, 50), nn.BatchNorm1d(50), nn.Dropout(0.9), nn.Linear(50, 2)
    model, data = FlatModel(nn.Sequential(*layers)), samples(40)
    trained_with_it = nn.Sequential(*layers[:3], layers[4]).train()
    with torch.no_grad():
        expected = nn.functional.cross_entropy(trained_with_it(data.inputs), data.targets)
    found = evaluate(model, data, batch_statistics=True)
    assert found.loss == pytest.approx(float(expected), rel=1e-6)
