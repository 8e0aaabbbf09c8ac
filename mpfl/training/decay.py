"""Learning-rate decay: what the rate is multiplied by in each round of weight training."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Literal

from mpfl.config import TrainConfig
from mpfl.errors import InputError, shown
from mpfl.registry import Registry


def constant(step: int, steps: int) -> float:
    """The same rate in all rounds."""
    return 1.0


def cosine(step: int, steps: int) -> float:
    """Half a cosine, from one down to zero after the last round."""
    return 0.5 * (1 + math.cos(math.pi * min(step / max(steps, 1), 1.0)))


def exponential(step: int, steps: int, factor: float) -> float:
    """Each round the factor times the rate of the one before."""
    _check_factor(factor)
    return factor**step


def _check_factor(factor: float) -> None:
    if not 0 < factor <= 1:
        raise InputError(f"got factor = {factor:g}, expected 0 < factor <= 1")


def stairs(
    step: int, steps: int, factor: float, first: float, second: float = 1.0, third: float = 1.0
) -> float:
    """Times the factor after each of these shares of the rounds: ``step(0.1, 0.5, 0.75)``."""
    _check_factor(factor)
    marks = (first, second, third)
    if not 0 < first <= second <= third <= 1 or first == 1:
        got = ", ".join(f"{mark:g}" for mark in marks)
        raise InputError(
            f"got the shares {got}, expected 0 < first <= second <= third <= 1, first < 1"
        )
    return factor ** sum(step >= mark * steps for mark in marks)


def warmup(step: int, steps: int, rounds: int, then: Literal["none", "cosine"] = "none") -> float:
    """Up in even steps over so many rounds; then constant, or half a cosine over the others."""
    if rounds < 1:
        raise InputError(f"got {rounds} rounds of warm-up, expected at least 1")
    if step < rounds:
        return (step + 1) / (rounds + 1)
    return 1.0 if then == "none" else cosine(step - rounds, steps - rounds)


DECAYS: Registry[Callable[..., float]] = Registry(
    "learning-rate decay",
    {
        "none": constant,
        "cosine": cosine,
        "exponential": exponential,
        "step": stairs,
        "warmup": warmup,
    },
    given=2,
)
"""(round from 0, number of rounds, and its arguments) -> what the rate is multiplied by."""


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Return the learning rate of round `step` (from 0) of `steps` rounds of weight training.

    Raises
    ------
    InputError
        If ``train.lr_decay`` is none of `DECAYS`, or its arguments do not fit.
    """
    factor = DECAYS.bind(config.lr_decay)(step, steps)
    if not (isinstance(factor, Real) and 0 <= factor < math.inf):
        where = f"{config.lr_decay!r}: round {step + 1}"
        raise InputError(f"{where}: got {shown(factor)}, expected a factor from 0 on")
    return float(config.lr * factor)
