"""What keys of a configuration take besides their types."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mpfl.errors import InputError, keyed
from mpfl.nested import fail
from mpfl.registry import parse_spec, unknown_name

_MOST_ROUNDS = 1_000_000
_LARGEST = 1e30  # beyond it the first step leaves the range of float32


@dataclass(frozen=True)
class Rule:
    """What a key takes besides its type.

    Attributes
    ----------
    text
        It in words.
    holds
        (value) -> whether the value is allowed.
    choices
        All texts that are allowed, where that is what the rule says.
    """

    text: str
    holds: Callable[[Any], bool]
    choices: tuple[str, ...] = ()


def _at_least(least: int) -> Rule:
    return Rule(f"at least {least}", lambda value: value >= least)


def _from(least: int, most: int) -> Rule:
    return Rule(f"{least} to {most}", lambda value: least <= value <= most)


def _share(name: str) -> Rule:
    return Rule(f"0 < {name} <= 1", lambda value: 0 < value <= 1)


def _below_one(name: str) -> Rule:
    return Rule(f"0 <= {name} < 1", lambda value: 0 <= value < 1)


def _choice(*choices: str) -> Rule:
    shown = ", ".join(f"`{choice}`" if choice else "empty" for choice in choices)
    return Rule(shown, lambda value: value in choices, choices)


def _readable(spec: str) -> bool:
    parse_spec(spec)
    return True


_ROUNDS = _from(1, _MOST_ROUNDS)
_POSITIVE = Rule("a positive number, at most 1e30", lambda value: 0 < value <= _LARGEST)
_NOT_NEGATIVE = Rule("a number from 0 to 1e30", lambda value: 0 <= value <= _LARGEST)
_PROBABILITY = Rule("0 to 1", lambda value: 0 <= value <= 1)
_SPEC = Rule("a name, or name(argument, ...)", _readable)

RULES: Mapping[str, Rule] = {
    "method": _SPEC,
    "seed": Rule("0 to 2^32 - 1", lambda value: 0 <= value < 2**32),
    "data.clients": _at_least(1),
    "data.partition": _SPEC,
    "data.augment": _choice("", "crop", "crop_flip"),
    "data.level": _choice("character", "byte"),
    "data.groups": _at_least(0),
    "data.train_samples": _at_least(0),
    "data.test_samples": _at_least(0),
    "data.validation": _below_one("validation"),
    "model.size": _share("size"),
    "model.batch_norm": _choice("aggregate", "local", "freeze"),
    "train.epochs": _from(1, _MOST_ROUNDS),
    "train.batch_size": _from(1, 2**31 - 1),
    "train.optimizer": _choice("sgd", "adam"),
    "train.lr": _POSITIVE,
    "train.momentum": _below_one("momentum"),
    "train.weight_decay": _NOT_NEGATIVE,
    "train.lr_decay": _SPEC,
    "train.loss": _SPEC,
    "train.gradient": _SPEC,
    "train.clip": _NOT_NEGATIVE,
    "train.precision": _choice("float32", "bf16"),
    "train.device": _choice("cpu", "cuda"),
    "prune.density": _share("density"),
    "prune.granularity": _choice("weight", "kernel", "filter"),
    "prune.score": _SPEC,
    "prune.ranking": _SPEC,
    "prune.vote": _SPEC,
    "prune.tie": _choice("prune", "keep"),
    "prune.schedule": _SPEC,
    "prune.rounds": _ROUNDS,
    "prune.epochs": _from(0, _MOST_ROUNDS),
    "prune.min_units": _at_least(0),
    "prune.score_samples": _at_least(0),
    "prune.recovery": _choice("rewind", "finetune"),
    "prune.voters": _at_least(0),
    "prune.regrow": _choice("", "gradient", "random"),
    "prune.regrow_fraction": _share("regrow_fraction"),
    "prune.regrow_every": _at_least(1),
    "prune.gate": Rule("0 <= gate <= 1", lambda value: 0 <= value <= 1),
    "prune.converged": _below_one("converged"),
    "prune.alpha_fc": _share("alpha_fc"),
    "prune.alpha_conv": _share("alpha_conv"),
    "federation.rounds": _ROUNDS,
    "federation.clients_per_round": _at_least(0),
    "federation.min_replies": _at_least(1),
    "federation.eval_every": _at_least(1),
    "wire.mask_classes": _from(1, 64),
    "comparator.sign_step": _POSITIVE,
    "comparator.fedpm_lr": _POSITIVE,
    "comparator.fedpm_reset": _at_least(1),
    "comparator.prunefl_every": _at_least(1),
    "stop.target_accuracy": Rule("a share between 0 and 1", lambda value: 0 <= value <= 1),
    "stop.byte_budget": _at_least(0),
    "stop.seconds": _at_least(0),
    "engine.workers": _at_least(-1),
    "engine.vectorised": _at_least(0),
    "engine.timeout": Rule("a positive number, at most 1e9", lambda value: 0 < value <= 1e9),
    "engine.checkpoint_every": _at_least(1),
    "faults.drop_before": _PROBABILITY,
    "faults.drop_after": _PROBABILITY,
    "faults.straggle": _PROBABILITY,
    "faults.corrupt": _PROBABILITY,
    "faults.truncate": _PROBABILITY,
    "faults.replay": _PROBABILITY,
    "faults.wrong_round": _PROBABILITY,
    "faults.not_finite": _PROBABILITY,
    "faults.byzantine": _PROBABILITY,
    "faults.stress": _PROBABILITY,
    "faults.tolerate": _choice("auto", "nothing", "client error", "client crashed", "everything"),
}
"""Dotted key -> what it takes; other keys take every value of their type."""


def check(config: object, table: str = "") -> None:
    """Refuse values that the rules do not allow; InputError naming the key."""
    for item in dataclasses.fields(config):  # type: ignore[arg-type]
        key, value = table + item.name, getattr(config, item.name)
        if isinstance(value, int) and value.bit_length() > 63:
            fail(key, value, "a whole number of 64 bits")  # what TOML holds, and NumPy counts
        if key in RULES:
            _obey(key, RULES[key], value)


def _obey(key: str, rule: Rule, value: Any) -> None:
    try:
        with keyed(key):
            allowed = rule.holds(value)
    except TypeError:  # made in Python, where nobody has looked at types yet
        allowed = False
    if not allowed and rule.choices and isinstance(value, str):
        raise InputError(f"{key}: {unknown_name('value', value, rule.choices)}")
    if not allowed:
        fail(key, value, rule.text)
