"""``central_retrain``: what a mask is worth when one party with all data trains under it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from mpfl.data.samples import Samples
from mpfl.data.virtual import pooled
from mpfl.errors import InputError
from mpfl.mask import Mask
from mpfl.seeding import torch_generator
from mpfl.training.decay import learning_rate
from mpfl.training.local import Evaluation
from mpfl.world import World

OnEpoch = Callable[[int, float], None]
"""Told each epoch's number, from 1, and its mean training loss (nats)."""


@dataclass(frozen=True)
class CentralRetrain:
    """What central retraining comes to.

    Attributes
    ----------
    samples
        Training samples of all clients together.
    losses
        Mean training loss (nats) of every epoch.
    test
        Evaluation of the last epoch's model on the held-out test set; no epoch is chosen by it.
    """

    samples: int
    losses: tuple[float, ...]
    test: Evaluation


def pooled_samples(world: World) -> Samples:
    """Return the training samples of all clients together, as they are without any stress."""
    index = torch.as_tensor(pooled(world.parts))
    samples = world.train_samples
    return samples.subset(index.to(samples.device)).prepared()


def central_retrain(
    world: World, mask: Mask, epochs: int, on_epoch: OnEpoch | None = None
) -> CentralRetrain:
    """Train w0 under a mask on the pooled data, and evaluate it on the test set.

    The evaluation of the code that Gez & Cohen released with arXiv 2312.03889, there with a
    pretrained network as w0 (``model.weights``). No client and no message takes part: this is not
    the accuracy of a federated model.

    Parameters
    ----------
    epochs
        Passes over the pooled data. The learning rate decays over them as ``train.lr_decay``
        says; the optimizer's state does not outlive an epoch, as it does not outlive a round.

    Raises
    ------
    InputError
        If there is less than one epoch, or the mask has other layers than the network.
    """
    if epochs < 1:
        raise InputError(f"epochs: got {epochs}, expected at least 1")
    experiment, samples = world.experiment, pooled_samples(world)
    world.model.load_model(world.start(mask))
    losses = []
    for epoch in range(epochs):
        result = world.masked.train(
            samples,
            mask,
            experiment.train,
            lr=learning_rate(experiment.train, epoch, epochs),
            epochs=1,
            generator=torch_generator(experiment.seed, "central retrain", epoch),
            freeze_statistics=experiment.model.batch_norm == "freeze",
        )
        losses.append(result.loss)
        if on_epoch:
            on_epoch(epoch + 1, result.loss)
    test = world.masked.evaluate(
        world.test_samples, mask, channels_last=experiment.train.channels_last
    )
    return CentralRetrain(len(samples), tuple(losses), test)
