"""LotteryFL, client half; see the server half."""

from __future__ import annotations

import numpy as np

from clients.client import Client
from clients.replica import ClientState, Uninformed
from mpfl.mask import Mask
from mpfl.ranking.rankings import rank
from mpfl.ranking.schedule import density_path
from mpfl.training.decay import learning_rate
from mpfl.training.local import evaluate
from mpfl.wire.errors import WireError
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.masks import decode_mask
from mpfl.world import World


def handle(request: Frame, client: Client) -> Frame:
    """Prune the ticket if it is good enough already, train it, and answer with its weights."""
    if request.kind is not Kind.TRAIN_REQUEST:
        raise WireError("kind", f"lotteryfl does not answer {request.kind.name}")
    world, experiment = client.world, client.world.experiment
    sync = request.sync
    values = {Section.VALUES} if sync.values_version else set()
    masks = {Section.MASK} if sync.mask_version else set()
    request.check_sections({Section.CONFIG, *values}, masks)
    held = _held(world, client.state, request)
    start = _received(world, held, request)
    ticket = _pruned(client, held, start) if sync.values_version and not client.idle else held
    footprint = world.footprint(ticket)
    if ticket != held:
        start = world.initial  # rewind
    rounds = experiment.federation.rounds
    rate = learning_rate(experiment.train, sync.step, rounds)
    result = client.train(start, request.round, mask=ticket, lr=rate)
    trained, known = world.model.read_model()[footprint.keep], world.initial[footprint.keep]
    channel, rng = world.channel("up", footprint), client.rng("uplink", request.round)
    sections = {
        Section.VALUES: channel.write(trained, known, rng, progress=sync.step / rounds),
        Section.METRICS: client.metrics(result),
    }
    if ticket != held:
        sections[Section.MASK] = world.encode_mask(ticket, held)
    version = sync.mask_version
    # The mask before, too: the server may never get the reply.
    client.state.masks = {version: held, version + (ticket != held): ticket}
    return Frame(Kind.UPDATE, request.round, sections)


def _held(world: World, state: ClientState, request: Frame) -> Mask:
    """Return this client's own mask of the version that the server last heard of."""
    if Section.MASK in request.sections:
        return decode_mask(request.sections[Section.MASK], world.layout, classes=world.classes)
    version = request.sync.mask_version
    if version == 0:
        return Mask.full(world.layout)
    if version not in state.masks:
        raise Uninformed(f"holds masks {sorted(state.masks)}, the request builds on {version}")
    return state.masks[version]


def _received(world: World, held: Mask, request: Frame) -> np.ndarray:
    start = world.initial.copy()
    if request.sync.values_version:
        channel = world.channel("down", world.footprint(held))
        keep, payload = channel.footprint.keep, request.sections.get(Section.VALUES, b"")
        start[keep] = channel.arrived(payload, start[keep])
    return start


def _pruned(client: Client, held: Mask, start: np.ndarray) -> Mask:
    """Return the next smaller ticket, or `held` if the network is not good enough or thin enough.

    Its place on the experiment's path of densities follows from its own density; steps that come
    to as many units as it has are passed over.
    """
    world, config = client.world, client.world.experiment.prune
    path = density_path(config.schedule, config.density, config.rounds)
    smaller = [density for density in path if density < held.density()]
    if not smaller:
        return held
    count = world.structure.parameters.total
    values = np.where(world.structure.parameter_mask(held), start[:count], np.float32(0))
    world.model.load(values, client.first_buffers(start[count:]))
    local = world.experiment.model.batch_norm == "local"
    result = evaluate(world.model, client.samples, batch_statistics=local)
    if result.accuracy < config.gate:
        return held
    scores = world.structure.unit_values(values)
    ranking = "layer" if config.by_coverage else config.ranking
    least, widths = config.min_units, world.widths
    tickets = (
        rank(scores, world.layout, density, held, ranking, least, widths=widths)
        for density in smaller
    )
    return next((ticket for ticket in tickets if ticket.count() < held.count()), held)
