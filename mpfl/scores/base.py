"""What a score is given and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpfl.data.samples import Samples
from mpfl.flat import FlatModel
from mpfl.layers import Structure

UnitScores = list[NDArray[np.float32]]
"""Per layer, float32[units]; higher = more important."""


class StepObserver(Protocol):
    """Accumulates something over the steps of local training."""

    def __call__(self, values: Tensor, grads: Tensor, lr: float) -> None:
        """See values and gradients (float32[P]) before a step."""


@dataclass(frozen=True)
class ScoreInputs:
    """Everything a score may look at, after local training.

    Attributes
    ----------
    model
        Holds the trained weights, pruned ones zero.
    samples
        The client's own data.
    arguments
        The score's arguments: ``("l1",)`` for ``magnitude(l1)``.
    limit
        Look at no more than this many samples (0 = all).
    rng
        For scores that draw; never needed by those that do not.
    observed
        The score's own observer after training, if it has one.
    keep
        float32[P] of zeros and ones: the mask during training.
    """

    model: FlatModel
    structure: Structure
    samples: Samples
    arguments: tuple[str, ...]
    batch_size: int
    limit: int
    rng: np.random.Generator
    observed: StepObserver | None
    keep: Tensor

    def scoring_samples(self) -> Samples:
        """Return at most `limit` samples, drawn without replacement from `rng`."""
        if not self.limit or self.limit >= len(self.samples):
            return self.samples
        index = self.rng.choice(len(self.samples), self.limit, replace=False)
        return self.samples.subset(torch.from_numpy(np.sort(index)))


@dataclass(frozen=True)
class Score:
    """An importance score.

    Attributes
    ----------
    compute
        The score itself.
    observer
        Makes what watches local training, where the score needs that.
    """

    compute: Callable[[ScoreInputs], UnitScores]
    observer: Callable[[Structure], StepObserver] | None = None
