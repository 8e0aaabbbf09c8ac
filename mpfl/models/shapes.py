"""What a model builder is told, and the checks all builders share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from mpfl.errors import InputError


@dataclass(frozen=True)
class Shapes:
    """Sizes a network is built for.

    Attributes
    ----------
    classes
        Outputs: classes of a classifier, vocabulary of a language model.
    input_shape
        Shape of one input: (channels, height, width), (features,) or (time,) for tokens.
    vocabulary
        Number of different tokens that a text model reads.
    width
        Share of its usual width that every hidden layer has.
    """

    classes: int
    input_shape: tuple[int, ...]
    vocabulary: int
    width: float = 1.0

    def wide(self, units: int) -> int:
        """Return how many units a hidden layer has that usually has so many: at least one."""
        return max(1, round(self.width * units))


Builder = Callable[..., nn.Module]
"""(shapes, and its arguments) -> a network."""


def image_shape(model: str, shapes: Shapes, smallest: int) -> tuple[int, int, int]:
    """Return (channels, height, width).

    Raises
    ------
    InputError
        If the input is not an image, or a side is shorter than `smallest` pixels.
    """
    if len(shapes.input_shape) != 3:
        raise InputError(
            f"model {model!r} reads images (channels, height, width), "
            f"got input shape {shapes.input_shape}"
        )
    channels, height, width = shapes.input_shape
    if min(height, width) < smallest:
        raise InputError(
            f"model {model!r} needs images of at least {smallest}x{smallest} pixels, "
            f"got {height}x{width}"
        )
    return channels, height, width
