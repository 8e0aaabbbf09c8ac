"""Sparse updates with error feedback, client half; see the server half."""

from __future__ import annotations

from clients.client import Client
from clients.methods.fedavg import train_weights
from mpfl.codecs import topk_codecs
from mpfl.wire.frame import Frame


def handle(request: Frame, client: Client) -> Frame:
    """Train locally and send the largest entries of the update and of what is still owed."""
    experiment = client.world.experiment
    return train_weights(request, client, experiment.federation.rounds, topk_codecs(experiment))
