"""Refuse, before any work, what a run would only stumble over later."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mpfl.config import Experiment, TrainConfig, WireConfig
from mpfl.data import Dataset
from mpfl.errors import InputError, keyed, shown
from mpfl.faults.attacks import check_attack
from mpfl.faults.stress import SPOILERS, spoil, stressed_clients
from mpfl.mask import Layout, Mask
from mpfl.ranking.rankings import RANKINGS
from mpfl.ranking.schedule import density_path
from mpfl.seeding import numpy_rng
from mpfl.training.decay import learning_rate
from mpfl.training.losses import gradient_named, loss_named
from mpfl.vote import VoteContext, decide, trim
from mpfl.wire.masks import check_mask_codec
from mpfl.wire.values import ValueContext, value_codec

_TRIAL_BALLOTS = 100  # comparing all pairs of more would take longer than it is worth


def check_pruning(experiment: Experiment) -> None:
    """Check ranking, schedule, vote rule and regrowth.

    Raises
    ------
    InputError
        Naming the key, what was got and what is allowed.
    """
    config = experiment.prune
    asked = experiment.federation.clients_per_round or experiment.data.clients
    ballots = min(asked, config.voters or asked)
    with keyed("prune.ranking"):
        RANKINGS.bind(config.ranking)
    with keyed("prune.schedule"):
        density_path(config.schedule, config.density, config.rounds)
    with keyed("prune.vote"):
        _trial_vote(config.vote, ballots)
    if config.regrow and config.granularity == "filter":
        raise InputError(
            "prune.regrow: a removed filter has neither inputs nor outputs, so nothing would ever "
            "train it; use prune.granularity 'weight' or 'kernel'"
        )


def check_training(train: TrainConfig) -> None:
    """Check decay of the learning rate, loss and gradient hook; InputError naming the key."""
    with keyed("train.lr_decay"):
        learning_rate(train, 0, 1)
    loss_named(train)
    gradient_named(train)


def check_codecs(wire: WireConfig) -> None:
    """Check the names and arguments of all codecs, and try each once; InputError naming the key."""
    with keyed("wire.mask_codec"):
        check_mask_codec(wire.mask_codec)
    for key in ("up", "down"):
        with keyed(f"wire.{key}"):
            _trial_values(getattr(wire, key) or "float32")


def check_stress(experiment: Experiment, data: Dataset) -> None:
    """Check that the data can be spoiled in the way asked for; InputError if not."""
    faults = experiment.faults
    with keyed("faults.stress_kind"):
        SPOILERS.bind(faults.stress_kind)
    if stressed_clients(experiment.seed, experiment.data.clients, faults.stress):
        sample = data.train.subset(torch.zeros(1, dtype=torch.int64))
        spoil(sample, faults.stress_kind, numpy_rng(0, "stress"), data.classes)


def check_fit(module: nn.Module, name: str, data: Dataset) -> None:
    """Check that a network of the library reads what the data has, and answers what it asks.

    Raises
    ------
    InputError
        For tokens and a network of numbers or the reverse, and for targets of another kind.
    """
    reads_tokens = any(isinstance(part, nn.Embedding) for part in module.modules())
    if reads_tokens != data.train.has_tokens:
        kinds = ("numbers", "tokens") if data.train.has_tokens else ("tokens", "numbers")
        raise InputError(f"{name!r} reads {kinds[0]}, and {data.name} has {kinds[1]}")
    every_step, asked = getattr(module, "every_step", False), data.train.targets.dim() == 2
    if every_step != asked:
        kinds = ("one class", "every position") if asked else ("every position", "one class")
        text = f"says {kinds[0]} of a sequence, and {data.name} asks for {kinds[1]}"
        raise InputError(f"{name!r} {text}")


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


def _trial_values(spec: str) -> None:
    """Write and read a few values, in a segment of six and one of two."""
    codec, segments, context = value_codec(spec), (6, 2), ValueContext(shapes=((2, 3), (2,)))
    values = np.linspace(-1, 1, 8, dtype=np.float32)
    rng = numpy_rng(0, "trial")
    members = ("relative", "feedback", "bits_each", "encode", "decode", "bound_bytes")
    if lacking := [name for name in members if not hasattr(codec, name)]:
        raise InputError(f"{spec!r} has no {', '.join(lacking)}, as every value codec has")
    written = values.copy()
    payload = codec.encode(written, segments, rng, context)
    if not np.array_equal(written, values):
        raise InputError(f"{spec!r} changes the values that it is given")
    if not isinstance(payload, bytes):
        raise InputError(f"{spec!r} writes {shown(payload)}, expected bytes")
    read = codec.decode(payload, segments, context)
    if getattr(read, "dtype", None) != np.float32 or read.shape != values.shape:
        raise InputError(f"{spec!r} reads {shown(read)}, expected float32[{len(values)}]")
    bound = codec.bound_bytes(payload, segments, context)
    if not (np.isfinite(read).all() and 0 <= bound < np.inf):
        raise InputError(f"{spec!r} reads what is not finite, or has no bound: {shown(bound)}")


def _trial_vote(rule: str, ballots: int) -> None:
    layout = Layout(("trial",), (1,))
    full = Mask.full(layout)
    if ballots <= _TRIAL_BALLOTS:
        trim([full] * ballots, rule)
    context = VoteContext(layout, 1.0, full, np.zeros(1, np.float32))
    decide(rule, np.ones(1, np.uint32), 1, context)
