"""Federated averaging, and the server prunes the average by magnitude.

Source: the federated baseline of Gez & Cohen (arXiv 2312.03889); magnitude pruning of Han et al.
2015, arXiv 1506.02626. Faithful: weights travel from the first round, dense until pruned; the
smallest go, the survivors train on without rewinding. Differs: the path is the experiment's
schedule and ranking; with ``one_shot`` the average stays dense for ``prune.rounds`` rounds and is
pruned once, as in the baseline; with the others it is pruned after each of these rounds.
``coverage``, which needs other scores than |w|, is taken as ``layer``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mpfl.ballot import target_density
from mpfl.exchange import FLOAT32
from mpfl.mask import Mask
from mpfl.ranking import rank
from mpfl.wire.frame import Frame
from mpfl.world import World
from server.methods.averaging import WeightRounds
from server.methods.base import Floats, Receipt, Request, ServerMethod
from server.sync import MaskLog


class FedAvgPrune(ServerMethod):
    """Broadcast, average, prune."""

    def __init__(self, world: World) -> None:
        self._world = world
        codec = world.experiment.wire.mask_codec
        self._masks = MaskLog(world.layout, world.classes, codec, world.widths)
        self._weights = WeightRounds(world, self._masks, FLOAT32)
        self._round = 0

    @property
    def phase(self) -> str:
        """Always ``train``."""
        return "train"

    def begin_round(self, round_number: int, clients: Sequence[int]) -> None:
        """Start an empty mean."""
        self._round = round_number
        self._weights.begin_round()

    def request(self, client: int) -> Request:
        """Return mask and model as a request."""
        return self._weights.request(self._round, client)

    def accept(self, client: int, reply: Frame) -> Receipt:
        """Add one client's weights to the mean."""
        return self._weights.accept(client, reply)

    def finish_round(self, enough: bool) -> dict[str, Any]:
        """Average, and prune if this round is to."""
        self._weights.step += 1
        if enough:
            model = self._weights.average()
            self._prune(model)
            self._weights.publish(model)
        return {}

    def _prune(self, model: Floats) -> None:
        world, config = self._world, self._world.experiment.prune
        if config.schedule == "one_shot" and self._round < config.rounds:
            return
        density = target_density(world, self._round)
        values = model[: world.structure.parameters.total]
        mask = rank(
            world.structure.unit_values(values),
            world.layout,
            density,
            self._masks.current,
            "layer" if config.ranking == "coverage" else config.ranking,
            config.min_units,
            widths=world.widths,
        )
        if mask != self._masks.current:
            self._masks.advance(mask)
            self._weights.refit(mask)

    def model(self) -> Floats:
        """Return the averaged, pruned model."""
        return self._weights.latest

    def mask(self) -> Mask:
        """Return what is left."""
        return self._masks.current

    def forget(self, client: int) -> None:
        """Serve this client from the full mask and w0 again."""
        self._masks.forget(client)
        self._weights.broadcaster.forget(client)

    def state(self) -> dict[str, Any]:
        """Return everything `restore` needs."""
        return {"masks": self._masks.state(), "weights": self._weights.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        self._masks.restore(state["masks"])
        self._weights.restore(state["weights"])
