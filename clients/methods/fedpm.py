"""Federated probabilistic masks, client half; see the server half."""

from __future__ import annotations

import numpy as np

from clients.client import Client
from mpfl.exchange import Sync, share_classes, split_floats, travelling_buffers
from mpfl.mask import Mask
from mpfl.stochastic_mask import frozen_weights, train_scores
from mpfl.training import learning_rate
from mpfl.wire.errors import WireError
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.levels import decode_levels
from mpfl.wire.masks import encode_mask


def handle(request: Frame, client: Client) -> Frame:
    """Learn scores from the common probabilities and answer with one draw of a mask."""
    if request.kind is not Kind.MASK_REQUEST:
        raise WireError("kind", f"fedpm does not answer {request.kind.name}")
    world, experiment = client.world, client.world.experiment
    sync = Sync.unpack(request.sections.get(Section.CONFIG, b""))
    levels, top = np.ones(world.layout.total, np.uint8), 2
    buffers = world.b0
    if sync.values_version:
        payload = request.sections.get(Section.VALUES, b"")
        known, coded = split_floats(payload, travelling_buffers(world))
        levels, top = decode_levels(coded, world.layout.units)
        buffers = known if known.size else buffers
    world.model.load(world.w0, buffers)
    config = experiment.train
    decay = learning_rate(config, sync.step, experiment.federation.rounds) / config.lr
    theta, result = train_scores(
        world.model,
        client.samples,
        config,
        frozen_weights(world.structure, world.w0),
        world.structure.prunable(),
        levels.astype(np.float32) / np.float32(top),
        lr=experiment.comparator.fedpm_lr * decay,
        draws=client.generator("masks", request.round),
        order=client.generator("batches", request.round),
    )
    drawn = client.rng("uplink", request.round).random(theta.size, dtype=np.float32) < theta
    payload = encode_mask(
        Mask.from_bools(world.layout, drawn),
        classes=share_classes(levels, top),
        codec=experiment.wire.mask_codec,
    )
    sections = {Section.MASK: payload, Section.METRICS: client.metrics(result)}
    if travelling_buffers(world):
        sections[Section.VALUES] = world.model.buffers.numpy().astype("<f4").tobytes()
    return Frame(Kind.UPDATE, request.round, sections)
