"""Find what is prunable in a network, at the granularity weight, kernel or filter."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import nn

from mpfl.errors import InputError
from mpfl.network.coupling import couple
from mpfl.network.flat import aliases_of, tensors_of
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
"""What a unit can be. Embeddings, normalisation, biases and whatever else own no unit.

Nor does a frozen weight, or one that is tied to a tensor that owns none.
"""


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
    aliases = tuple(aliases_of(model).items())
    return Structure(layers, *tensors_of(model), aliases, _moves(model))


def _moves(model: nn.Module) -> NDArray[np.bool_] | None:
    parameters, buffers = tensors_of(model)
    if all(parameter.requires_grad for parameter in model.parameters()):
        return None
    moves = np.ones(parameters.total + buffers.total, np.bool_)
    for name, parameter in model.named_parameters():
        moves[parameters.place(name)[0]] = parameter.requires_grad
    return moves


def _separate(model: nn.Module, *, by_kernel: bool) -> tuple[Layer, ...]:
    """Return one layer per weight tensor, in order of the parameters."""
    kinds = {
        name: _kind(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2])
        for name, _ in model.named_parameters(remove_duplicate=False)
    }
    unfit = {name for alias, name in aliases_of(model).items() if kinds.get(alias) is None}
    layers = []
    for name, parameter in model.named_parameters():
        owner, _, leaf = name.rpartition(".")
        kind = kinds[name]
        if kind is None or name in unfit or not parameter.requires_grad:
            continue
        area = math.prod(parameter.shape[2:]) if by_kernel else 1
        # A recurrent module has several weight tensors, the others one each.
        layer_name = name if kind in ("lstm", "gru") else (owner or leaf)
        slot = Slot(name, axis=None, repeat=area)
        layers.append(Layer(layer_name, kind, parameter.numel() // area, (slot,)))
    return tuple(layers)


def _kind(module: nn.Module, leaf: str) -> str | None:
    """Return what kind of layer a module's parameter is the weight of; None if of none."""
    if isinstance(module, Recurrent):
        return recurrent_kind(module) if leaf.startswith("weight") else None
    if leaf != "weight":
        return None
    if isinstance(module, nn.Linear):
        return "linear"
    return "conv" if isinstance(module, nn.Conv1d | nn.Conv2d) else None
