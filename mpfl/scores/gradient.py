"""Scores from gradients: taylor, fisher and movement."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpfl.data.samples import Samples
from mpfl.errors import InputError
from mpfl.network.flat import FlatModel
from mpfl.network.layers import Structure, sum_over_units
from mpfl.scores.base import ScoreInputs, UnitScores, in_order
from mpfl.training.losses import loss_of


def batch_gradients(
    model: FlatModel, samples: Samples, batch_size: int
) -> Iterator[tuple[Tensor, int]]:
    """Yield, batch by batch, the gradient float32[P] of the mean loss and the batch's size.

    The network is in evaluation mode: dropout is off, normalisation uses its running statistics
    and leaves them alone. The tensor is overwritten by the next batch.
    """
    model.module.eval()
    for index in in_order(len(samples), batch_size):
        inputs, targets = samples.batch(index)
        model.grads.zero_()
        loss = loss_of(model.module(inputs).float(), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        yield model.grads, len(index)


def taylor(inputs: ScoreInputs) -> UnitScores:
    """|w · ∂L/∂w|, averaged over local batches; for larger units the products are summed first.

    Lee et al. 2019 (SNIP), arXiv 1810.02340; Molchanov et al. 2019, arXiv 1906.10771.
    """
    layers, tensors = inputs.structure.layers, inputs.structure.parameters
    totals = [np.zeros(layer.units, np.float64) for layer in layers]
    values, samples = inputs.model.values, inputs.scoring_samples()
    for grads, count in batch_gradients(inputs.model, samples, inputs.batch_size):
        products = (values * grads).numpy()
        for layer, total in zip(layers, totals, strict=True):
            total += count * np.abs(sum_over_units(layer, tensors, products))
    return [(total / len(samples)).astype(np.float32) for total in totals]


def fisher(inputs: ScoreInputs) -> UnitScores:
    """w² · E[(∂L/∂w)²], the expectation over single samples; L2 norm over larger units.

    Theis et al. 2018, arXiv 1801.05787, eq. 5. One backward pass per sample: the squared
    gradient of a batch would be that of its mean.
    """
    squares = torch.zeros_like(inputs.model.values)
    samples = inputs.scoring_samples()
    for grads, _ in batch_gradients(inputs.model, samples, 1):
        squares.addcmul_(grads, grads)
    scores = squares.double() / len(samples) * inputs.model.values.double().square()
    return norms_over_units(inputs.structure, scores.numpy())


class MovementObserver:
    """Sums −w·∂L/∂w over the steps of local training, float64[P]."""

    def __init__(self, structure: Structure) -> None:
        self.total = torch.zeros(structure.parameters.total, dtype=torch.float64)

    def __call__(self, values: Tensor, grads: Tensor, lr: float) -> None:
        """See values and gradients (float32[P]) before a step."""
        self.total.sub_(values * grads)


def movement(inputs: ScoreInputs) -> UnitScores:
    """−Σ w·∂L/∂w over the steps of local training; summed over larger units.

    Sanh et al. 2020, arXiv 2005.07683, eq. 3. The score is signed: positive where weights moved
    away from zero. A norm would forget the sign, so that a unit's score is the sum.
    """
    if not isinstance(inputs.observed, MovementObserver):
        raise InputError("score 'movement' has to watch local training; it was given no observer")
    layers, tensors = inputs.structure.layers, inputs.structure.parameters
    return [sum_over_units(layer, tensors, inputs.observed.total.numpy()) for layer in layers]


def norms_over_units(structure: Structure, vector: NDArray[np.float64]) -> UnitScores:
    """Return each unit's L2 norm of its own entries in vector[P], safe from underflow."""
    largest = float(np.abs(vector).max())
    if largest == 0.0:
        return [np.zeros(layer.units, np.float32) for layer in structure.layers]
    squares = np.square(vector / largest)
    return [
        np.float32(largest) * np.sqrt(sum_over_units(layer, structure.parameters, squares))
        for layer in structure.layers
    ]
