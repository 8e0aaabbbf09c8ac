"""Initial values of the library's own networks, drawn from one given generator."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mpfl.errors import InputError

Weights = Callable[[Tensor, torch.Generator], None]
"""Overwrites the weight of a linear layer or a convolution in place."""


def initialise(
    model: nn.Module, generator: torch.Generator, weights: Weights | None = None
) -> None:
    """Overwrite every parameter and buffer in place, in module order.

    `weights` sets those of linear layers and convolutions, with biases of zero. Without it:
    linear and convolution: uniform(±1/√fan_in), weight and bias, which is Kaiming-uniform with
    a = √5 (He 2015), torch's default. Normalisation: scale 1, shift 0, mean 0, variance 1.
    LSTM and GRU: uniform(±1/√hidden). Embedding: standard normal.

    Raises
    ------
    InputError
        If a module with parameters or buffers of its own is none of these.
    """
    for name, module in model.named_modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if own:
            _initialise_module(name, module, own, generator, weights)


def he_normal(weight: Tensor, generator: torch.Generator) -> None:
    """Convolutions normal of variance 2 / fan_out (He 2015), linear layers as without this."""
    if weight.dim() == 2:
        _uniform([weight], generator)
    else:
        fan_out = weight.shape[0] * weight[0, 0].numel()
        weight.normal_(0, math.sqrt(2 / fan_out), generator=generator)


def glorot_uniform(weight: Tensor, generator: torch.Generator) -> None:
    """Uniform of variance 2 / (fan_in + fan_out) (Glorot & Bengio 2010)."""
    fans = (weight.shape[0] + weight.shape[1]) * weight[0, 0].numel()
    bound = math.sqrt(6 / fans)
    weight.uniform_(-bound, bound, generator=generator)


def _uniform(tensors: list[Tensor], generator: torch.Generator) -> None:
    """Overwrite a weight, which comes first, and its bias: uniform(±1/√fan_in)."""
    bound = 1.0 / math.sqrt(tensors[0][0].numel())
    for tensor in tensors:
        tensor.uniform_(-bound, bound, generator=generator)


@torch.no_grad()
def _initialise_module(
    name: str,
    module: nn.Module,
    own: list[Tensor],
    generator: torch.Generator,
    weights: Weights | None,
) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d) and weights is not None:
        weights(module.weight, generator)
        if module.bias is not None:
            module.bias.zero_()
    elif isinstance(module, nn.Linear | nn.Conv2d):
        _uniform(own, generator)
    elif isinstance(module, nn.LSTM | nn.GRU):
        bound = 1.0 / math.sqrt(module.hidden_size)
        for tensor in own:
            tensor.uniform_(-bound, bound, generator=generator)
    elif isinstance(module, nn.Embedding):
        module.weight.normal_(generator=generator)
    elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d | nn.GroupNorm):
        module.reset_parameters()
    else:
        raise InputError(f"no initial values known for {type(module).__name__} {name!r}")
