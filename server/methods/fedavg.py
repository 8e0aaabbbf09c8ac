"""Federated averaging, server half (McMahan et al. 2017, arXiv 1602.05629, Algorithm 1).

Faithful: sampled clients, local epochs, mean weighted by samples, 32 bits per parameter both
ways. Differs: the first downlink is empty, because w0 follows from the seed (every method here
has that saving).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mpfl.exchange import FLOAT32, Codecs
from mpfl.mask import Mask
from mpfl.wire.frame import Frame
from mpfl.world import World
from server.methods.averaging import WeightRounds
from server.methods.base import Floats, Receipt, Request, ServerMethod
from server.sync import MaskLog


class FedAvg(ServerMethod):
    """Every round: broadcast the model, average what comes back.

    Parameters
    ----------
    codecs
        How weights are written; plain FedAvg sends float32.
    """

    def __init__(self, world: World, codecs: Codecs = FLOAT32) -> None:
        self._masks = MaskLog(world.layout, world.classes, world.experiment.wire.mask_codec)
        self._weights = WeightRounds(world, self._masks, codecs)
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
        """Return the model as a request."""
        return self._weights.request(self._round, client)

    def accept(self, client: int, reply: Frame) -> Receipt:
        """Add one client's weights to the mean."""
        return self._weights.accept(client, reply)

    def finish_round(self, enough: bool) -> dict[str, Any]:
        """Publish the mean."""
        return self._weights.finish_round(enough)

    def model(self) -> Floats:
        """Return the averaged model."""
        return self._weights.latest

    def mask(self) -> Mask:
        """Return the full mask."""
        return self._masks.current

    def forget(self, client: int) -> None:
        """Serve this client from w0 again."""
        self._masks.forget(client)
        self._weights.broadcaster.forget(client)

    def state(self) -> dict[str, Any]:
        """Return everything `restore` needs."""
        return {"masks": self._masks.state(), "weights": self._weights.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        self._masks.restore(state["masks"])
        self._weights.restore(state["weights"])
