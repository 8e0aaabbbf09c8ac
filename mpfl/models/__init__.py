"""The networks, by name; each is a pure function of (name, shapes, generator).

Those that come with the library get their values from `mpfl.models.initialise`; those of others
keep the values that their own constructors give them, see `mpfl.models.own`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from mpfl.errors import InputError, keyed
from mpfl.models import images, residual, text
from mpfl.models.initialise import Weights, glorot_uniform, he_normal, initialise
from mpfl.models.narrow import narrowed
from mpfl.models.own import build_own
from mpfl.models.shapes import Builder, Shapes
from mpfl.registry import Registry, parse_spec

__all__ = ["MODELS", "Builder", "Shapes", "build_model", "is_own"]

_BUILDERS: tuple[Builder, ...] = (
    images.lenet300,
    images.lenet5_caffe,
    images.lenet5,
    images.niid_cnn,
    images.pfl_cnn,
    images.conv4,
    images.conv6,
    images.vgg11,
    images.vgg11_plain,
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

_WEIGHTS: Mapping[str, Weights] = {"pfl_cnn": glorot_uniform, "vgg11_plain": he_normal}
"""Networks whose first weights are not as `initialise` draws them, but as in their papers."""

MODELS: Registry[Builder] = Registry("model", {b.__name__: b for b in _BUILDERS}, given=1)
"""Every model. A builder of your own returns any ``nn.Module``, with its initial values."""


def is_own(name: str) -> bool:
    """Tell whether a model is registered by somebody else, not one of the library's."""
    return MODELS[parse_spec(name)[0]] not in _BUILDERS


def build_model(
    name: str,
    classes: int,
    input_shape: tuple[int, ...],
    generator: torch.Generator,
    vocabulary: int = 256,
    size: float = 1.0,
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
        The only source of randomness: what a builder of others draws from the global generators
        of torch, NumPy and Python follows from its state too, and these are not moved.
    vocabulary
        Number of different tokens that a text classifier reads (256 = bytes).
    size
        Share of its usual parameters that it has about; see `mpfl.models.narrow`.

    Raises
    ------
    InputError
        If the name is unknown, the network cannot take inputs of this shape or has no such size,
        or one of others is not what `build_own` can build.
    """
    build, shapes = MODELS.bind(name), Shapes(classes, tuple(input_shape), vocabulary)
    if is_own(name):
        if size != 1:
            raise InputError(f"{name!r} is not of the library; only those take a model.size")
        with keyed(f"model {name!r}"):
            return build_own(build, shapes, generator)
    # On the meta device the constructors' own initialisation draws nothing.
    with torch.device("meta"):
        if size != 1:
            shapes = narrowed(name, build, shapes, size)
        model = build(shapes)
    # As `to_empty` does, whose `empty_like` imports PyTorch's compiler to leave that device.
    model._apply(lambda t: torch.empty(t.shape, dtype=t.dtype))  # type: ignore[no-untyped-call]
    initialise(model, generator, _WEIGHTS.get(parse_spec(name)[0]))
    return model
