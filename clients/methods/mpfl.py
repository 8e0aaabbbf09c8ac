"""MPFL, client half (Gez & Cohen, "Masked Pruning over FL", arXiv 2312.03889)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from clients.client import Client
from clients.methods.fedavg import train_weights
from clients.replica import Replica, follow, follow_mask
from mpfl.ballot import cast_ballot, random_ballot, training_observer
from mpfl.mask import Mask
from mpfl.regrow import regrow_ballot, training_rounds
from mpfl.training.local import TrainResult
from mpfl.wire.errors import WireError
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.sections import mask_context


def handle(request: Frame, client: Client) -> Frame:
    """Answer a mask request with a ballot and a training request with surviving values.

    A mask request whose step is above 0 is one of regrowth, any other one of phase 1. In regrowth
    values travel with the ballots; in phase 1 they do if ``prune.recovery = "finetune"``, which
    both sides know and no message says.
    """
    world, experiment, step = client.world, client.world.experiment, request.sync.step
    steps = training_rounds(experiment, request.round, step)
    if request.kind is Kind.TRAIN_REQUEST:
        return train_weights(request, client, steps)
    if request.kind is not Kind.MASK_REQUEST:
        raise WireError("kind", f"mpfl does not answer {request.kind.name}")
    if not step and experiment.prune.recovery != "finetune":
        request.check_sections({Section.CONFIG}, {Section.MASK})
        mask = follow_mask(world, client.state, request)
        return _vote(request, client, mask, world.start(mask))
    replica = follow(world, client.state, request)
    if step:
        reply = _regrow(request, client, replica, steps)
    else:
        reply = _vote(request, client, replica.mask, replica.public)
    values = client.encode_update(replica, request.round)
    return replace(reply, sections={**reply.sections, Section.VALUES: values})


def _vote(request: Frame, client: Client, mask: Mask, start: NDArray[np.float32]) -> Frame:
    """Train from `start` under the mask and answer with a ballot; free-riders draw theirs."""
    world, observer = client.world, training_observer(client.world)
    place = {"round_number": request.round, "client": client.partition}
    result = client.train(
        start, request.round, mask=mask, epochs=world.experiment.prune.epochs, observer=observer
    )
    if client.idle:
        ballot = random_ballot(world, mask, **place)
    else:
        ballot = cast_ballot(world, client.samples, mask, observer=observer, **place)
    return _reply(request, client, mask, ballot, result)


def _regrow(request: Frame, client: Client, replica: Replica, steps: int) -> Frame:
    """Train as in any round of phase 2, then vote for a mask of the same density.

    Free-riders vote for the mask there is.
    """
    result = client.train_public(replica, request.round, steps)
    ballot = replica.mask
    if not client.idle:
        ballot = regrow_ballot(
            client.world, client.samples, ballot, round_number=request.round, step=replica.step
        )
    return _reply(request, client, replica.mask, ballot, result)


def _reply(request: Frame, client: Client, mask: Mask, ballot: Mask, result: TrainResult) -> Frame:
    world = client.world
    within, classes = mask_context(world.classes, mask, subset=not request.sync.step)
    ballot = client.vote(ballot, request.round, allowed=within or Mask.full(world.layout))
    payload = world.encode_mask(ballot, within, classes)
    sections = {Section.MASK: payload, Section.METRICS: client.metrics(result)}
    return Frame(Kind.BALLOT, request.round, sections)
