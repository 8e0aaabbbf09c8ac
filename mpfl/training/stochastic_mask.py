"""Learning which of a random network's frozen weights to keep (FedPM's local work).

Isik et al. 2022, "Sparse random networks for communication-efficient federated learning", arXiv
2209.15328. Every maskable weight has a score s; its probability to be kept is θ = σ(s). Each
training step draws a mask m ~ Bernoulli(θ), runs the network with m ⊙ w, and passes the gradient
straight through the draw: ∂L/∂s = ∂L/∂w · w · θ(1 − θ).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from mpfl.config import TrainConfig
from mpfl.data.samples import Samples
from mpfl.network.flat import FlatModel
from mpfl.network.layers import Structure
from mpfl.seeding import lent_from
from mpfl.training.local import TrainResult, batches_of, least_batch
from mpfl.training.losses import batch_loss, loss_named, named_weights

Floats = NDArray[np.float32]

EDGE = 0.02
"""Scores start no further out than logit(EDGE) and its negative, so that they can still move."""


def frozen_weights(structure: Structure, w0: Floats) -> Floats:
    """Return the frozen network, float32[P].

    Maskable weights are sign(w0) · √(2 / fan in), the standard deviation of Kaiming's normal
    initialisation; biases are zero; all else (normalisation scales, embeddings, what the network
    itself freezes) is as in w0.
    """
    frozen, moves = w0.copy(), structure.moving_parameters
    maskable = structure.prunable()
    for name in structure.parameters.names:
        where, shape = structure.parameters.place(name)
        if maskable[where].any():
            fan_in = int(np.prod(shape[1:], dtype=np.int64))
            signs = np.where(w0[where] >= 0, np.float32(1), np.float32(-1))
            frozen[where] = signs * np.float32(np.sqrt(2.0 / fan_in))
        elif moves[where].all() and name.rpartition(".")[2].startswith("bias"):
            frozen[where] = 0
    return frozen


def logits(theta: Floats) -> Floats:
    """Return the scores of probabilities, these clipped to EDGE and 1 − EDGE."""
    inside = np.clip(theta.astype(np.float64), EDGE, 1 - EDGE)
    scores: Floats = np.log(inside / (1 - inside)).astype(np.float32)
    return scores


def train_scores(
    model: FlatModel,
    samples: Samples,
    config: TrainConfig,
    frozen: Floats,
    maskable: NDArray[np.bool_],
    theta: Floats,
    *,
    lr: float,
    draws: torch.Generator,
    order: torch.Generator,
    freeze_statistics: bool = False,
) -> tuple[Floats, TrainResult]:
    """Train scores for the configured epochs with Adam.

    Parameters
    ----------
    model
        Scratch; its buffers are used and updated.
    frozen
        float32[P], see `frozen_weights`.
    maskable
        bool[P], d of them set.
    theta
        float32[d], where to start.
    draws, order
        Streams of the masks and of the batches.
    freeze_statistics
        Keep normalisation layers in evaluation mode. Where they are not, a last batch of a
        single sample is left out; see `least_batch`.

    Returns
    -------
    theta, result
        The new probabilities, float32[d], and what training reported.
    """
    places = torch.from_numpy(np.flatnonzero(maskable))
    weights = torch.from_numpy(frozen[maskable])
    scores = torch.from_numpy(logits(theta)).requires_grad_()
    optimizer = torch.optim.Adam([scores], lr=lr)
    model.load(frozen)
    model.module.train(not freeze_statistics)
    model.rewind_counters()
    least = least_batch(model.module, config.batch_size)
    wanted = loss_named(config)
    start = {}
    if wanted:  # what holds a client back is what the round started from
        model.values[places] = weights * torch.from_numpy(theta)
        start = named_weights(model.module)
    total, steps = torch.zeros(()), 0
    with lent_from(order):
        for inputs, targets in batches_of(samples, config.batch_size, config.epochs, order, least):
            keep = torch.sigmoid(scores.detach())
            drawn = torch.rand(keep.shape, generator=draws) < keep
            model.values[places] = weights * drawn
            model.grads.zero_()
            outputs = model.module(inputs).float()
            loss = batch_loss(wanted, model.module, outputs, targets, start)
            loss.backward()  # type: ignore[no-untyped-call]
            scores.grad = model.grads[places] * weights * keep * (1 - keep)
            optimizer.step()
            total += loss.detach()
            steps += 1
    learned: Floats = torch.sigmoid(scores.detach()).numpy()
    return learned, TrainResult(float(total) / max(steps, 1), steps)
