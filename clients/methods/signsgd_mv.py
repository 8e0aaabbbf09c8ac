"""Sign descent with majority vote, client half; see the server half."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clients.client import Client
from clients.replica import follow, values_of
from mpfl.mask import Mask
from mpfl.training.decay import learning_rate
from mpfl.wire.errors import WireError
from mpfl.wire.floats import float32_bytes
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.masks import encode_mask
from mpfl.wire.sections import split_floats


def handle(request: Frame, client: Client) -> Frame:
    """Train locally and answer with the sign of every parameter's change.

    A parameter that did not change says plus or minus by its own coin.
    """
    if request.kind is not Kind.TRAIN_REQUEST:
        raise WireError("kind", f"signsgd_mv does not answer {request.kind.name}")
    request.check_sections({Section.CONFIG}, {Section.VALUES})
    world, experiment = client.world, client.world.experiment
    count, buffers = world.structure.parameters.total, world.travelling_buffers
    payload = values_of(request)
    known, votes = split_floats(payload, buffers if payload else 0)
    rest = {Section.VALUES: votes} if votes else {}
    config = {Section.CONFIG: request.sections[Section.CONFIG]}
    stripped = replace(request, sections={**config, **rest})
    replica = follow(world, client.state, stripped, with_buffers=False, codec="sign")
    start = replica.public
    if known.size:
        start[count:][world.exchanged] = known
    rate = learning_rate(experiment.train, replica.step, experiment.federation.rounds)
    result = client.train(start, request.round, lr=rate)
    moves = world.structure.moving_parameters
    change = (world.model.values.numpy() - start[:count])[moves]
    coin = client.rng("coin", request.round).random(change.size) < 0.5
    signs = Mask.from_bools(world.parameter_layout, np.where(change == 0, coin, change > 0))
    sections = {
        Section.MASK: encode_mask(signs, codec=experiment.wire.mask_codec),
        Section.METRICS: client.metrics(result),
    }
    if buffers:
        sections[Section.VALUES] = float32_bytes(world.model.buffers.numpy()[world.exchanged])
    return Frame(Kind.UPDATE, request.round, sections)
