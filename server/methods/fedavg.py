"""Federated averaging, server half.

Source: McMahan et al. 2017, arXiv 1602.05629, Algorithm 1. Faithful: sampled clients, local
epochs, mean weighted by samples; 32 bits per parameter both ways, unless ``wire.up`` and
``wire.down`` say otherwise: that makes it every method that only compresses values (``mpfl list
recipes``). Differs: the first downlink is empty, because w0 follows from the seed (every method
here has that saving).
"""

from __future__ import annotations

from server.methods.averaging import WEIGHTS, WeightMethod


class FedAvg(WeightMethod):
    """Every round: broadcast the model, average what comes back."""

    reads = ("train.*", *WEIGHTS)
