"""What a network keeps beside its parameters and float32 buffers: attributes, counters, constants.

None of it is sent or averaged, so that a network whose training changes it cannot be trained here
as in PyTorch.
"""

from __future__ import annotations

import random
import types
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

_TORCHS_OWN = frozenset(vars(nn.Module()))
_PLAIN = (bool, int, str, bytes, type(None), type, types.FunctionType)
_SEVERAL = (list, tuple, set, frozenset, deque)

Picture = Mapping[str, Any]
"""By name, something that is equal as long as the thing of that name is the same."""


def beside(module: nn.Module) -> Picture:
    """Return a picture of all that a network keeps beside its parameters and float32 buffers.

    Left out is whether it is training, and how many batches a normalisation has seen, which says
    nothing unless it averages over all of them; then it counts those of one client's training.
    """
    return dict(_pictures(module, set()))


def changed(before: Picture, after: Picture) -> list[str]:
    """Return the names of what differs between two pictures of one network."""
    names = [*before, *(name for name in after if name not in before)]
    return [name for name in names if before.get(name) != after.get(name)]


def _pictures(module: nn.Module, seen: set[int]) -> Iterator[tuple[str, Any]]:
    seen |= {id(part) for part in module.modules()}
    for kind in {base for part in module.modules() for base in type(part).__mro__}:
        if not kind.__module__.startswith(("torch.", "builtins")):
            yield from _of_class(kind, seen)
    for path, part in module.named_modules():
        for key, value in vars(part).items():
            if key not in _TORCHS_OWN:
                yield f"{path}.{key}".lstrip("."), _picture(value, seen)
        for key, buffer in part.named_buffers(recurse=False):
            counts = isinstance(part, _NormBase) and key == "num_batches_tracked"
            if buffer.dtype != torch.float32 and not counts:
                yield f"{path}.{key}".lstrip("."), _picture(buffer, seen)


def _of_class(kind: type, seen: set[int]) -> Iterator[tuple[str, Any]]:
    for key, value in vars(kind).items():
        if not key.startswith("__") and not callable(value):
            yield f"{kind.__name__}.{key}", _picture(value, seen)


def _picture(value: Any, seen: set[int]) -> Any:
    """Return something equal to the picture of whatever is the same as `value`."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, nn.Parameter) or id(value) in seen:
        return id(value)
    if isinstance(value, Tensor):
        return _numbers(value)
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, torch.Generator):
        return _numbers(value.get_state())
    if isinstance(value, random.Random):
        return value.getstate()
    seen = seen | {id(value)}
    if isinstance(value, np.random.Generator):
        return _picture(value.bit_generator.state, seen)
    if isinstance(value, nn.Module):  # one in a plain list, say, which PyTorch does not see
        tensors = [*value.named_parameters(), *value.named_buffers()]
        return {name: _numbers(tensor) for name, tensor in tensors} | dict(_pictures(value, seen))
    if isinstance(value, Mapping):
        return [(str(key), _picture(item, seen)) for key, item in value.items()]
    if isinstance(value, _SEVERAL):
        return [_picture(item, seen) for item in value]
    if hasattr(value, "__dict__"):
        return _picture(vars(value), seen)
    return repr(value)


def _numbers(tensor: Tensor) -> Any:
    plain = tensor.detach().cpu()
    dense = plain if plain.layout == torch.strided else plain.to_dense()
    numbers = dense.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
    return str(tensor.dtype), tuple(tensor.shape), numbers
