"""The same network with fewer parameters: all its hidden layers narrowed alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from mpfl.errors import InputError
from mpfl.models.shapes import Shapes

_HALVINGS = 24


def narrowed(
    name: str, build: Callable[[Shapes], nn.Module], shapes: Shapes, size: float
) -> Shapes:
    """Return the shapes of the network that has about `size` of the parameters.

    Parameters
    ----------
    name
        Of the network, for errors.
    size
        Share of its parameters, between 0 and 1.

    Raises
    ------
    InputError
        If the network has one width alone, or has more parameters with a unit a layer.
    """
    wanted, low, high = size * _parameters(build(shapes)), 0.0, 1.0
    least = _parameters(build(replace(shapes, width=low)))
    if least == _parameters(build(shapes)):
        raise InputError(f"{name!r} comes in one width; model.size = {size:g} needs another model")
    if least > wanted:
        raise InputError(
            f"{name!r} has {least:,} parameters at least; "
            f"model.size = {size:g} asks for {wanted:,.0f}"
        )
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        fits = _parameters(build(replace(shapes, width=middle))) <= wanted
        low, high = (middle, high) if fits else (low, middle)
    return min(
        (replace(shapes, width=width) for width in (low, high)),
        key=lambda some: abs(_parameters(build(some)) - wanted),
    )


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
