"""PruneFL, client half; see the server half."""

from __future__ import annotations

import numpy as np

from clients.client import Client
from clients.methods.fedavg import train_weights
from mpfl.ballot import random_ballot
from mpfl.mask import Mask
from mpfl.ranking.schedule import density_path
from mpfl.ranking.selection import units_to_keep
from mpfl.regrow import reconfigure, squared_gradients
from mpfl.training.local import TrainResult
from mpfl.wire.errors import WireError
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.values import encode_values


def handle(request: Frame, client: Client) -> Frame:
    """Prune alone, train, or train and say where the gradient is large, as the request asks."""
    if request.kind is Kind.MASK_REQUEST:
        request.check_sections({Section.CONFIG})
        return _first_mask(request, client)
    if request.kind not in (Kind.TRAIN_REQUEST, Kind.SCORE_REQUEST):
        raise WireError("kind", f"prunefl does not answer {request.kind.name}")
    world = client.world
    reply = train_weights(request, client, world.experiment.federation.rounds - 1)
    if request.kind is Kind.TRAIN_REQUEST:
        return reply
    squares = np.minimum(squared_gradients(world, client.samples), np.float32(SQUARE_LIMIT))
    if client.idle:
        squares = np.zeros_like(squares)
    scores = encode_values(squares, "float32", world.layout.units)
    return Frame(Kind.SCORES, request.round, {**reply.sections, Section.SCORES: scores})


SQUARE_LIMIT = 3.99
"""Sums of squared gradients are cut here, so that one client cannot outweigh all others."""


def _first_mask(request: Frame, client: Client) -> Frame:
    """Train and prune in turns, ``prune.rounds`` times, on this client's data alone."""
    world, config = client.world, client.world.experiment.prune
    mask, model = Mask.full(world.layout), world.initial.copy()
    result = TrainResult(0.0, 0)
    path = density_path(config.schedule, config.density, config.rounds)
    if client.idle:
        mask = random_ballot(world, mask, round_number=len(path), client=client.partition)
        path = []
    for density in path:
        result = client.train(model, request.round, mask=mask, epochs=config.epochs)
        model = world.model.read_model()
        mask = reconfigure(
            mask,
            np.concatenate(world.structure.unit_values(model[: world.w0.size])),
            squared_gradients(world, client.samples),
            world.tie_break,
            units_to_keep(density, world.layout.total),
            config.regrow_fraction,
            config.min_units,
        )
        model[: world.w0.size] *= world.structure.parameter_mask(mask)
    footprint, start = world.footprint(mask), world.start(mask)
    channel, rng = world.channel("up", footprint), client.rng("uplink", request.round)
    sections = {
        Section.MASK: world.encode_mask(mask),
        Section.VALUES: channel.write(model[footprint.keep], start[footprint.keep], rng),
        Section.METRICS: client.metrics(result),
    }
    return Frame(Kind.BALLOT, request.round, sections)
