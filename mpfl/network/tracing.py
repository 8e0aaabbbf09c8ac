"""Run a network on one sample of zeros, and record its graph with the shape of every value."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn

from mpfl.errors import InputError


def shadow(model: nn.Module) -> nn.Module:
    """Return a copy of the network on the CPU, in evaluation mode.

    Tensors without values, those of the meta device, would do for shapes; but PyTorch imports its
    compiler to compute with them, which takes seconds, and one sample milliseconds.
    """
    return copy.deepcopy(model).to("cpu").eval()


def example(model: nn.Module, input_shape: tuple[int, ...], tokens: bool | None = None) -> Tensor:
    """Return one sample of zeros: int64 if it is of `tokens`, else float32.

    Where that is not known, a sequence is one of tokens if the network has an embedding.
    """
    if tokens is None:
        embeds = any(isinstance(module, nn.Embedding) for module in model.modules())
        tokens = len(input_shape) == 1 and embeds
    dtype = torch.int64 if tokens else torch.float32
    return torch.zeros((1, *input_shape), dtype=dtype)


def traced(model: nn.Module, input_shape: tuple[int, ...]) -> fx.GraphModule:
    """Return the network's graph; `shape_at` tells the shape of every tensor in it.

    Raises
    ------
    InputError
        If ``torch.fx`` cannot trace the network, or it does not accept such inputs.
    """
    copied = shadow(model)
    try:
        graph = fx.symbolic_trace(copied)
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"cannot trace {type(model).__name__}: {_first_line(error)}") from error
    try:
        with torch.no_grad():
            _ShapeRecorder(graph).run(example(copied, input_shape))
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{type(model).__name__} does not accept inputs of shape {input_shape}: "
            f"{_first_line(error)}"
        ) from error
    return graph


def shape_at(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a traced node's tensor."""
    shape: tuple[int, ...] = node.meta["shape"]
    return shape


class _ShapeRecorder(fx.Interpreter):
    """Runs the traced network and notes the shape of every tensor at its node."""

    extra_traceback = False

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        n.meta["shape"] = tuple(result.shape) if isinstance(result, Tensor) else None
        return result


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
