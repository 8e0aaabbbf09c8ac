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
from mpfl.errors import InputError
from mpfl.mask import Layout, Mask
from mpfl.registry import Registry, parse_spec, unknown_name
from mpfl.seeding import numpy_rng


def byzantine_clients(experiment: Experiment) -> frozenset[int]:
    """Return the malicious clients: round(share · clients), the same all run long.

    With the same seed, a smaller share gives a subset of those of a larger one.
    """
    clients, share = experiment.data.clients, experiment.faults.byzantine
    if not share:
        return frozenset()
    order = numpy_rng(experiment.seed, "byzantine clients").permutation(clients)
    return frozenset(int(client) for client in order[: int(share * clients + 0.5)])


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
    layer
        The argument of ``layer(name)``.
    own, common
        A stream of this client and one of the round, the same for all conspirators.
    """

    ballot: Mask
    allowed: Mask
    share: float
    layer: str
    own: np.random.Generator
    common: np.random.Generator


def _random(forgery: Forgery) -> Mask:
    """As many units of every layer as an honest ballot, drawn at random."""
    return _draw(forgery.allowed, forgery.ballot.counts(), forgery.own)


def _inverted(forgery: Forgery) -> Mask:
    """Exactly what an honest ballot drops."""
    return forgery.allowed & ~forgery.ballot


def _colluding(forgery: Forgery) -> Mask:
    """The same random ballot, of the density of an honest one, from all conspirators."""
    counts = [round(forgery.share * units) for units in forgery.allowed.counts()]
    return _draw(forgery.allowed, counts, forgery.common)


def _layer(forgery: Forgery) -> Mask:
    """An honest ballot that drops one whole layer."""
    layers = forgery.ballot.layers()
    layers[forgery.layer] = np.zeros_like(layers[forgery.layer])
    return Mask.from_layers(layers)


ATTACKS: Registry[Callable[[Forgery], Mask]] = Registry(
    "attack",
    {"random": _random, "inverted": _inverted, "colluding": _colluding, "layer": _layer},
)


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
    name, arguments = parse_spec(experiment.faults.attack)
    forgery = Forgery(
        ballot=ballot,
        allowed=allowed,
        share=min(share, 1.0),
        layer=arguments[0] if arguments else "",
        own=numpy_rng(experiment.seed, "attack", round_number, client),
        common=numpy_rng(experiment.seed, "conspiracy", round_number),
    )
    return ATTACKS[name](forgery)


def check_attack(attack: str, layout: Layout) -> None:
    """Check the name and the argument of an attack.

    Raises
    ------
    InputError
        Naming the key, what was got and what is allowed.
    """
    try:
        name, arguments = parse_spec(attack)
        ATTACKS[name]
        if name != "layer":
            if arguments:
                raise InputError(f"{attack!r}: {name} takes no argument")
        elif len(arguments) != 1:
            raise InputError(f"{attack!r} takes the name of one layer, as in layer(fc1)")
        elif arguments[0] not in layout.names:
            raise unknown_name("layer", arguments[0], layout.names)
    except InputError as error:
        raise InputError(f"faults.attack: {error}") from None


def _draw(allowed: Mask, counts: list[int], rng: np.random.Generator) -> Mask:
    keep: dict[str, NDArray[np.bool_]] = {}
    for (name, units), count in zip(allowed.layers().items(), counts, strict=True):
        keep[name] = np.zeros_like(units)
        places = np.flatnonzero(units)
        keep[name][rng.permutation(places)[:count]] = True
    return Mask.from_layers(keep)
