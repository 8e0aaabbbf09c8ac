"""One exchange of saliencies, then training under a fixed mask: the client half."""

from __future__ import annotations

import numpy as np

from clients.client import Client
from clients.methods.fedavg import train_weights
from mpfl.scores import SCORES, ScoreInputs
from mpfl.training.local import TrainResult
from mpfl.wire.errors import WireError
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.values import encode_values


def handle(request: Frame, client: Client) -> Frame:
    """Answer a score request with saliencies and a training request with surviving values."""
    if request.kind is Kind.SCORE_REQUEST:
        request.check_sections(())
        return _scores(request, client)
    if request.kind is Kind.TRAIN_REQUEST:
        rounds = client.world.experiment.federation.rounds - 1
        return train_weights(request, client, rounds)
    raise WireError("kind", f"ssfl does not answer {request.kind.name}")


def _scores(request: Frame, client: Client) -> Frame:
    world, experiment = client.world, client.world.experiment
    world.model.load(world.w0, world.b0)
    inputs = ScoreInputs(
        model=world.model,
        structure=world.structure,
        samples=client.samples,
        batch_size=experiment.train.batch_size,
        limit=experiment.prune.score_samples,
        rng=client.rng("score", request.round),
        observed=None,
    )
    scores = np.concatenate(SCORES["taylor"].compute(inputs))
    if client.idle:
        scores = np.zeros_like(scores)
    sections = {
        Section.SCORES: encode_values(scores, "float32", world.layout.units),
        Section.METRICS: client.metrics(TrainResult(0.0, 0)),
    }
    return Frame(Kind.SCORES, request.round, sections)
