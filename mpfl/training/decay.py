"""Learning-rate decay: what the rate is multiplied by in each round of weight training."""

from __future__ import annotations

import math
from collections.abc import Callable

from mpfl.config import TrainConfig
from mpfl.errors import InputError
from mpfl.registry import Registry


def constant(step: int, steps: int) -> float:
    """The same rate in all rounds."""
    return 1.0


def cosine(step: int, steps: int) -> float:
    """Half a cosine, from one down to zero after the last round."""
    return 0.5 * (1 + math.cos(math.pi * min(step / max(steps, 1), 1.0)))


def exponential(step: int, steps: int, factor: float) -> float:
    """Each round the factor times the rate of the one before."""
    if not 0 < factor <= 1:
        raise InputError(f"got factor = {factor:g}, expected 0 < factor <= 1")
    return factor**step


DECAYS: Registry[Callable[..., float]] = Registry(
    "learning-rate decay",
    {"none": constant, "cosine": cosine, "exponential": exponential},
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
    return float(config.lr * DECAYS.bind(config.lr_decay)(step, steps))
