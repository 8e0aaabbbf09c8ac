"""Scores that need no data: magnitude, and the random baseline."""

from __future__ import annotations

import numpy as np

from mpfl.layers import sum_over_units
from mpfl.registry import unknown_name
from mpfl.scores.base import ScoreInputs, UnitScores


def magnitude(inputs: ScoreInputs) -> UnitScores:
    """|w| of each weight; for larger units ‖w‖₂, or ‖w‖₁ as ``magnitude(l1)``.

    Han et al. 2015, arXiv 1506.02626; Li et al. 2017, arXiv 1608.08710.
    """
    norm = inputs.arguments[0] if inputs.arguments else "l2"
    values = inputs.model.values.numpy()
    if norm == "l2":
        return inputs.structure.unit_values(values)
    if norm == "l1":
        return [
            sum_over_units(layer, inputs.structure.parameters, np.abs(values))
            for layer in inputs.structure.layers
        ]
    raise unknown_name("norm", norm, ["l1", "l2"])


def uniform(inputs: ScoreInputs) -> UnitScores:
    """Seeded uniform numbers: the baseline that every score must beat."""
    return [
        inputs.rng.random(layer.units, dtype=np.float32) for layer in inputs.structure.layers
    ]
