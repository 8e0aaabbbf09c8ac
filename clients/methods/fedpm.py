"""Federated probabilistic masks, client half; see the server half."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clients.client import Client
from clients.replica import values_of
from mpfl.mask import Mask
from mpfl.training.decay import learning_rate
from mpfl.training.local import TrainResult
from mpfl.training.posterior import BetaPosterior
from mpfl.training.stochastic_mask import frozen_weights, train_scores
from mpfl.wire.entropy.levels import Levels, decode_levels
from mpfl.wire.errors import WireError
from mpfl.wire.floats import float32_bytes
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.sections import share_classes, split_floats

Floats = NDArray[np.float32]


def handle(request: Frame, client: Client) -> Frame:
    """Learn scores from the common probabilities and answer with one draw of a mask."""
    levels, top, buffers = sent_theta(request, client)
    theta, result = learn(client, request, levels, top, buffers)
    ballot, _ = draw(client, request, theta)
    payload = client.world.encode_mask(ballot, classes=share_classes(levels, top))
    return answer(client, request, payload, result)


def sent_theta(request: Frame, client: Client) -> tuple[Levels, int, Floats]:
    """Return θ as levels and their top, and the buffers float32[B], of a request with all of it."""
    world, version = client.world, request.sync.values_version
    request.check_sections({Section.CONFIG, *({Section.VALUES} if version else ())})
    buffers, coded = sent_buffers(request, client)
    if not version:
        return *BetaPosterior.flat(world.layout.total).levels(), buffers
    return *decode_levels(coded, world.layout.units), buffers


def sent_buffers(request: Frame, client: Client) -> tuple[Floats, bytes]:
    """Return the buffers float32[B] of a request, and what stands behind them in its values."""
    if request.kind is not Kind.MASK_REQUEST:
        method = client.world.experiment.method
        raise WireError("kind", f"{method} does not answer {request.kind.name}")
    world, buffers = client.world, client.world.b0.copy()
    if Section.VALUES not in request.sections:
        return buffers, b""
    buffers[world.exchanged], rest = split_floats(values_of(request), world.travelling_buffers)
    return buffers, rest


def draw(client: Client, request: Frame, theta: Floats) -> tuple[Mask, bool]:
    """Return a mask drawn from θ, and whether it is forged instead."""
    world = client.world
    drawn = client.rng("uplink", request.round).random(theta.size, dtype=np.float32) < theta
    honest = Mask.from_bools(world.layout, drawn)
    ballot = client.vote(honest, request.round, allowed=Mask.full(world.layout), share=0.5)
    return ballot, ballot is not honest


def answer(client: Client, request: Frame, payload: bytes, result: TrainResult) -> Frame:
    """Return the reply: a mask's payload and, where they travel, the buffers."""
    world = client.world
    sections = {Section.MASK: payload, Section.METRICS: client.metrics(result)}
    if world.travelling_buffers:
        sections[Section.VALUES] = float32_bytes(world.model.buffers.numpy()[world.exchanged])
    return Frame(Kind.UPDATE, request.round, sections)


def learn(
    client: Client, request: Frame, levels: Levels, top: int, buffers: Floats
) -> tuple[Floats, TrainResult]:
    """Train scores from θ with the experiment's work; a free-rider does nothing."""
    world, experiment = client.world, client.world.experiment
    theta = levels.astype(np.float32) / np.float32(top)
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
