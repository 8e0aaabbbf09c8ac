"""What a malicious client votes.

Every draw has a stream of its own, keyed by round and client, so that a run is the same whatever
the number of workers and wherever it was restarted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfl.config import Experiment
from mpfl.errors import keyed
from mpfl.mask import Layout, Mask
from mpfl.registry import Registry, unknown_name
from mpfl.seeding import drawn_clients, numpy_rng


def byzantine_clients(experiment: Experiment) -> frozenset[int]:
    """Return the malicious clients: round(share · clients), the same all run long.

    With the same seed, a smaller share gives a subset of those of a larger one.
    """
    clients, share = experiment.data.clients, experiment.faults.byzantine
    return drawn_clients(experiment.seed, "byzantine clients", clients, share)


@dataclass(frozen=True)
class Forgery:
    """What a malicious client works with.

    Attributes
    ----------
    ballot
        What it would vote for, were it honest.
    allowed
        The units that a ballot of this round may keep.
    share
        About what share of those an honest ballot keeps; known to all clients.
    own, common
        A stream of this client and one of the round, the same for all conspirators.
    """

    ballot: Mask
    allowed: Mask
    share: float
    own: np.random.Generator
    common: np.random.Generator


def at_random(forgery: Forgery) -> Mask:
    """As many units of every layer as an honest ballot, drawn at random."""
    return _draw(forgery.allowed, forgery.ballot.counts(), forgery.own)


def inverted(forgery: Forgery) -> Mask:
    """Exactly what an honest ballot drops."""
    return forgery.allowed & ~forgery.ballot


def colluding(forgery: Forgery) -> Mask:
    """The same random ballot, of the density of an honest one, from all conspirators."""
    counts = [round(forgery.share * units) for units in forgery.allowed.counts()]
    return _draw(forgery.allowed, counts, forgery.common)


def layer(forgery: Forgery, name: str) -> Mask:
    """An honest ballot that drops one whole layer."""
    layers = forgery.ballot.layers()
    if name not in layers:
        raise unknown_name("layer", name, layers)
    layers[name] = np.zeros_like(layers[name])
    return Mask.from_layers(layers)


ATTACKS: Registry[Callable[..., Mask]] = Registry(
    "attack",
    {"random": at_random, "inverted": inverted, "colluding": colluding, "layer": layer},
    given=1,
)
"""(what a malicious client knows, and its arguments) -> the ballot it sends instead."""


def forge(
    experiment: Experiment,
    ballot: Mask,
    allowed: Mask,
    *,
    share: float,
    round_number: int,
    client: int,
) -> Mask:
    """Return the ballot that a client sends: its own, or if it is malicious another.

    Parameters
    ----------
    ballot, allowed, share
        See `Forgery`.
    """
    if client not in byzantine_clients(experiment):
        return ballot
    forgery = Forgery(
        ballot=ballot,
        allowed=allowed,
        share=min(share, 1.0),
        own=numpy_rng(experiment.seed, "attack", round_number, client),
        common=numpy_rng(experiment.seed, "conspiracy", round_number),
    )
    return ATTACKS.bind(experiment.faults.attack)(forgery)


def check_attack(attack: str, layout: Layout) -> None:
    """Try an attack on layers of one unit each; InputError naming the key if it is none."""
    one = Mask.full(Layout(layout.names, (1,) * len(layout.names)))
    rng = numpy_rng(0, "attack")
    with keyed("faults.attack"):
        ATTACKS.bind(attack)(Forgery(one, one, 1.0, rng, rng))


def _draw(allowed: Mask, counts: list[int], rng: np.random.Generator) -> Mask:
    keep: dict[str, NDArray[np.bool_]] = {}
    for (name, units), count in zip(allowed.layers().items(), counts, strict=True):
        keep[name] = np.zeros_like(units)
        places = np.flatnonzero(units)
        keep[name][rng.permutation(places)[:count]] = True
    return Mask.from_layers(keep)
