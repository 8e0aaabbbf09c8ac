"""MPFL, client half (Gez & Cohen, "Masked Pruning over FL", arXiv 2312.03889)."""

from __future__ import annotations

from clients.client import Client
from clients.methods.fedavg import train_weights
from clients.replica import follow_mask
from mpfl.ballot import cast_ballot
from mpfl.exchange import Codecs, Sync, mask_context
from mpfl.wire.errors import WireError
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.masks import encode_mask


def handle(request: Frame, client: Client) -> Frame:
    """Answer a mask request with a ballot and a training request with surviving values."""
    if request.kind is Kind.MASK_REQUEST:
        return _ballot(request, client)
    if request.kind is Kind.TRAIN_REQUEST:
        experiment = client.world.experiment
        steps = experiment.federation.rounds - experiment.prune.rounds
        return train_weights(request, client, steps, Codecs.of(experiment.wire))
    raise WireError("kind", f"mpfl does not answer {request.kind.name}")


def _ballot(request: Frame, client: Client) -> Frame:
    world, config = client.world, client.world.experiment.prune
    sync = Sync.unpack(request.sections.get(Section.CONFIG, b""))
    mask = follow_mask(world, client.state, request, sync)
    ballot, result = cast_ballot(
        world,
        client.samples,
        mask,
        round_number=request.round,
        client=client.partition,
    )
    within, classes = mask_context(world.classes, mask, subset=not config.regrow)
    payload = encode_mask(
        ballot, within=within, classes=classes, codec=world.experiment.wire.mask_codec
    )
    sections = {Section.MASK: payload, Section.METRICS: client.metrics(result)}
    return Frame(Kind.BALLOT, request.round, sections)
