"""Federated averaging, client half (McMahan et al. 2017, arXiv 1602.05629, Algorithm 1)."""

from __future__ import annotations

from clients.client import Client
from clients.replica import follow
from mpfl.training.losses import GradientHook, Loss
from mpfl.wire.frame import Frame, Kind, Section


def handle(request: Frame, client: Client) -> Frame:
    """Train the public model locally and answer with its values."""
    return train_weights(request, client, client.world.experiment.federation.rounds)


def train_weights(
    request: Frame,
    client: Client,
    steps: int,
    *,
    loss: Loss | None = None,
    gradient: GradientHook | None = None,
) -> Frame:
    """Follow the request, train under its mask and answer with the surviving values.

    Parameters
    ----------
    steps
        Rounds of weight training in the whole run, for the learning-rate decay.
    loss, gradient
        In place of the experiment's; see `mpfl.training.losses`.
    """
    replica = follow(client.world, client.state, request)
    result = client.train_public(replica, request.round, steps, loss=loss, gradient=gradient)
    values = client.encode_update(replica, request.round)
    sections = {Section.VALUES: values, Section.METRICS: client.metrics(result)}
    return Frame(Kind.UPDATE, request.round, sections)
