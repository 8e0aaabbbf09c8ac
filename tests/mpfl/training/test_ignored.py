"""Targets of -100 count nowhere: not in losses, gradients, steps, accuracies or counts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mpfl.config import TrainConfig
from mpfl.data.samples import IGNORED, Samples
from mpfl.network.flat import FlatModel
from mpfl.network.structure import find_structure
from mpfl.scores.gradient import batch_gradients
from mpfl.seeding import torch_generator
from mpfl.training.local import evaluate, train
from mpfl.training.losses import loss_of
from mpfl.training.stochastic_mask import train_scores

CONFIG = TrainConfig(batch_size=4, lr=0.1)


class Watched(nn.Module):
    """A linear layer that is not the library's own perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x)


def network(own: bool) -> FlatModel:
    torch.manual_seed(0)
    return FlatModel(nn.Sequential(nn.Linear(5, 3)) if own else Watched())


def samples(ignored: slice, sequences: bool = False) -> Samples:
    draws = torch.Generator().manual_seed(0)
    shape = (12, 4) if sequences else (12,)
    targets = torch.randint(0, 3, shape, generator=draws)
    targets[..., ignored] = IGNORED
    return Samples(torch.randn((*shape, 5), generator=draws), targets)


@pytest.mark.parametrize("own", [True, False])
def test_evaluation_is_that_of_the_targets_that_count(own: bool) -> None:
    model, some = network(own), samples(slice(0, 7))
    rest = some.subset(torch.arange(7, 12))
    found, wanted = (evaluate(model, part, batch_size=4) for part in (some, rest))
    assert found.samples == wanted.samples == 5
    assert found.accuracy == wanted.accuracy
    assert found.loss == pytest.approx(wanted.loss, rel=1e-6)


def test_positions_of_sequences_weigh_alike() -> None:
    model, some = network(False), samples(slice(1, 3), sequences=True)
    found = evaluate(model, some, batch_size=5)
    with torch.no_grad():
        logits = model.module(some.inputs)
    counted = some.targets != IGNORED
    right = (logits.argmax(-1) == some.targets)[counted]
    assert found.samples == 24
    assert found.accuracy == pytest.approx(float(right.float().mean()))
    assert found.loss == pytest.approx(float(loss_of(logits, some.targets)), rel=1e-5)


def test_nothing_that_counts_is_no_nan() -> None:
    nothing = samples(slice(None))
    found = evaluate(network(True), nothing)
    assert (found.loss, found.accuracy, found.samples) == (0.0, 0.0, 0)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_batches_of_which_nothing_counts_teach_nothing(own: bool, momentum: float) -> None:
    config = TrainConfig(batch_size=1, lr=0.1, momentum=momentum)
    results, models = [], []
    for _ in range(2):
        model, order = network(own), torch_generator(0, "batches")
        results.append(
            train(model, samples(slice(0, 7)), config, lr=0.1, epochs=2, generator=order)
        )
        models.append(model.values.clone())
    assert results[0].steps == 10
    assert math.isfinite(results[0].loss)
    assert torch.isfinite(models[0]).all()
    assert torch.equal(*models)
    untouched = network(own)
    result = train(
        untouched, samples(slice(None)), config, lr=0.1, epochs=1,
        generator=torch_generator(0, "batches"),
    )  # fmt: skip
    assert (result.loss, result.steps) == (0.0, 0)
    assert torch.equal(untouched.values, network(own).values)


def test_both_kinds_of_gradients_agree() -> None:
    trained = []
    for own in (True, False):
        model = network(own)
        train(
            model, samples(slice(0, 5)), CONFIG, lr=0.1, epochs=3,
            generator=torch_generator(0, "batches"),
        )  # fmt: skip
        trained.append(model.values)
    torch.testing.assert_close(*trained)


def test_scores_see_no_ignored_target() -> None:
    model = network(False)
    for grads, _ in batch_gradients(model, samples(slice(None)), 4):
        assert (grads == 0).all()
    for grads, _ in batch_gradients(model, samples(slice(0, 11)), 12):
        assert (grads != 0).any()


def test_probabilities_learn_nothing_from_batches_of_which_nothing_counts() -> None:
    model = network(False)
    structure = find_structure(model.module, "weight")
    w0, theta = model.values.numpy().copy(), torch.full((15,), 0.5).numpy()
    learned, result = train_scores(
        model, samples(slice(None)), CONFIG, w0, structure.prunable(), theta, lr=0.1,
        draws=torch_generator(0, "masks"), order=torch_generator(0, "batches"),
    )  # fmt: skip
    assert (result.loss, result.steps) == (0.0, 0)
    assert learned == pytest.approx(theta)


def test_logits_that_do_not_fit_the_targets_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"shape \[4, 3\] do not fit targets of shape \[4, 1\]"):
        loss_of(torch.zeros(4, 3), torch.zeros(4, 1, dtype=torch.int64))
