"""A plugin with a part of every kind that a small run can use."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clients.methods.fedavg import handle
from mpfl.data import DATASETS, PARTITIONS, Dataset
from mpfl.data.vision import digits
from mpfl.errors import InputError
from mpfl.faults.attacks import ATTACKS, inverted
from mpfl.faults.stress import SPOILERS, labels
from mpfl.methods import METHODS, Codecs, Method
from mpfl.models import MODELS, Shapes
from mpfl.ranking import RANKINGS, SCHEDULES
from mpfl.scores import SCORES, Score, ScoreInputs, UnitScores
from mpfl.training.decay import DECAYS
from mpfl.training.losses import GRADIENTS, LOSSES, GradientInputs, LossInputs, cross_entropy
from mpfl.vote import RULES, Rule
from mpfl.wire import MASK_CODECS, VALUE_CODECS
from mpfl.wire.values.codecs import FloatCodec
from server.methods.averaging import WeightMethod


def narrow(shapes: Shapes, width: int = 12) -> nn.Module:
    """Two narrow layers."""
    size = int(np.prod(shapes.input_shape))
    layers = nn.Linear(size, width), nn.ReLU(), nn.Linear(width, shapes.classes)
    return nn.Sequential(nn.Flatten(), *layers)


def halved(config: Any) -> Dataset:
    """Digits without every other training sample."""
    whole = digits(config)
    return replace(whole, train=whole.train.subset(torch.arange(0, len(whole.train), 2)))


def own_score(inputs: ScoreInputs) -> UnitScores:
    """The square of a weight."""
    return inputs.structure.unit_values(np.square(inputs.model.values.numpy()))


def prox(inputs: LossInputs, mu: float = 0.1) -> Tensor:
    """FedProx."""
    moved = [(w - inputs.start[name]).square().sum() for name, w in inputs.weights.items()]
    return cross_entropy(inputs) + mu / 2 * torch.stack(moved).sum()


def noisy(inputs: GradientInputs, sigma: float = 0.01) -> Tensor:
    """The gradient and noise of its own stream."""
    noise = torch.randn(inputs.gradient.shape, generator=inputs.generator)
    return inputs.gradient + sigma * noise


@dataclass(frozen=True)
class Options:
    """What stands in the parentheses of the method."""

    fraction: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise InputError(f"got fraction = {self.fraction:g}, expected 0 < fraction <= 1")


def codecs(_: Any, options: Options) -> Codecs:
    """Sparse both ways."""
    return Codecs(f"sparse({options.fraction})", "sparse")


class Sparse(WeightMethod):
    """Averaging of sparse updates."""

    def finish_round(self, enough: bool) -> dict[str, Any]:
        """Say what was sent."""
        columns = super().finish_round(enough)
        return {**columns, "extra": {"fraction": self.options.fraction}}


MODELS.register("narrow", narrow)
DATASETS.register("halved", halved)
PARTITIONS.register("own_iid", PARTITIONS["iid"])
SCORES.register("own_score", Score(own_score))
RANKINGS.register("own_flat", RANKINGS["flat"])
SCHEDULES.register("own_linear", SCHEDULES["linear"])
RULES.register("own_budget", Rule(RULES["budget"].choose, "own_budget"))
DECAYS.register("own_cosine", DECAYS["cosine"])
LOSSES.register("prox", prox)
GRADIENTS.register("noisy", noisy)
ATTACKS.register("own_attack", inverted)
SPOILERS.register("own_labels", labels)
MASK_CODECS.register("own_raw", replace(MASK_CODECS["raw"], number=100))
VALUE_CODECS.register("own_float", lambda: FloatCodec("float16"))
METHODS.register("sparse_own", Method(handle, Sparse, Options, codecs))
