"""A network whose parameters live in one flat vector, so that masks and messages are slices."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mpfl.layers import Tensors


def tensors_of(module: nn.Module) -> tuple[Tensors, Tensors]:
    """Return names and shapes of the parameters and of the floating-point buffers."""
    parameters = [(n, tuple(p.shape)) for n, p in module.named_parameters()]
    buffers = [(n, tuple(b.shape)) for n, b in module.named_buffers() if b.is_floating_point()]
    return (
        Tensors(tuple(n for n, _ in parameters), tuple(s for _, s in parameters)),
        Tensors(tuple(n for n, _ in buffers), tuple(s for _, s in buffers)),
    )


class FlatModel:
    """A module bound to flat storage.

    Attributes
    ----------
    module
        The network; its parameters, gradients and floating-point buffers are views of the
        three vectors below.
    values, grads
        float32[P].
    buffers
        float32[B].
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        parameters, buffers = tensors_of(module)
        self.values = torch.zeros(parameters.total)
        self.grads = torch.zeros(parameters.total)
        self.buffers = torch.zeros(buffers.total)
        for name, parameter in module.named_parameters():
            where, shape = parameters.place(name)
            view = self.values[where].view(shape)
            view.copy_(parameter.detach())
            parameter.data = view
            parameter.grad = self.grads[where].view(shape)
        for name in buffers.names:
            where, shape = buffers.place(name)
            owner_name, _, leaf = name.rpartition(".")
            owner = module.get_submodule(owner_name)
            view = self.buffers[where].view(shape)
            view.copy_(owner.get_buffer(leaf))
            owner.register_buffer(leaf, view)

    def load(
        self, values: NDArray[np.float32] | Tensor, buffers: NDArray[np.float32] | None = None
    ) -> None:
        """Overwrite parameters (and buffers) with float32[P] (and float32[B])."""
        self.values.copy_(torch.as_tensor(values))
        if buffers is not None:
            self.buffers.copy_(torch.as_tensor(buffers))

    def snapshot(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return copies of parameters and buffers."""
        return self.values.numpy().copy(), self.buffers.numpy().copy()
