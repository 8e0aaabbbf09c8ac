"""Federated averaging of 8-bit differences, client half; see the server half."""

from __future__ import annotations

from clients.client import Client
from clients.methods.fedavg import train_weights
from mpfl.codecs import INT8
from mpfl.wire.frame import Frame


def handle(request: Frame, client: Client) -> Frame:
    """Train the public model locally and answer with the difference, eight bits a value."""
    return train_weights(request, client, client.world.experiment.federation.rounds, INT8)
