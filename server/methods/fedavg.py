"""Federated averaging, server half (McMahan et al. 2017, arXiv 1602.05629, Algorithm 1).

Faithful: sampled clients, local epochs, mean weighted by samples, 32 bits per parameter both
ways. Differs: the first downlink is empty, because w0 follows from the seed (every method here
has that saving).
"""

from __future__ import annotations

from mpfl.codecs import FLOAT32, Codecs
from mpfl.world import World
from server.methods.averaging import WeightMethod


class FedAvg(WeightMethod):
    """Every round: broadcast the model, average what comes back.

    Parameters
    ----------
    codecs
        How weights are written; plain FedAvg sends float32.
    """

    def __init__(self, world: World, codecs: Codecs = FLOAT32) -> None:
        super().__init__(world, codecs)
