"""Multiply-accumulates of one forward pass, dense or under a mask."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mpfl.network.flat import aliases_of, tensors_of
from mpfl.network.tracing import example, shadow

_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.LSTM, nn.GRU)


def macs(
    model: nn.Module,
    input_shape: tuple[int, ...],
    keep: NDArray[np.bool_] | None = None,
    tokens: bool | None = None,
) -> int:
    """Count the multiply-accumulates that weights take part in, for one sample.

    Every weight of a linear, convolutional or recurrent layer counts once per position it is
    applied at: pixels of the output, or steps of the sequence; a tied one for every layer that
    applies it. Biases, normalisation, embeddings and other kinds of layers are not counted.

    Parameters
    ----------
    model
        The network; a copy computes, and nothing changes.
    input_shape
        Shape of one input without the batch.
    keep
        bool[P], ``structure.parameter_mask(mask)``: count only surviving weights. None counts
        all. Where whole units are pruned, this is the cost of the compacted network.
    tokens
        Whether inputs are int64; by default as `mpfl.network.tracing.example` guesses.

    Examples
    --------
    >>> macs(nn.Conv2d(3, 8, 3, padding=1), (3, 32, 32)) == 3 * 8 * 9 * 32 * 32
    True
    """
    parameters, _ = tensors_of(model)
    if keep is not None and keep.shape != (parameters.total,):
        raise ValueError(f"expected bool[{parameters.total}], got shape {keep.shape}")
    total, aliases = 0, aliases_of(model)
    for name, positions in _positions(model, input_shape, tokens).items():
        where, _ = parameters.place(aliases.get(name, name))
        weights = where.stop - where.start if keep is None else int(keep[where].sum())
        total += weights * positions
    return total


def _positions(
    model: nn.Module, input_shape: tuple[int, ...], tokens: bool | None
) -> dict[str, int]:
    """Return how often each weight is used on one sample."""
    copied = shadow(model)
    positions: dict[str, int] = {}

    def count(name: str, module: nn.Module, output: Any) -> None:
        shape = (output[0] if isinstance(output, tuple) else output).shape
        units = shape[1] if isinstance(module, nn.Conv1d | nn.Conv2d) else shape[-1]
        for leaf, _ in module.named_parameters(recurse=False):
            if leaf.startswith("weight"):
                path = f"{name}.{leaf}" if name else leaf
                positions[path] = positions.get(path, 0) + math.prod(shape) // units

    for name, module in copied.named_modules():
        if isinstance(module, _WEIGHTED):
            module.register_forward_hook(lambda m, _, out, name=name: count(name, m, out))
    with torch.no_grad():
        copied(example(copied, input_shape, tokens))
    return positions
