"""Find what is prunable in a network, at the granularity weight, kernel or filter."""

from __future__ import annotations

import math

from torch import nn

from mpfl.errors import InputError
from mpfl.network.coupling import couple
from mpfl.network.flat import tensors_of
from mpfl.network.gates import Recurrent, recurrent_kind
from mpfl.network.layers import Layer, Slot, Structure
from mpfl.registry import Registry

GRANULARITIES: Registry[str] = Registry(
    "granularity",
    {
        "weight": "every weight of linear, convolutional and recurrent layers",
        "kernel": "every (output, input) pair of a convolution; elsewhere every weight",
        "filter": "every convolution output channel, linear neuron and recurrent hidden unit",
    },
)
"""What a unit can be. Embeddings, normalisation and biases own no unit."""


def find_structure(
    model: nn.Module, granularity: str, input_shape: tuple[int, ...] | None = None
) -> Structure:
    """Describe the prunable layers of a network.

    Parameters
    ----------
    model
        The network; it is not changed.
    granularity
        Name in `GRANULARITIES`.
    input_shape
        Shape of one input without the batch; needed by ``filter``, where the network is traced.

    Raises
    ------
    InputError
        If the granularity is unknown, nothing is prunable, the input shape is missing, or the
        network does something whose effect on units is not known.
    """
    GRANULARITIES[granularity]
    if granularity == "filter":
        if input_shape is None:
            raise InputError("granularity 'filter' needs the shape of one input")
        layers = couple(model, tuple(input_shape))
    else:
        layers = _separate(model, by_kernel=granularity == "kernel")
    if not layers:
        raise InputError(
            f"{type(model).__name__} has nothing prunable at granularity {granularity!r}"
        )
    return Structure(layers, *tensors_of(model))


def _separate(model: nn.Module, *, by_kernel: bool) -> tuple[Layer, ...]:
    """Return one layer per weight tensor, in order of the parameters."""
    kinds = {name: _kind(module) for name, module in model.named_modules()}
    layers = []
    for name, parameter in model.named_parameters():
        owner, _, leaf = name.rpartition(".")
        kind = kinds[owner]
        if kind is None or not leaf.startswith("weight"):
            continue
        area = math.prod(parameter.shape[2:]) if by_kernel else 1
        # A recurrent module has several weight tensors, the others one each.
        layer_name = name if kind in ("lstm", "gru") else (owner or leaf)
        slot = Slot(name, axis=None, repeat=area)
        layers.append(Layer(layer_name, kind, parameter.numel() // area, (slot,)))
    return tuple(layers)


def _kind(module: nn.Module) -> str | None:
    if isinstance(module, nn.Linear):
        return "linear"
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return "conv"
    return recurrent_kind(module) if isinstance(module, Recurrent) else None
