"""One batch of training in a network that others wrote, to learn how it must be treated."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mpfl.config import TrainConfig
from mpfl.data.samples import Samples
from mpfl.errors import InputError
from mpfl.network.beside import beside, changed
from mpfl.network.flat import FlatModel, Manner
from mpfl.network.layers import Structure
from mpfl.seeding import global_picture, lent
from mpfl.training.local import by_autograd

_SAMPLES = 4
_VECTOR = 16
_REFUSALS = (AttributeError, IndexError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class _Pass:
    """What came out of one batch: loss, gradients float32[P], buffers, whether it drew."""

    loss: Tensor
    grads: Tensor
    buffers: Tensor
    drew: bool

    def agrees(self, other: _Pass) -> bool:
        pairs = ((self.loss, other.loss), (self.grads, other.grads), (self.buffers, other.buffers))
        return all(torch.allclose(a, b, 1e-3, 1e-5, equal_nan=True) for a, b in pairs)


def try_out(
    model: FlatModel, structure: Structure, samples: Samples, classes: int, config: TrainConfig
) -> tuple[Manner, Structure]:
    """Return how a network is to be treated, and its structure with the buffers that never change.

    The model is trained on a few samples and put back. It is found out whether it can compute on
    images stored channels-last (not, say, if it calls ``view`` after a convolution), whether it
    draws from global generators, and which buffers it updates.

    Raises
    ------
    InputError
        If it does not take the samples, its outputs are no logits of the classes, or training
        depends on something that is in neither parameters nor float32 buffers.
    """
    name = type(model.module).__name__
    inputs, targets = samples.batch(torch.arange(_SAMPLES) % len(samples))
    before, start = beside(model.module), (model.values.clone(), model.buffers.clone())
    _check_outputs(model, inputs, targets, classes)
    first = _run(model, inputs, targets, config, channels_last=False)
    if names := changed(before, beside(model.module)):
        raise InputError(
            f"{name}: training changes {names[0]!r}, which is no parameter and no float32 buffer, "
            "so that no client would be sent it; make it a float32 buffer, or keep it elsewhere"
        )
    model.load(*start)
    if not first.agrees(_run(model, inputs, targets, config, channels_last=False)):
        raise InputError(
            f"{name}: the same batch gives other gradients the second time, although parameters, "
            "buffers and global generators are as before; something outside the network counts"
        )
    model.load(*start)
    fits = config.channels_last and safe_channels_last(model.module)
    fits = fits and _fits_channels_last(model, inputs, targets, config, first)
    model.load(*start)
    model.rewind_counters()
    model.grads.zero_()
    updated = (first.buffers != start[1]).numpy()
    return Manner(fits, first.drew, not first.drew), _resting(structure, updated)


def _resting(structure: Structure, updated: NDArray[np.bool_]) -> Structure:
    """Return the structure in which buffers of which nothing was updated are constants."""
    moves = [structure.moving_parameters]
    for name in structure.buffers.names:
        where, _ = structure.buffers.place(name)
        moves.append(np.full(where.stop - where.start, updated[where].any()))
    return replace(structure, moves=np.concatenate(moves))


def _check_outputs(model: FlatModel, inputs: Tensor, targets: Tensor, classes: int) -> None:
    name = type(model.module).__name__
    model.module.eval()
    try:
        with torch.no_grad(), lent(0, "trial"):
            outputs = model.module(inputs)
    except _REFUSALS as error:
        raise InputError(f"{name} cannot take inputs of shape {_shape(inputs)}: {error}") from error
    if not isinstance(outputs, Tensor):
        raise InputError(f"{name} returns {type(outputs).__name__}, expected one tensor of logits")
    wanted = [*targets.shape, classes]
    fits = outputs.shape[:-1] == targets.shape and outputs.dim() and outputs.shape[-1] >= classes
    if not fits:
        raise InputError(
            f"{name} returns shape {_shape(outputs)} for {_SAMPLES} samples, expected {wanted}"
        )
    if not outputs.is_floating_point():
        raise InputError(f"{name} returns {outputs.dtype}, expected logits")


def _fits_channels_last(
    model: FlatModel, inputs: Tensor, targets: Tensor, config: TrainConfig, usual: _Pass
) -> bool:
    try:
        return usual.agrees(_run(model, inputs, targets, config, channels_last=True))
    except RuntimeError:  # "view size is not compatible with input tensor's size and stride"
        return False


def _run(
    model: FlatModel, inputs: Tensor, targets: Tensor, config: TrainConfig, *, channels_last: bool
) -> _Pass:
    plain = replace(config, precision="float32", device="cpu")
    model.module.train()
    model.rewind_counters()
    with lent(0, "trial"), model.working(channels_last) as work:
        before = global_picture()
        loss = by_autograd(model.module, work, plain)(inputs, targets)
        drew = global_picture() != before
        grads = work.restore(work.grads).clone()
    return _Pass(loss, grads, model.buffers.clone(), drew)


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)


def safe_channels_last(module: nn.Module) -> bool:
    """Tell whether no convolution meets a fault of oneDNN that corrupts memory.

    Channels-last, the weight gradient of a strided 1x1 convolution is wrong where it has fewer
    input channels than a vector has places (8 or 16 by processor): oneDNN issue 6035.
    """
    return not any(
        isinstance(part, nn.Conv2d)
        and part.kernel_size == (1, 1)
        and part.stride != (1, 1)
        and part.in_channels < _VECTOR
        for part in module.modules()
    )
