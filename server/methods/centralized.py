"""The accuracy ceiling: ordinary training on the pooled data; no client, no byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mpfl.central import pooled_samples
from mpfl.mask import Mask
from mpfl.seeding import torch_generator
from mpfl.training.decay import learning_rate
from mpfl.wire.frame import Frame
from mpfl.world import World
from server.methods.base import Floats, Receipt, Request, ServerMethod


@dataclass
class CentralState:
    """What a run keeps: the model, float32[P + B]."""

    model: Floats


class Centralized(ServerMethod):
    """The accuracy ceiling: in a round as many local epochs over all data as a client would do."""

    reads = ("train.*",)

    state: CentralState
    uses_clients = False

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.state = CentralState(world.initial)
        self._samples = pooled_samples(world)

    @property
    def phase(self) -> str:
        """Always ``central``."""
        return "central"

    def request(self, client: int) -> Request:
        """Never called: there are no clients."""
        raise ValueError("centralized training has no clients")

    def accept(self, client: int, reply: Frame) -> Receipt:
        """Never called: there are no clients."""
        raise ValueError("centralized training has no clients")

    def finish_round(self, enough: bool) -> dict[str, Any]:
        """Train on the pooled data, starting from the last round's model."""
        experiment = self._world.experiment
        self._world.model.load_model(self.state.model)
        self._world.masked.train(
            self._samples,
            Mask.full(self._world.layout),
            experiment.train,
            lr=learning_rate(experiment.train, self._round - 1, experiment.federation.rounds),
            epochs=experiment.train.epochs,
            generator=torch_generator(experiment.seed, "central", self._round),
            freeze_statistics=experiment.model.batch_norm == "freeze",
        )
        self.state.model = self._world.model.read_model()
        return {}

    def model(self) -> Floats:
        """Return the trained model."""
        return self.state.model
