"""Importance scores: one float per unit, higher = more important (METHODS: scores)."""

from __future__ import annotations

from torch import nn

from mpfl.errors import InputError
from mpfl.network.layers import Structure
from mpfl.registry import Registry
from mpfl.scores.activation import apoz, without_relu
from mpfl.scores.activity import activity, not_plain
from mpfl.scores.base import Score, ScoreInputs, StepObserver, UnitScores
from mpfl.scores.gradient import MovementObserver, fisher, movement, taylor
from mpfl.scores.weights import bn_scale, magnitude, uniform, without_batch_norm

_CHANNELS = ("linear", "conv", "coupled")
_FILTER = {"filter": _CHANNELS}
_CONNECTIONS = {"weight": ("linear",), "kernel": ("linear", "conv")}

SCORES: Registry[Score] = Registry(
    "score",
    {
        "magnitude": Score(magnitude),
        "taylor": Score(taylor),
        "fisher": Score(fisher),
        "movement": Score(movement, observer=MovementObserver),
        "activity": Score(activity, defined=_CONNECTIONS, missing=not_plain, shares=True),
        "apoz": Score(apoz, defined=_FILTER, missing=without_relu),
        "bn_scale": Score(bn_scale, defined=_FILTER, missing=without_batch_norm),
        "random": Score(uniform),
    },
    given=1,
    functions=("compute",),
)
"""Importance scores: from `ScoreInputs` to a float32 vector a layer, higher = more important."""


def check_score(spec: str, granularity: str, structure: Structure, module: nn.Module) -> Score:
    """Return the score of a spec, its arguments bound, if it is defined for every layer.

    Raises
    ------
    InputError
        For an unknown score or argument, or a layer for which the score means nothing at this
        granularity; it names score, granularity and layer.
    """
    score = SCORES.bind(spec)
    kinds = score.defined.get(granularity, ())
    lacking = {la.name: f"a {la.kind} layer" for la in structure.layers if la.kind not in kinds}
    if not lacking:
        lacking = dict(score.missing(module, structure))
    for layer in structure.layers:
        if layer.name in lacking:
            defined = "; ".join(f"{key} of {', '.join(of)}" for key, of in score.defined.items())
            raise InputError(
                f"score {spec!r} is not defined at granularity {granularity!r} for layer "
                f"{layer.name!r}: {lacking[layer.name]} (defined at: {defined})"
            )
    return score


__all__ = ["SCORES", "Score", "ScoreInputs", "StepObserver", "UnitScores", "check_score"]
