"""Initial values of the library's own networks, drawn from one given generator."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mpfl.errors import InputError


def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """Overwrite every parameter and buffer in place, in module order.

    Linear and convolution: uniform(±1/√fan_in), weight and bias, which is Kaiming-uniform with
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
            _initialise_module(name, module, own, generator)


@torch.no_grad()
def _initialise_module(
    name: str, module: nn.Module, own: list[Tensor], generator: torch.Generator
) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        bound = 1.0 / math.sqrt(module.weight[0].numel())
        for tensor in own:
            tensor.uniform_(-bound, bound, generator=generator)
    elif isinstance(module, nn.LSTM | nn.GRU):
        bound = 1.0 / math.sqrt(module.hidden_size)
        for tensor in own:
            tensor.uniform_(-bound, bound, generator=generator)
    elif isinstance(module, nn.Embedding):
        module.weight.normal_(generator=generator)
    elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
        module.reset_parameters()
    else:
        raise InputError(f"no initial values known for {type(module).__name__} {name!r}")
