"""Importance scores: one float per unit, higher = more important (METHODS: scores)."""

from __future__ import annotations

from mpfl.registry import Registry
from mpfl.scores.base import Score, ScoreInputs
from mpfl.scores.weights import magnitude, uniform

SCORES: Registry[Score] = Registry(
    "score",
    {
        "magnitude": Score(magnitude),
        "random": Score(uniform),
    },
)

__all__ = ["SCORES", "Score", "ScoreInputs"]
