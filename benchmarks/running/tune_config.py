"""The table ``[tune]`` of a configuration: how much is tuned, on which seed, over which spaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mpfl.nested import build, fail

_MOST_TRIALS = 10_000


@dataclass(frozen=True)
class TuneConfig:
    """The table ``[tune]`` of a configuration."""

    methods: list[str] = field(default_factory=list)
    """What is tuned, as in ``compare.methods`` (empty: those; ``compare.baseline`` always is)."""
    trials: int = 12
    """Runs for every method and each combination of swept values, at least 1."""
    seed: int = 10
    """Seed of all trials; none of ``compare.seeds``."""
    confirm: list[int] = field(default_factory=list)
    """Further seeds, none of those: on each the `finalists` best settings of every method run once
    more, and what is best on average over all of them is chosen."""
    finalists: int = 2
    """See `confirm`; at least 1. One that comes to no result there makes room for the next best."""
    validation: float = 0.1
    """Share of the training data to choose by where ``data.validation`` is 0, between 0 and 1."""
    space: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Method, recipe or variant (``"*"``: all of them) → dotted keys → what to try: a list of
    values, ``log(low, high)``, ``uniform(low, high)`` or ``whole(low, high)``; see docs/tuning.md
    for what is tuned without. ``"wire.up" = "step({size}, 0.6)"`` needs a line for ``size``."""


def tune_config(table: Mapping[str, Any]) -> TuneConfig:
    """Return the table ``[tune]`` of a configuration; InputError for what is wrong in it."""
    config = build(TuneConfig, table.get("tune", {}), "tune.")
    if not 1 <= config.trials <= _MOST_TRIALS:
        fail("tune.trials", config.trials, f"1 to {_MOST_TRIALS:,}")
    if not 0 <= config.seed < 2**32:
        fail("tune.seed", config.seed, "0 to 2^32 - 1")
    seeds = [config.seed, *config.confirm]
    if len(set(seeds)) < len(seeds) or not all(0 <= seed < 2**32 for seed in seeds):
        fail("tune.confirm", config.confirm, "other seeds than tune.seed, each once, 0 to 2^32 - 1")
    if not 1 <= config.finalists <= _MOST_TRIALS:
        fail("tune.finalists", config.finalists, f"1 to {_MOST_TRIALS:,}")
    if not 0 < config.validation < 1:
        fail("tune.validation", config.validation, "a share, 0 < validation < 1")
    return config
