"""What a score is given, what it returns, and where it is defined."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mpfl.data.samples import Samples
from mpfl.network.flat import FlatModel
from mpfl.network.layers import Structure

UnitScores = list[NDArray[np.float32]]
"""Per layer, float32[units]; higher = more important."""

EVERY_KIND = ("linear", "conv", "lstm", "gru", "coupled")
EVERYWHERE: Mapping[str, tuple[str, ...]] = {
    "weight": EVERY_KIND,
    "kernel": EVERY_KIND,
    "filter": EVERY_KIND,
}


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
    limit
        Look at no more than this many samples (0 = all).
    rng
        For scores that draw; never needed by those that do not.
    observed
        The score's own observer after training, if it has one.
    """

    model: FlatModel
    structure: Structure
    samples: Samples
    batch_size: int
    limit: int
    rng: np.random.Generator
    observed: StepObserver | None

    def scoring_samples(self) -> Samples:
        """Return at most `limit` samples, drawn without replacement from `rng`."""
        if not self.limit or self.limit >= len(self.samples):
            return self.samples
        index = self.rng.choice(len(self.samples), self.limit, replace=False)
        return self.samples.subset(torch.from_numpy(np.sort(index)))


def in_order(count: int, size: int) -> Iterator[Tensor]:
    """Yield the indices 0..count-1 in batches of `size`; the last may be smaller."""
    for start in range(0, count, size):
        yield torch.arange(start, min(start + size, count))


def _nothing(module: nn.Module, structure: Structure) -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class Score:
    """An importance score.

    Attributes
    ----------
    compute
        The score itself: (inputs, and the score's arguments) -> unit scores. The first line of
        its docstring describes the score.
    observer
        Makes what watches local training, where the score needs that.
    defined
        Granularity -> the kinds of layers for which the score means something.
    missing
        (network, structure) -> for layers that cannot have this score, what they lack.
    shares
        Whether the scores of one neuron's connections are shares of a whole, as the ranking
        ``coverage`` needs.
    """

    compute: Callable[..., UnitScores]
    observer: Callable[[Structure], StepObserver] | None = None
    defined: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: EVERYWHERE)
    missing: Callable[[nn.Module, Structure], Mapping[str, str]] = _nothing
    shares: bool = False

    @property
    def description(self) -> str:
        """One line for listings."""
        return (self.compute.__doc__ or "").strip().partition("\n")[0]
