"""Which keys of a configuration have no effect on a run, and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatch
from itertools import pairwise

from mpfl.config import Experiment, PruneConfig, to_mapping
from mpfl.errors import InputError
from mpfl.faults.attacks import byzantine_clients
from mpfl.faults.stress import stressed_clients
from mpfl.mask import Mask
from mpfl.methods import Codecs
from mpfl.nested import dotted
from mpfl.ranking.schedule import density_path
from mpfl.registry import parse_spec
from mpfl.regrow import regrowth
from mpfl.wire.values import value_codec
from mpfl.world import World
from server.methods.averaging import WEIGHTS
from server.methods.base import ServerMethod

DECLARED = ("train.*", "prune.*", "wire.*", "comparator.*")
"""What `ServerMethod.reads` speaks about; whatever else there is, every method reads."""
_WITHOUT_CLIENTS = (
    *("data.clients", "data.partition", "federation.clients_per_round", "federation.min_replies"),
    *("faults.*", "engine.workers", "engine.vectorised", "engine.timeout"),
    *("engine.record_ballots", "stop.byte_budget"),
)
_WITHOUT_DATA = ("magnitude", "movement", "bn_scale", "random")
_WITHOUT_SIZE = ("majority", "unanimous", "any", "quorum", "histogram", "layer_threshold")
_WITHOUT_TIES = (
    *("budget", "unanimous", "any", "quorum"),
    *("layer_budget", "layer_mean", "layer_threshold"),
)


def ignored_settings(world: World, method: ServerMethod) -> dict[str, str]:
    """Return the dotted keys that have no effect on a run, whatever their value → why.

    Raises
    ------
    InputError
        If the method says that it reads a key that is none.
    """
    keys = list(dotted(to_mapping(world.experiment)))
    found: dict[str, str] = {}
    for patterns, why in [*_of_method(world.experiment, method), *_of_others(world)]:
        found |= {key: why for key in keys if key not in found and _any(key, patterns)}
    if world.channel("down", world.footprint(Mask.full(world.layout))).grid:
        found.pop("wire.down", None)  # weights start on its grid, whether they travel or not
    return found


def told_settings(
    experiment: Experiment, ignored: Mapping[str, str], given: Collection[str] = ()
) -> dict[str, str]:
    """Return of the ignored keys those that somebody set: given, or with no default value.

    An empty text asks for nothing, even where it is given.
    """
    usual, now = dotted(to_mapping(Experiment())), dotted(to_mapping(experiment))
    return {
        key: why
        for key, why in ignored.items()
        if now.get(key) != usual.get(key) or (key in given and now.get(key) != "")
    }


def doubtful_settings(experiment: Experiment) -> list[str]:
    """Return what is hardly meant although every key is read, a line each."""
    prune, rounds = experiment.prune, experiment.federation.rounds
    own = experiment.method == "mpfl"
    steps = {"mpfl": rounds, "fedavg_prune": rounds, "lotteryfl": rounds - 1}
    able = steps.get(experiment.method)
    if able is None:
        return []
    found = []
    if own and prune.regrow and parse_spec(prune.vote)[0] in _WITHOUT_SIZE:
        found.append(
            f"prune.regrow: {prune.vote} aims at no density, so that masks may shrink or grow"
        )
    if own and prune.converged:
        return found + _early(prune)
    if experiment.method == "fedavg_prune" and prune.schedule == "one_shot":
        able = rounds if prune.rounds <= rounds else 0
    if prune.rounds > able and not prune.by_coverage:
        path = density_path(prune.schedule, prune.density, prune.rounds)
        reached = path[able - 1] if able else 1.0
        found.append(
            f"prune.rounds: {prune.rounds} steps to density {prune.density:g}, but of "
            f"{rounds} rounds only {able} can prune: it ends at {reached:.3g}"
        )
    elif own and prune.rounds >= rounds:
        text = f"prune.rounds: all {rounds} rounds are of phase 1, so that no weight is trained"
        found.append(text)
    return found


def _early(prune: PruneConfig) -> list[str]:
    """Return that the schedule itself moves the mask by less than what ends phase 1, if it does."""
    path = [1.0, *density_path(prune.schedule, prune.density, prune.rounds)]
    for before, after in pairwise(path):
        move = 1 - after / before
        if not prune.by_coverage and prune.density < after and move < prune.converged:
            return [
                f"prune.converged: a step of the schedule moves the mask by {move:.3g}, less than "
                f"{prune.converged:g}: phase 1 may end at density {after:.3g}"
            ]
    return []


def _any(key: str, patterns: Collection[str]) -> bool:
    return any(fnmatch(key, pattern) for pattern in patterns)


Found = list[tuple[Collection[str], str]]
"""Patterns of keys without effect, and why they have none; the first reason of a key is told."""


def _of_method(experiment: Experiment, method: ServerMethod) -> Found:
    """Return what the method does not read, as its class says."""
    reads = vars(type(method)).get("reads")
    found: Found = []
    if not method.uses_clients:
        found.append((_WITHOUT_CLIENTS, f"{experiment.method} has no clients"))
    if not method.has_ballots:
        found.append((("faults.byzantine", "faults.attack"), f"{experiment.method} has no ballots"))
    if reads is not None:
        every = dotted(to_mapping(experiment))
        for pattern in reads:
            if not any(_any(key, [pattern]) for key in every):
                name = parse_spec(experiment.method)[0]
                raise InputError(f"method {name!r}: it reads {pattern!r}, and there is no such key")
        keys = [key for key in every if _any(key, DECLARED)]
        unread = [key for key in keys if not _any(key, reads)]
        found.append((unread, f"{experiment.method} does not read it"))
    return found


def _of_others(world: World) -> Found:
    """Return what other keys, or the network, leave without effect."""
    experiment = world.experiment
    rules: list[tuple[bool, Collection[str], str]] = [
        (world.structure.buffers.total == 0, ("model.batch_norm",), "the model has no statistics"),
        *_of_training(experiment),
        *_of_pruning(experiment),
        *_of_codecs(Codecs.of(experiment)),
        *_of_faults(experiment),
        *_of_stopping(experiment),
    ]
    return [(keys, why) for applies, keys, why in rules if applies]


Rules = list[tuple[bool, Collection[str], str]]
"""Whether it is so, the keys that have no effect then, and why."""


def _of_training(experiment: Experiment) -> Rules:
    train = experiment.train
    return [
        (train.optimizer == "adam", ("train.momentum", "train.nesterov"), "adam has its own"),
        (train.momentum == 0, ("train.nesterov",), "there is no momentum"),
        (experiment.together > 0, ("engine.workers",), "clients are trained in one process"),
    ]


def _of_pruning(experiment: Experiment) -> Rules:
    prune, rounds = experiment.prune, experiment.federation.rounds
    sampled = experiment.federation.clients_per_round or experiment.data.clients
    own, alpha = experiment.method == "mpfl", ("prune.alpha_fc", "prune.alpha_conv")
    exchange = ("prune.regrow_fraction", "prune.regrow_every")
    every = experiment.comparator.prunefl_every
    looks = (
        prune.gate or prune.regrow == "gradient" or parse_spec(prune.score)[0] not in _WITHOUT_DATA
    )
    forged = byzantine_clients(experiment) or _spoiled(experiment)  # some of ρ_t, whatever alpha
    dense = prune.recovery == "rewind" and prune.rounds >= rounds and not prune.converged
    return [
        (not prune.by_coverage, alpha, "prune.ranking is not coverage"),
        (
            own and prune.by_coverage and not forged,
            ("prune.density", "prune.schedule"),
            "coverage goes by alpha",
        ),
        (own and not prune.regrow, exchange, "prune.regrow is off"),
        (own and not _regrows(experiment), ("prune.regrow", *exchange), "its round never comes"),
        (own and not looks, ("prune.score_samples",), f"{prune.score} looks at no sample"),
        (own and prune.voters >= sampled, ("prune.voters",), f"a round asks {sampled} clients"),
        (
            own and parse_spec(prune.vote)[0] in _WITHOUT_TIES,
            ("prune.tie",),
            f"{prune.vote} knows no tied majority",
        ),
        (own and dense, WEIGHTS, "no round trains weights"),
        (
            own and prune.rounds >= rounds and not prune.converged,
            ("train.lr_decay",),
            "phase 1 trains at the first rate",
        ),
        (experiment.wire.mask_codec == "raw", ("wire.mask_classes",), "raw has no statistics"),
        (
            experiment.method == "prunefl" and every >= rounds - 1,
            ("comparator.prunefl_every",),
            "the run is too short for a change of the mask",
        ),
    ]  # fmt: skip


def _of_codecs(codecs: Codecs) -> Rules:
    names = " and ".join(dict.fromkeys((codecs.up, codecs.down)))
    both = value_codec(codecs.up), value_codec(codecs.down)
    return [
        (
            not any(codec.feedback for codec in both),
            ("wire.error_feedback",),
            f"what {names} loses needs no feedback",
        ),
        (
            not any(codec.relative for codec in both),
            ("wire.value_classes",),
            f"with {names} no differences travel",
        ),
    ]


def _regrows(experiment: Experiment) -> bool:
    """Return whether phase 2 has a round of regrowth, if phase 1 is as long as it may be."""
    first = experiment.prune.rounds + 1
    later = range(max(0, experiment.federation.rounds - first + 1))
    return bool(experiment.prune.converged) or any(
        regrowth(experiment, first + step, step) for step in later
    )


def _spoiled(experiment: Experiment) -> frozenset[int]:
    return stressed_clients(experiment.seed, experiment.data.clients, experiment.faults.stress)


def _of_faults(experiment: Experiment) -> Rules:
    faults, clients = experiment.faults, experiment.data.clients
    nobody = f"of {clients} clients that is none"
    forgers = byzantine_clients(experiment)
    spoiled = _spoiled(experiment)
    return [
        (not forgers, ("faults.attack",), "faults.byzantine makes no client malicious"),
        (not forgers and faults.byzantine > 0, ("faults.byzantine",), nobody),
        (not spoiled, ("faults.stress_kind",), "faults.stress spoils nobody's data"),
        (not spoiled and faults.stress > 0, ("faults.stress",), nobody),
    ]


def _of_stopping(experiment: Experiment) -> Rules:
    federation, target = experiment.federation, ("stop.target_accuracy",)
    return [
        (
            federation.eval_every >= federation.rounds,
            target,
            "the model is tested after the last round only",
        ),
        (federation.rounds == 1, ("stop.*",), "there is one round"),
    ]
