"""Federated averaging of 8-bit differences, server half.

Source: FedAvg (McMahan et al. 2017, arXiv 1602.05629) with the quantiser of QSGD (Alistarh et
al. 2017, arXiv 1610.02132) at 127 levels a sign. Faithful: stochastic rounding, so that the mean
is unbiased; one scale a tensor, up and down. Differs: differences to the model that the receiver
holds are quantised, not values; the integers are entropy coded; scale is the tensor's largest
magnitude, not its norm.
"""

from __future__ import annotations

from mpfl.codecs import INT8
from mpfl.world import World
from server.methods.fedavg import FedAvg


def make(world: World) -> FedAvg:
    """Return the server half."""
    return FedAvg(world, INT8)
