"""The table ``[compare]`` of a configuration: what is compared, and what nobody can run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.results.published import Published, matches
from benchmarks.running.tune_config import tune_config
from mpfl.config import Experiment, to_mapping
from mpfl.errors import InputError, shown
from mpfl.nested import build, fail

_MOST_CELLS = 10_000
_LONGEST_LABEL = 100


@dataclass(frozen=True)
class CompareConfig:
    """The table ``[compare]`` of a configuration."""

    methods: list[str] = field(default_factory=lambda: ["mpfl", "fedavg", "centralized"])
    """Methods, recipes (``mpfl list recipes``), or names of variants."""
    seeds: list[int] = field(default_factory=lambda: [0])
    """Every method runs once for each."""
    baseline: str = "fedavg"
    """What the others are measured against."""
    margin: float = 0.005
    """The target is the accuracy the baseline holds at its end minus this, 0 <= margin < 1."""
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name → dotted keys that differ, e.g. ``{"method": "mpfl", "prune.density": 0.05}``."""
    sweep: dict[str, list[Any]] = field(default_factory=dict)
    """Dotted key → values; every combination is run. Those of ``method`` replace ``methods``."""
    adjust: list[dict[str, dict[str, Any]]] = field(default_factory=list)
    """Rules ``{"when": {...}, "set": {...}}`` of dotted keys: the cells that have all the values of
    ``when`` get those of ``set``, in order. There, ``label`` is the method's or variant's name."""
    published: list[Published] = field(default_factory=list)
    """Accuracies of others, shown beside what was reached: tables of ``when`` as in a rule,
    ``accuracy``, ``source`` and, if one likes, ``std``, ``tolerance`` and ``round`` (``best`` test
    round, or the ``last``)."""
    best_of: list[str] = field(default_factory=list)
    """Methods or variants, such as the baseline at 1, 2 and 5 local epochs: the one that needs the
    fewest bytes to the target, in each setting, is a second baseline."""
    ladder: dict[str, str] = field(default_factory=dict)
    """What a step adds → the method or variant that has it, in order, from the baseline to the
    method: the report says what each contributes to the bytes saved."""
    wire: str = ""
    """Codec of all weights, up and down, in every cell, whatever else says (empty: each has its
    own). Of methods that differ by their wire alone only the baseline, or the first, is run."""


def split_table(table: Mapping[str, Any]) -> tuple[dict[str, Any], CompareConfig]:
    """Separate ``[compare]`` from the experiment's tables; InputError for what is wrong in it.

    ``[tune]`` is looked at as well, and left out.
    """
    tune_config(table)
    rest = {key: value for key, value in table.items() if key not in ("compare", "tune")}
    config = build(CompareConfig, table.get("compare", {}), "compare.")
    if config.wire and config.sweep.keys() & {"wire.up", "wire.down"}:
        fail("compare.wire", config.wire, "nothing, because the sweep sets the wire of its cells")
    if "method" in config.sweep:
        config = _swept_methods(config)
    if not 0 <= config.margin < 1:
        fail("compare.margin", config.margin, "a share, 0 <= margin < 1")
    for rule in config.adjust:
        if set(rule) != {"when", "set"}:
            fail("compare.adjust", rule, "the tables when and set")
    for entry in config.published:
        _check_published(entry)
    _check_seeds(config)
    _check_axes(config)
    _check_ladder(config)
    for label in (*config.methods, *config.variants):
        _check_label(label)
    return rest, config


def _check_published(entry: Published) -> None:
    for key in ("accuracy", "std", "tolerance"):
        if not 0 <= getattr(entry, key) <= 1:
            fail(f"compare.published.{key}", getattr(entry, key), "a share, 0 to 1")
    if entry.round not in ("best", "last"):
        fail("compare.published.round", entry.round, "best or last")
    if not entry.source.strip():
        fail("compare.published.source", entry.source, "who published it, and where")
    matches(entry.when, "", to_mapping(Experiment()))


def _swept_methods(config: CompareConfig) -> CompareConfig:
    """Return the same with the values of a swept ``method`` in place of the methods."""
    sweep = {key: values for key, values in config.sweep.items() if key != "method"}
    methods = [str(value) for value in config.sweep["method"]]
    return replace(config, methods=methods, sweep=sweep)


def _check_seeds(config: CompareConfig) -> None:
    """Refuse a second place to set the seed: a cell has the one that its folder's name says."""
    found: dict[str, Mapping[str, Any]] = {"compare.sweep": config.sweep}
    found |= {f"compare.variants.{name}": keys for name, keys in config.variants.items()}
    found |= {f"compare.adjust[{n}].set": rule["set"] for n, rule in enumerate(config.adjust)}
    for place, keys in found.items():
        if "seed" in keys:
            raise InputError(f"{place}.seed: all methods run with the same seeds, compare.seeds")


def _check_axes(config: CompareConfig) -> None:
    """Refuse what nobody can run: no value or the same one twice on an axis, far too many cells."""
    swept = {f"compare.sweep.{key}": values for key, values in config.sweep.items()}
    axes: dict[str, list[Any]] = {"compare.methods": config.methods, "compare.seeds": config.seeds}
    axes |= swept
    count = math.prod(map(len, axes.values()))
    if count > _MOST_CELLS:
        raise InputError(f"compare: {count:,} runs, expected at most {_MOST_CELLS:,}")
    for key, values in axes.items():
        if not values:
            fail(key, [], "at least one")
        for place, value in enumerate(values):
            if value in values[:place]:
                raise InputError(f"{key}: {shown(value)} stands there twice")


def _check_ladder(config: CompareConfig) -> None:
    labels = list(config.ladder.values())
    if len(labels) == 1 or len(set(labels)) < len(labels):
        fail("compare.ladder", config.ladder, "two or more steps, each another method or variant")
    for step in config.ladder:
        if not step.isprintable() or not 0 < len(step.strip()) == len(step) <= _LONGEST_LABEL:
            fail("compare.ladder", step, f"printable steps of 1 to {_LONGEST_LABEL} characters")


def _check_label(label: str) -> None:
    if not label.isprintable() or not 0 < len(label.strip()) == len(label) <= _LONGEST_LABEL:
        expected = f"printable names of 1 to {_LONGEST_LABEL} characters, no spaces at their ends"
        fail("compare.methods, compare.variants", label, expected)
