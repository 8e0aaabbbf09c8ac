"""FedPM whose masks travel as numbers of draws, client half; see ``server/methods/klms.py``."""

from __future__ import annotations

import numpy as np

from clients.client import Client
from clients.methods.fedpm import Floats, answer, draw, learn, sent_theta
from mpfl.training.posterior import prior_of, shared_draws
from mpfl.wire.entropy.levels import Levels
from mpfl.wire.frame import Frame


def handle(request: Frame, client: Client) -> Frame:
    """Learn scores from the common probabilities and answer with the number of a mask."""
    return numbered_draw(request, client, *sent_theta(request, client))


def numbered_draw(
    request: Frame, client: Client, levels: Levels, top: int, buffers: Floats
) -> Frame:
    """Learn scores from θ, the levels over their top, and answer with the number of a mask.

    Whoever forges a ballot sends what comes nearest to it.
    """
    theta, result = learn(client, request, levels, top, buffers)
    ballot, forged = draw(client, request, theta)
    if forged:
        theta = ballot.bools().astype(np.float32)
    payload = client.options.encode(
        theta,
        prior_of(levels, top),
        client.world.layout,
        shared_draws(client.world.experiment.seed, request.round, client.partition),
        client.rng("number", request.round),
    )
    return answer(client, request, payload, result)
