"""Federated averaging with pruning at the server, client half; see the server half."""

from __future__ import annotations

from clients.client import Client
from clients.methods.fedavg import train_weights
from mpfl.codecs import FLOAT32
from mpfl.wire.frame import Frame


def handle(request: Frame, client: Client) -> Frame:
    """Train what the server has left, and answer with its values."""
    return train_weights(request, client, client.world.experiment.federation.rounds, FLOAT32)
