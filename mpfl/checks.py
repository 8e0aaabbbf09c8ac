"""Refuse, before any work, what a run would only stumble over later."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from mpfl.config import Experiment, WireConfig
from mpfl.data import Dataset
from mpfl.errors import InputError
from mpfl.faults.attacks import check_attack
from mpfl.faults.stress import spoil, stressed_clients
from mpfl.mask import Layout, Mask
from mpfl.ranking.rankings import RANKINGS
from mpfl.ranking.schedule import density_path
from mpfl.registry import parse_spec
from mpfl.seeding import numpy_rng
from mpfl.vote import VoteContext, decide, needs_ballots, trim
from mpfl.wire.masks import MASK_CODECS
from mpfl.wire.values import value_codec

_TRIAL_BALLOTS = 100  # comparing all pairs of more would take longer than it is worth


def check_pruning(experiment: Experiment) -> None:
    """Check ranking, schedule, vote rule and regrowth.

    Raises
    ------
    InputError
        Naming the key, what was got and what is allowed.
    """
    config = experiment.prune
    ballots = experiment.federation.clients_per_round or experiment.data.clients
    name, arguments = parse_spec(config.ranking)
    _named("prune.ranking", lambda: RANKINGS[name])
    if arguments:
        raise InputError(f"prune.ranking: {name!r} takes no argument, got {config.ranking!r}")
    _named("prune.schedule", lambda: density_path(config.schedule, config.density, config.rounds))
    _named("prune.vote", lambda: _trial_vote(config.vote, ballots))
    if config.regrow and config.granularity == "filter":
        raise InputError(
            "prune.regrow: a removed filter has neither inputs nor outputs, so nothing would ever "
            "train it; use prune.granularity 'weight' or 'kernel'"
        )


def check_codecs(wire: WireConfig) -> None:
    """Check the names and arguments of all codecs; InputError naming the key."""
    if wire.mask_codec != "auto":
        _named("wire.mask_codec", lambda: MASK_CODECS[wire.mask_codec])
    _named("wire.uplink_values", lambda: value_codec(wire.uplink_values))
    _named("wire.downlink_values", lambda: value_codec(wire.downlink_values))


def check_stress(experiment: Experiment, data: Dataset) -> None:
    """Check that the data can be spoiled in the way asked for; InputError if not."""
    faults = experiment.faults
    if stressed_clients(experiment.seed, experiment.data.clients, faults.stress):
        sample = data.train.subset(torch.zeros(1, dtype=torch.int64))
        spoil(sample, faults.stress_kind, numpy_rng(0, "stress"), data.classes)


def check_faults(experiment: Experiment, layout: Layout) -> None:
    """Check the attack, and that a round can have as many replies as it needs.

    Raises
    ------
    InputError
        Naming the key, what was got and what is allowed.
    """
    check_attack(experiment.faults.attack, layout)
    asked = experiment.federation.clients_per_round or experiment.data.clients
    least = experiment.federation.min_replies
    if least > asked:
        raise InputError(
            f"federation.min_replies: got {least}, expected at most {asked}, "
            "the clients asked in a round"
        )


def _trial_vote(rule: str, ballots: int) -> None:
    layout = Layout(("trial",), (1,))
    full = Mask.full(layout)
    if needs_ballots(rule) and ballots <= _TRIAL_BALLOTS:
        trim([full] * ballots, rule)
    context = VoteContext(layout, 1.0, full, np.zeros(1, np.float32))
    decide(rule, np.ones(1, np.uint32), 1, context)


def _named(key: str, check: Callable[[], object]) -> None:
    try:
        check()
    except InputError as error:
        raise InputError(f"{key}: {error}") from None
