"""MPFL, client half (Gez & Cohen, "Masked Pruning over FL", arXiv 2312.03889)."""

from __future__ import annotations

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
from mpfl.wire.masks import encode_mask
from mpfl.wire.sections import Sync, mask_context


def handle(request: Frame, client: Client) -> Frame:
    """Answer a mask request with a ballot and a training request with surviving values.

    Where weights travel with ballots (``recovery = "finetune"``, ``regrow``), the answer to a
    mask request holds both.
    """
    experiment = client.world.experiment
    sync = Sync.unpack(request.sections.get(Section.CONFIG, b""))
    if request.kind is Kind.TRAIN_REQUEST:
        steps = training_rounds(experiment, request.round, sync.step)
        return train_weights(request, client, steps)
    if request.kind is not Kind.MASK_REQUEST:
        raise WireError("kind", f"mpfl does not answer {request.kind.name}")
    if sync.step:
        return _regrow(request, client, sync)
    if experiment.prune.recovery == "finetune":
        return _ballot_and_values(request, client)
    mask = follow_mask(client.world, client.state, request, sync)
    start = client.world.start(mask)
    ballot, result = _vote(request.round, client, mask, start)
    return _reply(request, client, mask, ballot, result)


def _ballot_and_values(request: Frame, client: Client) -> Frame:
    """Train on from the mean of the last round instead of from w0; send values too."""
    replica = follow(client.world, client.state, request)
    ballot, result = _vote(request.round, client, replica.mask, replica.public)
    return _reply(request, client, replica.mask, ballot, result, replica)


def _regrow(request: Frame, client: Client, sync: Sync) -> Frame:
    """Train as in any round of phase 2, then vote for a mask of the same density.

    Free-riders vote for the mask there is.
    """
    replica = follow(client.world, client.state, request)
    steps = training_rounds(client.world.experiment, request.round, sync.step)
    result = client.train_public(replica, request.round, steps)
    ballot = replica.mask
    if not client.idle:
        ballot = regrow_ballot(
            client.world, client.samples, ballot, round_number=request.round, step=sync.step
        )
    return _reply(request, client, replica.mask, ballot, result, replica)


def _vote(
    round_number: int, client: Client, mask: Mask, start: NDArray[np.float32]
) -> tuple[Mask, TrainResult]:
    """Train from `start` under the mask and return the ballot; free-riders draw theirs."""
    world, observer = client.world, training_observer(client.world)
    result = client.train(
        start,
        round_number,
        mask=mask,
        epochs=world.experiment.prune.epochs,
        observer=observer,
    )
    if client.idle:
        ballot = random_ballot(world, mask, round_number=round_number, client=client.partition)
        return ballot, result
    ballot = cast_ballot(
        world,
        client.samples,
        mask,
        round_number=round_number,
        client=client.partition,
        observer=observer,
    )
    return ballot, result


def _reply(
    request: Frame,
    client: Client,
    mask: Mask,
    ballot: Mask,
    result: TrainResult,
    replica: Replica | None = None,
) -> Frame:
    """Return the answer: ballot and, where the request carried a model, trained values."""
    world = client.world
    sections = {Section.METRICS: client.metrics(result)}
    regrow = Sync.unpack(request.sections[Section.CONFIG]).step > 0
    within, classes = mask_context(world.classes, mask, subset=not regrow)
    ballot = client.vote(ballot, request.round, allowed=within or Mask.full(world.layout))
    sections[Section.MASK] = encode_mask(
        ballot,
        within=within,
        classes=classes,
        codec=world.experiment.wire.mask_codec,
        widths=world.widths,
    )
    if replica:
        sections[Section.VALUES] = client.encode_update(replica, request.round)
    return Frame(Kind.BALLOT, request.round, sections)
