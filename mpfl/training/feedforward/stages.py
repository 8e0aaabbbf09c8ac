"""Convolution, ReLU and 2x2 pooling in one go, with gradients: for networks of few channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor, nn

try:
    from mpfl.training.feedforward import _stages
except ImportError:  # no compiler when the package was installed
    COMPILED = None
else:
    COMPILED = _stages if _stages.width() else None

_MOST_CHANNELS, _MOST_FILTERS = 32, 64  # with more, libraries fill their registers themselves
_NOTHING = torch.empty(0)

Finish = Callable[[Tensor, Tensor, Tensor], None]
"""Gets a parameter, where its gradient is kept, and its gradient; the last is scratch."""


@dataclass
class _Room:
    """Arrays for a number of groups; one of k groups is what the first k of them need.

    Attributes
    ----------
    x, x_gradient
        Inputs with padding, [groups, channels, height, width, side], and their gradient. Empty
        where nothing is padded, and where nobody asks for it.
    out, chosen
        [groups, filters, rows, columns, side]: outputs, and which of its four places (int32) each
        was found at.
    spread
        Scratch for one group.
    """

    x: Tensor
    out: Tensor
    chosen: Tensor
    x_gradient: Tensor
    spread: Tensor


class _Stage:
    """A convolution, the ReLU after it or after the pooling, and 2x2 pooling."""

    def __init__(self, kernel: ModuleType, convolution: nn.Conv2d, relu: bool, first: bool) -> None:
        self._kernels = kernel
        self.weight, self.bias = convolution.weight, convolution.bias
        self._weight = convolution.weight.detach()
        self._kernel, self._relu, self._first = int(convolution.kernel_size[0]), relu, first
        self._padding = int(convolution.padding[0])
        self._filter_gradient = torch.empty(self._weight.shape)
        self._bias_gradient = torch.empty(len(self._weight))
        self._zeros = torch.zeros(len(self._weight))
        self._sizes: tuple[int, ...] = ()
        self._room, self._x = _Room(*[_NOTHING] * 5), _NOTHING

    def make_room(self, groups: int, height: int, width: int) -> tuple[int, int]:
        """Prepare for so many groups of such inputs; returns rows and columns of the outputs."""
        filters, channels = self._weight.shape[:2]
        height, width = height + 2 * self._padding, width + 2 * self._padding
        rows, columns = ((size - self._kernel + 1) // 2 for size in (height, width))
        wide = width + self._kernel - 1
        before = self._sizes
        shape = (channels, height, width, self._kernel, filters, rows, columns, int(self._relu))
        self._sizes = (groups, *shape, wide)
        if groups > len(self._room.out) or before[1:] != self._sizes[1:]:
            side = self._kernels.width()
            x = groups, channels, height, width, side
            padded = torch.zeros(x) if self._padding else _NOTHING
            out = torch.zeros(groups, filters, rows, columns, side)
            spread = torch.zeros(filters, 2 * rows, wide, side)
            chosen = torch.zeros_like(out, dtype=torch.int32)
            gradient = _NOTHING if self._first else torch.zeros(x)
            self._room = _Room(padded, out, chosen, gradient, spread)
        return rows, columns

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of inputs [groups, channels, height, width, side], without padding."""
        room, groups, edge = self._room, self._sizes[0], self._padding
        if x.shape[1] != self._weight.shape[1]:
            raise ValueError(f"got {x.shape[1]} channels, expected {self._weight.shape[1]}")
        if edge:
            room.x[:groups, :, edge:-edge, edge:-edge] = x
            x = room.x[:groups]
        self._x = x
        bias = self._zeros if self.bias is None else self.bias.detach()
        filters = self._weight.permute(1, 2, 3, 0).contiguous()
        out = room.out[:groups]
        arrays = (x, filters, bias, out, room.chosen[:groups])
        self._kernels.forward(self._sizes, *(array.numpy() for array in arrays))
        return out

    def backward(self, gradient: Tensor, finish: Finish) -> Tensor:
        """Hand on the parameters' gradients; returns that of the inputs, which the first has not.

        Parameters
        ----------
        gradient
            That of the outputs, as `forward` returned them last.
        """
        room, groups, edge = self._room, self._sizes[0], self._padding
        filters = self._weight.permute(0, 2, 3, 1).contiguous()
        given = (gradient, room.out[:groups], room.chosen[:groups], self._x, filters)
        found = (self._filter_gradient, self._bias_gradient, room.x_gradient[:groups])
        arrays = (*given, room.spread, *found)
        self._kernels.backward(self._sizes, *(array.numpy() for array in arrays))
        for parameter, value in ((self.weight, found[0]), (self.bias, found[1])):
            if parameter is not None and parameter.grad is not None:
                finish(parameter.detach(), parameter.grad, value)
        if self._first or not edge:
            return found[2]
        return found[2][:, :, edge:-edge, edge:-edge].contiguous()


class Stages:
    """The stages that a feed-forward network begins with, by a compiled kernel.

    Libraries vectorise over the channels of a sample, of which small networks have few; here as
    many samples as a register has places are computed side by side. Results agree with autograd's
    up to rounding: sums have another order, and the largest of four places is found before the bias
    is added, which may make equal what was not.
    """

    def __init__(self, kernel: ModuleType, stages: list[_Stage]) -> None:
        self._kernels, self._stages = kernel, stages
        self._features: tuple[int, ...] = ()

    @classmethod
    def of(cls, layers: list[nn.Module]) -> tuple[Stages, int] | None:
        """Return the stages that a chain of layers begins with, and how many layers they are.

        None where it begins with none, or nothing is there to compute them: no compiler when the
        package was installed, a processor without AVX2, parameters that are not on it.
        """
        stages: list[_Stage] = []
        place = 0
        while COMPILED is not None and place < len(layers):
            convolution = layers[place]
            if not isinstance(convolution, nn.Conv2d) or not _plain(convolution):
                break
            after = layers[place + 1 : place + 3]
            kinds = [type(layer) for layer in after]
            if len(after) == 2 and kinds[0] is nn.ReLU and _halves(after[1]):
                taken, relu = 3, True
            elif after and _halves(after[0]):
                relu = kinds[1:] == [nn.ReLU]
                taken = 2 + relu
            else:
                break
            stages.append(_Stage(COMPILED, convolution, relu, first=not stages))
            place += taken
        return (cls(COMPILED, stages), place) if COMPILED and stages else None

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs [b, features] of inputs float32 [b, channels, height, width], b > 0.

        Raises
        ------
        ValueError
            For other channels than a convolution takes, and other types.
        """
        if inputs.dtype is not torch.float32:
            raise ValueError(f"inputs of {inputs.dtype}, expected float32")
        count, *shape = inputs.shape
        groups = -(-count // self._kernels.width())
        size = (shape[1], shape[2])
        for stage in self._stages:
            size = stage.make_room(groups, *size)
        x = torch.empty(groups, *shape, self._kernels.width())
        self._kernels.group(count, x[0, ..., 0].numel(), inputs.contiguous().numpy(), x.numpy())
        for stage in self._stages:
            x = stage.forward(x)
        self._features = tuple(x.shape)
        features = torch.empty(count, x[0, ..., 0].numel())
        self._kernels.ungroup(count, features.shape[1], x.numpy(), features.numpy())
        return features

    def backward(self, gradient: Tensor, finish: Finish) -> None:
        """Hand on the parameters' gradients, given that of what `forward` returned last."""
        count, features = gradient.shape
        x = torch.empty(self._features)
        self._kernels.group(count, features, gradient.contiguous().numpy(), x.numpy())
        for stage in reversed(self._stages):
            x = stage.backward(x, finish)


def _plain(layer: nn.Conv2d) -> bool:
    return (
        type(layer) is nn.Conv2d
        and layer.stride == layer.dilation == (1, 1)
        and layer.groups == 1
        and layer.in_channels <= _MOST_CHANNELS
        and layer.out_channels <= _MOST_FILTERS
        and layer.padding_mode == "zeros"
        and isinstance(layer.padding, tuple)
        and layer.padding[0] == layer.padding[1] < layer.kernel_size[0]
        and layer.kernel_size[0] == layer.kernel_size[1]
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype == torch.float32
    )


def _halves(layer: nn.Module) -> bool:
    """Tell whether a layer is max pooling that halves height and width."""
    return (
        type(layer) is nn.MaxPool2d
        and layer.kernel_size in (2, (2, 2))
        and layer.stride in (2, (2, 2))
        and layer.padding in (0, (0, 0))
        and layer.dilation in (1, (1, 1))
        and not layer.ceil_mode
        and not layer.return_indices
    )
