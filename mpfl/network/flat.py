"""A network whose parameters live in one flat vector, so that masks and messages are slices."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mpfl.network.layers import Tensors

Bind = tuple[nn.Parameter, slice, tuple[int, ...]]


@dataclass(frozen=True)
class Manner:
    """How a network that others wrote has to be treated; by default with all care that is free.

    Attributes
    ----------
    channels_last
        Whether it may compute on images and convolutions stored channels-last.
    draws
        Whether it may draw from global generators.
    replays
        Whether a GPU may record a step and replay it: what it does hangs on tensors alone.
    """

    channels_last: bool = True
    draws: bool = True
    replays: bool = False


def tensors_of(module: nn.Module) -> tuple[Tensors, Tensors]:
    """Return names and shapes of the parameters and of the float32 buffers.

    A tensor that several modules share is one, with the name of the first; see `aliases_of`.
    """
    parameters = [(n, tuple(p.shape)) for n, p in module.named_parameters()]
    buffers = [(n, tuple(b.shape)) for n, b in module.named_buffers() if b.dtype == torch.float32]
    return (
        Tensors(tuple(n for n, _ in parameters), tuple(s for _, s in parameters)),
        Tensors(tuple(n for n, _ in buffers), tuple(s for _, s in buffers)),
    )


def aliases_of(module: nn.Module) -> dict[str, str]:
    """Return the further names of tied parameters and float32 buffers, and the first name each."""
    first: dict[int, str] = {}
    found = {}
    everything = [
        *module.named_parameters(remove_duplicate=False),
        *(b for b in module.named_buffers(remove_duplicate=False) if b[1].dtype == torch.float32),
    ]
    for name, tensor in everything:
        if first.setdefault(id(tensor), name) != name:
            found[name] = first[id(tensor)]
    return found


@dataclass(frozen=True)
class Working:
    """Vectors a module is bound to for a while, and how their order relates to the usual one.

    Attributes
    ----------
    values, grads
        float32[P].
    turned
        Where convolutions are stored channels-last, and their shapes; none: the usual order.
    """

    values: Tensor
    grads: Tensor
    turned: tuple[tuple[slice, tuple[int, ...]], ...] = ()

    def arrange(self, vector: Tensor) -> Tensor:
        """Bring a vector[P] from the usual order into this one."""
        if not self.turned:
            return vector
        out = vector.clone()
        for where, shape in self.turned:
            _channels_last(out[where], shape).copy_(vector[where].view(shape))
        return out

    def restore(self, vector: Tensor) -> Tensor:
        """Bring a vector[P] from this order into the usual one."""
        if not self.turned:
            return vector
        out = vector.clone()
        for where, shape in self.turned:
            out[where].view(shape).copy_(_channels_last(vector[where], shape))
        return out


def _channels_last(stored: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a view [out, in, h, w] of what is stored as [out, h, w, in]."""
    out, channels, height, width = shape
    return stored.view(out, height, width, channels).permute(0, 3, 1, 2)


class FlatModel:
    """A module bound to flat storage.

    Tied parameters lie there once. A frozen one (``requires_grad`` is False) has a gradient of
    zero, and `free` says so to whoever moves parameters for other reasons.

    Attributes
    ----------
    module
        The network; its parameters, gradients and float32 buffers are views of the three vectors
        below. Buffers of other types are as they were whenever training begins.
    manner
        How the network is to be treated.
    values, grads
        float32[P].
    buffers
        float32[B].
    free
        float32[P]: 0 for frozen parameters, 1 for others; None where none is frozen.
    parameters, statistics
        What lies where in ``values`` and in ``buffers``.
    """

    def __init__(self, module: nn.Module, manner: Manner = Manner()) -> None:
        self.module, self.manner = module, manner
        self.parameters, self.statistics = parameters, buffers = tensors_of(module)
        device = next((p.device for p in module.parameters()), torch.device("cpu"))
        self._elsewhere: dict[torch.device, FlatModel] = {}
        self._binds: list[Bind] = [
            (parameter, *parameters.place(name)) for name, parameter in module.named_parameters()
        ]
        stored = tuple((where, shape) for _, where, shape in self._binds if len(shape) == 4)
        self._turned = stored if manner.channels_last else ()
        self.values = torch.zeros(parameters.total, device=device)
        self.grads = torch.zeros(parameters.total, device=device)
        self.buffers = torch.zeros(buffers.total, device=device)
        self.free = self._free()
        for parameter, where, shape in self._binds:
            self.values[where].view(shape).copy_(parameter.detach())
        self._bind(self.values, self.grads, channels_last=False)
        self._counters: list[tuple[Tensor, Tensor]] = []
        for name, buffer in module.named_buffers():
            if name not in buffers:
                self._counters.append((buffer, buffer.clone()))
                continue
            where, shape = buffers.place(name)
            view = self.buffers[where].view(shape)
            view.copy_(buffer)
            buffer.data = view  # whoever else holds this tensor sees the view as well

    def _free(self) -> Tensor | None:
        if all(parameter.requires_grad for parameter, _, _ in self._binds):
            return None
        free = torch.ones_like(self.values)
        for parameter, where, _ in self._binds:
            free[where] = float(parameter.requires_grad)
        return free

    def rewind_counters(self) -> None:
        """Give buffers that are not float32, such as counts of batches, their first values."""
        for buffer, first in self._counters:
            buffer.copy_(first)

    def load(
        self,
        values: NDArray[np.float32] | Tensor,
        buffers: NDArray[np.float32] | Tensor | None = None,
    ) -> None:
        """Overwrite parameters (and buffers) with float32[P] (and float32[B])."""
        for into, vector in ((self.values, values), (self.buffers, buffers)):
            if isinstance(vector, Tensor):
                into.copy_(vector)
            elif vector is not None:
                np.copyto(into.numpy(), vector)

    def load_model(self, model: NDArray[np.float32]) -> None:
        """Overwrite parameters and buffers with float32[P + B]."""
        self.load(model[: self.parameters.total], model[self.parameters.total :])

    def read_model(self) -> NDArray[np.float32]:
        """Return a copy of parameters and buffers, float32[P + B]."""
        return np.concatenate([self.values.numpy(), self.buffers.numpy()])

    @contextmanager
    def on(self, device: torch.device) -> Iterator[FlatModel]:
        """Yield this model on a device: itself, or a copy there whose numbers come back here.

        The copy is made once, and gets this model's numbers whenever the block is entered.
        """
        if device == self.values.device:
            yield self
            return
        if device not in self._elsewhere:
            self._elsewhere[device] = FlatModel(copy.deepcopy(self.module).to(device), self.manner)
        there = self._elsewhere[device]
        there.load(self.values, self.buffers)
        yield there
        self.load(there.values, there.buffers)

    @contextmanager
    def working(self, channels_last: bool) -> Iterator[Working]:
        """Bind the module, for the block, to vectors in the order that computes fastest.

        Convolutions run up to twice as fast on weights stored channels-last. Inside the block
        the module reads and writes the vectors of the returned `Working`; afterwards `values`
        holds the result. Without convolutions, or where not asked for, they are the same.
        """
        usual = Working(self.values, self.grads)
        if not channels_last or not self._turned:
            yield usual
            return
        arranged = replace(usual, turned=self._turned).arrange(self.values)
        work = Working(arranged, torch.zeros_like(self.grads), self._turned)
        self._bind(work.values, work.grads, channels_last=True)
        try:
            yield work
        finally:
            self.values.copy_(work.restore(work.values))
            self._bind(self.values, self.grads, channels_last=False)

    def _bind(self, values: Tensor, grads: Tensor, channels_last: bool) -> None:
        for parameter, where, shape in self._binds:
            if channels_last and len(shape) == 4:
                parameter.data = _channels_last(values[where], shape)
                grad = _channels_last(grads[where], shape)
            else:
                parameter.data = values[where].view(shape)
                grad = grads[where].view(shape)
            if parameter.requires_grad:
                parameter.grad = grad

    def snapshot(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return copies of parameters and buffers."""
        return self.values.numpy().copy(), self.buffers.numpy().copy()
