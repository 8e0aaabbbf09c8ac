"""One simulated client: its data, its streams, its state, and the work every method shares."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clients.replica import ClientState, Replica
from mpfl.ballot import target_density
from mpfl.data.samples import Samples
from mpfl.faults.attacks import forge
from mpfl.faults.stress import rides_free, spoil, stressed_clients
from mpfl.mask import Mask
from mpfl.seeding import numpy_rng, torch_generator
from mpfl.training.decay import learning_rate
from mpfl.training.local import Observer, TrainResult
from mpfl.training.losses import GradientHook, Loss
from mpfl.wire.sections import Metrics
from mpfl.world import World

Floats = NDArray[np.float32]


@dataclass
class Client:
    """What a method's client half works with.

    Attributes
    ----------
    world
        The common ground: data, model, w0.
    partition
        This client's number, from 0.
    state
        What outlives the message; the method reads and writes it.
    """

    world: World
    partition: int
    state: ClientState

    @property
    def options(self) -> Any:
        """The method's own options; see `mpfl.methods.Method`."""
        return self.world.options

    @cached_property
    def samples(self) -> Samples:
        """The client's training samples, ready for many batches; spoiled if it is stressed."""
        world, experiment = self.world, self.world.experiment
        samples = world.data.train.subset(torch.as_tensor(world.parts[self.partition]))
        if self.stressed:
            rng = numpy_rng(experiment.seed, "stress", self.partition)
            samples = spoil(samples, experiment.faults.stress_kind, rng, world.data.classes)
        # images that training goes over once are quicker normalised as it goes
        epochs = max(experiment.train.epochs, experiment.prune.epochs)
        return samples.prepared() if epochs > 1 else samples

    @cached_property
    def train_samples(self) -> Samples:
        """`samples` on the device that trains."""
        device, everything = self.world.experiment.train.device, self.world.train_samples
        if device == "cpu":
            return self.samples
        if self.stressed:
            return self.samples.to(device)
        index = torch.as_tensor(self.world.parts[self.partition], device=everything.device)
        return everything.subset(index).prepared()

    @cached_property
    def stressed(self) -> bool:
        """Whether this client is one of those that ``faults.stress`` spoils."""
        experiment = self.world.experiment
        clients, share = experiment.data.clients, experiment.faults.stress
        return self.partition in stressed_clients(experiment.seed, clients, share)

    @property
    def idle(self) -> bool:
        """Whether this client is a free-rider: it answers, but never trains.

        It sends the values it was sent, and a ballot drawn at random.
        """
        return self.stressed and rides_free(self.world.experiment.faults.stress_kind)

    def generator(self, purpose: str, round_number: int) -> torch.Generator:
        """Return the torch stream (purpose, round, this client)."""
        return torch_generator(self.world.experiment.seed, purpose, round_number, self.partition)

    def rng(self, purpose: str, round_number: int) -> np.random.Generator:
        """Return the NumPy stream (purpose, round, this client)."""
        return numpy_rng(self.world.experiment.seed, purpose, round_number, self.partition)

    def train(
        self,
        start: Floats,
        round_number: int,
        *,
        mask: Mask | None = None,
        lr: float | None = None,
        epochs: int = 0,
        observer: Observer | None = None,
        loss: Loss | None = None,
        gradient: GradientHook | None = None,
    ) -> TrainResult:
        """Train the world's model from `start` (float32[P + B]) on this client's samples.

        Running statistics begin at `start` only where they travel (``batch_norm =
        "aggregate"``); otherwise at what this client had last (``local``) or at their initial
        values (``freeze``). A free-rider loads the start and leaves it at that. Where the mask
        drops whole units, the network without them is trained; see `MaskedNetwork`.

        Parameters
        ----------
        mask
            Which units may live; None for all.
        lr, epochs, loss, gradient
            Default to the experiment's; see `mpfl.training.losses`.
        """
        world, config = self.world, self.world.experiment.train
        count = world.structure.parameters.total
        policy = world.experiment.model.batch_norm
        world.model.load(start[:count], self.first_buffers(start[count:]))
        mask = Mask.full(world.layout) if mask is None else mask
        if self.idle:
            world.masked.apply(mask)
            return TrainResult(0.0, 0)
        result = world.masked.train(
            self.train_samples,
            mask,
            config,
            lr=config.lr if lr is None else lr,
            epochs=epochs or config.epochs,
            generator=self.generator("batches", round_number),
            observer=observer,
            freeze_statistics=policy == "freeze",
            loss=loss,
            gradient=gradient,
        )
        if policy == "local":
            self.state.buffers = world.model.buffers.numpy().copy()
        return result

    def first_buffers(self, travelled: Floats) -> Floats:
        """Return the running statistics to begin with, float32[B]; see `train`."""
        policy = self.world.experiment.model.batch_norm
        if policy == "local" and self.state.buffers is not None:
            return self.state.buffers
        return travelled if policy == "aggregate" else self.world.b0

    def train_public(
        self,
        replica: Replica,
        round_number: int,
        steps: int,
        *,
        loss: Loss | None = None,
        gradient: GradientHook | None = None,
    ) -> TrainResult:
        """Train from the public model under its mask at the learning rate of its step."""
        rate = learning_rate(self.world.experiment.train, replica.step, steps)
        return self.train(
            replica.public,
            round_number,
            lr=rate,
            mask=replica.mask,
            loss=loss,
            gradient=gradient,
        )

    def vote(
        self, ballot: Mask, round_number: int, *, allowed: Mask, share: float | None = None
    ) -> Mask:
        """Return what this client votes for: its ballot, or what it forges if it is malicious.

        Parameters
        ----------
        allowed
            The units that a ballot of this round may keep.
        share
            About what share of those an honest ballot keeps; by default as the schedule says.
        """
        if share is None:
            share = target_density(self.world, round_number) / max(allowed.density(), 1e-12)
        return forge(
            self.world.experiment,
            ballot,
            allowed,
            share=share,
            round_number=round_number,
            client=self.partition,
        )

    def metrics(self, result: TrainResult) -> bytes:
        """Return the metrics section of a reply."""
        return Metrics(len(self.samples), result.loss).pack()

    def encode_update(self, replica: Replica, round_number: int) -> bytes:
        """Encode the trained model's surviving values for the server; see `Channel.write`."""
        experiment, keep = self.world.experiment, replica.footprint.keep
        return self.world.channel("up", replica.footprint).write(
            self.world.model.read_model()[keep],
            replica.public[keep],
            self.rng("uplink", round_number),
            self.state.sent,
            min(1.0, replica.step / experiment.federation.rounds),
        )
