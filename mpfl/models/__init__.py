"""The networks, by name; each is a pure function of (name, shapes, generator)."""

from __future__ import annotations

import torch
from torch import nn

from mpfl.models import images, residual, text
from mpfl.models.initialise import initialise
from mpfl.models.shapes import Builder, Shapes
from mpfl.registry import Registry

__all__ = ["MODELS", "Builder", "Shapes", "build_model"]

_BUILDERS: tuple[Builder, ...] = (
    images.lenet300,
    images.lenet5_caffe,
    images.lenet5,
    images.conv4,
    images.conv6,
    images.vgg11,
    images.vgg16,
    residual.resnet18,
    residual.resnet34,
    residual.resnet20,
    residual.resnet56,
    text.lstm,
    text.gru,
    text.lstm_lm,
    text.gru_lm,
)

MODELS: Registry[Builder] = Registry("model", {b.__name__: b for b in _BUILDERS}, given=1)
"""Every model; a builder constructs the network, `build_model` gives it its values."""


def build_model(
    name: str,
    classes: int,
    input_shape: tuple[int, ...],
    generator: torch.Generator,
    vocabulary: int = 256,
) -> nn.Module:
    """Build a network on the CPU with initial values drawn from `generator` alone.

    Parameters
    ----------
    name
        One of `MODELS`. Recurrent ones may say how many hidden units they have:
        ``"lstm_lm(512)"``.
    classes
        Number of outputs; for a language model also its vocabulary.
    input_shape
        Shape of one input: (channels, height, width), or (time,) for tokens.
    generator
        The only source of randomness; torch's global generator is neither read nor moved.
    vocabulary
        Number of different tokens that a text classifier reads (256 = bytes).

    Raises
    ------
    InputError
        If the name is unknown, or the network cannot take inputs of this shape.
    """
    build = MODELS.bind(name)
    # On the meta device the constructors' own initialisation draws nothing.
    with torch.device("meta"):
        model = build(Shapes(classes, tuple(input_shape), vocabulary))
    # As `to_empty` does, whose `empty_like` imports PyTorch's compiler to leave that device.
    model._apply(lambda t: torch.empty(t.shape, dtype=t.dtype))  # type: ignore[no-untyped-call]
    initialise(model, generator)
    return model
