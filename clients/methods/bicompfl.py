"""FedPM whose masks travel as numbers of draws both ways; see ``server/methods/bicompfl.py``."""

from __future__ import annotations

from functools import partial

import numpy as np

from clients.client import Client
from clients.methods.fedpm import sent_buffers
from clients.methods.klms import numbered_draw
from clients.replica import Uninformed
from mpfl.training.posterior import BetaPosterior, prior_of, shared_draws
from mpfl.vote import Tally
from mpfl.wire.entropy.levels import decode_levels
from mpfl.wire.errors import WireError
from mpfl.wire.frame import Frame, Section
from mpfl.wire.sections import SNAPSHOT, links_of
from mpfl.wire.values.draws import read_round
from mpfl.world import World


def handle(request: Frame, client: Client) -> Frame:
    """Work θ out, learn scores from it, and answer with the number of a mask."""
    request.check_sections({Section.CONFIG}, {Section.VALUES})
    buffers, payload = sent_buffers(request, client)
    client.state.posterior = _followed(request, client, payload)
    return numbered_draw(request, client, *client.state.posterior.levels(), buffers)


def _followed(request: Frame, client: Client, payload: bytes) -> BetaPosterior:
    """Return the posterior after a request; a client may already hold some of the rounds."""
    world, sync = client.world, request.sync
    if sync.flags & SNAPSHOT:
        kept, ballots = decode_levels(payload, world.layout.units)
        return BetaPosterior(kept.astype(np.uint32), ballots, sync.values_version)
    links, base = list(links_of(payload)), sync.values_base
    if len(links) != sync.values_version - base:
        raise WireError("values", f"{len(links)} rounds do not lead to the announced version")
    posterior = client.state.posterior
    if posterior is None or not base <= posterior.updates <= sync.values_version:
        if base:
            raise Uninformed(f"holds no θ that leads on from version {base}")
        posterior = BetaPosterior.flat(world.layout.total)
    for link in links[posterior.updates - base :]:
        before = posterior
        key = before.updates, before.ballots, before.kept.tobytes(), link
        posterior = world.posteriors.get(key, partial(_after, world, before, link))
    return posterior


def _after(world: World, before: BetaPosterior, link: bytes) -> BetaPosterior:
    """Return the posterior after a round's replies."""
    experiment, tally = world.experiment, Tally(world.layout)
    prior = prior_of(*before.levels())
    round_number, payloads = read_round(link, experiment.data.clients)
    for sender, payload in payloads.items():
        shared = shared_draws(experiment.seed, round_number, sender)
        tally.add(world.options.decode(payload, prior, world.layout, shared))
    kept, ballots = tally.counts(), tally.ballots
    return before.after(kept, ballots, experiment.comparator.fedpm_reset)
