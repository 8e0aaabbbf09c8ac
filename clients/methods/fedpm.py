"""Federated probabilistic masks, client half; see the server half."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clients.client import Client
from mpfl.mask import Mask
from mpfl.training.decay import learning_rate
from mpfl.training.local import TrainResult
from mpfl.training.stochastic_mask import frozen_weights, train_scores
from mpfl.wire.errors import WireError
from mpfl.wire.floats import float32_bytes
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.masks import encode_mask
from mpfl.wire.sections import share_classes, split_floats
from mpfl.wire.values.levels import decode_levels

Floats = NDArray[np.float32]


def handle(request: Frame, client: Client) -> Frame:
    """Learn scores from the common probabilities and answer with one draw of a mask."""
    if request.kind is not Kind.MASK_REQUEST:
        raise WireError("kind", f"fedpm does not answer {request.kind.name}")
    values = {Section.VALUES} if request.sync.values_version else set()
    request.check_sections({Section.CONFIG, *values})
    world, experiment = client.world, client.world.experiment
    levels, top = np.ones(world.layout.total, np.uint8), 2
    known = world.b0.copy()
    if request.sync.values_version:
        payload = request.sections.get(Section.VALUES, b"")
        known[world.exchanged], coded = split_floats(payload, world.travelling_buffers)
        levels, top = decode_levels(coded, world.layout.units)
    theta, result = _learn(client, request, levels.astype(np.float32) / np.float32(top), known)
    drawn = client.rng("uplink", request.round).random(theta.size, dtype=np.float32) < theta
    ballot = Mask.from_bools(world.layout, drawn)
    payload = encode_mask(
        client.vote(ballot, request.round, allowed=Mask.full(world.layout), share=0.5),
        classes=share_classes(levels, top),
        codec=experiment.wire.mask_codec,
    )
    sections = {Section.MASK: payload, Section.METRICS: client.metrics(result)}
    if world.travelling_buffers:
        sections[Section.VALUES] = float32_bytes(world.model.buffers.numpy()[world.exchanged])
    return Frame(Kind.UPDATE, request.round, sections)


def _learn(
    client: Client, request: Frame, theta: Floats, buffers: Floats
) -> tuple[Floats, TrainResult]:
    """Train scores from `theta` with the experiment's work; a free-rider does nothing."""
    world, experiment = client.world, client.world.experiment
    policy = experiment.model.batch_norm
    world.model.load(world.w0, client.first_buffers(buffers))
    if client.idle:
        return theta, TrainResult(0.0, 0)
    decay = learning_rate(experiment.train, request.sync.step, experiment.federation.rounds)
    trained = train_scores(
        world.model,
        client.samples,
        experiment.train,
        frozen_weights(world.structure, world.w0),
        world.structure.prunable(),
        theta,
        lr=experiment.comparator.fedpm_lr * decay / experiment.train.lr,
        draws=client.generator("masks", request.round),
        order=client.generator("batches", request.round),
        freeze_statistics=policy == "freeze",
    )
    if policy == "local":
        client.state.buffers = world.model.buffers.numpy().copy()
    return trained
