"""Scores that need no data: magnitude, BatchNorm scales, and the random baseline."""

from __future__ import annotations

from typing import Literal

import numpy as np
from torch import nn

from mpfl.network.layers import FOLLOW, Layer, Slot, Structure, sum_over_units
from mpfl.scores.base import ScoreInputs, UnitScores


def magnitude(inputs: ScoreInputs, norm: Literal["l2", "l1"] = "l2") -> UnitScores:
    """|w| of each weight; for larger units ‖w‖₂, or ‖w‖₁ as ``magnitude(l1)``.

    Han et al. 2015, arXiv 1506.02626; Li et al. 2017, arXiv 1608.08710.
    """
    values = inputs.model.values.numpy()
    if norm == "l2":
        return inputs.structure.unit_values(values)
    return [
        sum_over_units(layer, inputs.structure.parameters, np.abs(values))
        for layer in inputs.structure.layers
    ]


def uniform(inputs: ScoreInputs) -> UnitScores:
    """Seeded uniform numbers: the baseline that every score must beat."""
    return [inputs.rng.random(layer.units, dtype=np.float32) for layer in inputs.structure.layers]


def bn_scale(inputs: ScoreInputs) -> UnitScores:
    """|γ| of the batch normalisation that follows; of several, their L2 norm.

    Several follow where residual additions couple the channels of several convolutions.
    Liu et al. 2017, "Network Slimming", arXiv 1708.06519.
    """
    values = inputs.model.values.numpy()
    scores = []
    for layer in inputs.structure.layers:
        total = np.zeros(layer.units, np.float64)
        for slot in _scales(inputs.model.module, layer):
            where, _ = inputs.structure.parameters.place(slot.parameter)
            squares = np.square(values[where].astype(np.float64))
            total += squares.reshape(layer.units, slot.repeat).sum(axis=1)
        scores.append(np.sqrt(total).astype(np.float32))
    return scores


def without_batch_norm(module: nn.Module, structure: Structure) -> dict[str, str]:
    """Return the layers that no batch normalisation follows."""
    layers = [layer for layer in structure.layers if not _scales(module, layer)]
    return {layer.name: "no BatchNorm follows it" for layer in layers}


def _scales(module: nn.Module, layer: Layer) -> list[Slot]:
    return [
        slot
        for slot in layer.slots
        if slot.role == FOLLOW
        and slot.parameter.endswith(".weight")
        and isinstance(
            module.get_submodule(slot.parameter.removesuffix(".weight")),
            nn.BatchNorm1d | nn.BatchNorm2d,
        )
    ]
