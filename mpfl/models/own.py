"""Networks that others wrote, as they wrote them: values, ties, frozen parameters, and buffers.

A builder may look at real tensors and give its tensors whatever values it likes. The only demand
is that every party of a run, each for itself, gets the same network from the same seed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mpfl.errors import InputError
from mpfl.models.shapes import Builder, Shapes
from mpfl.network.tracing import example
from mpfl.seeding import lent_from


def build_own(build: Builder, shapes: Shapes, generator: torch.Generator) -> nn.Module:
    """Return what a builder makes of a generator's state, which is not moved.

    It is built twice, to see that only the seed decides. What draws from the global generators of
    torch, NumPy or Python gets the same numbers both times. Lazy modules are given their sizes by
    one sample of zeros.

    Raises
    ------
    InputError
        If the two differ, if there is no module, or one that cannot be trained as float32 on the
        CPU, or whose parameters share memory without being one parameter.
    """
    first, second = (_built(build, shapes, generator) for _ in range(2))
    _check_tensors(first)
    if difference := _difference(first, second):
        raise InputError(
            f"the builder is no function of the seed: built twice, {difference}; draw from the "
            "global generators of torch, NumPy or Python, which the run seeds"
        )
    again = {id(tensor) for _, tensor in _tensors(second)}
    # A builder that hands out the same tensors every time would hand out trained ones.
    shared = any(id(tensor) in again for _, tensor in _tensors(first))
    return copy.deepcopy(first) if shared else first


def _built(build: Builder, shapes: Shapes, generator: torch.Generator) -> nn.Module:
    with lent_from(generator):
        model: object = build(shapes)
        if not isinstance(model, nn.Module):
            raise InputError(f"the builder returns {type(model).__name__}, not a torch.nn.Module")
        if any(is_lazy(tensor) for _, tensor in _tensors(model)):
            training = model.training
            with torch.no_grad():
                model.eval()(example(model, shapes.input_shape))
            model.train(training)
    return model


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _difference(one: nn.Module, other: nn.Module) -> str:
    """Return what differs between two networks' tensors; empty if nothing does."""
    first, second = dict(_tensors(one)), dict(_tensors(other))
    if odd := sorted(first.keys() ^ second.keys()):
        return f"it has the tensor {odd[0]!r} only once"
    for name, tensor in first.items():
        if not _same(tensor, second[name]):
            return f"{name!r} differs"
    return ""


def _same(one: Tensor, other: Tensor) -> bool:
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    return bool(((one == other) | ((one != one) & (other != other))).all())


def _check_tensors(model: nn.Module) -> None:
    for name, tensor in _tensors(model):
        if tensor.device.type != "cpu" or tensor.layout != torch.strided:
            raise InputError(
                f"{name!r} is a {tensor.layout} tensor on {tensor.device}; build dense ones on "
                "the CPU (train.device says where they are trained)"
            )
    for name, parameter in model.named_parameters():
        if parameter.dtype != torch.float32:
            kind = str(parameter.dtype).removeprefix("torch.")
            raise InputError(f"parameter {name!r} is {kind}; only float32 can be trained")
        if not torch.isfinite(parameter).all():
            raise InputError(f"parameter {name!r} starts with a number that is not finite")
    _check_memory(model)


def _check_memory(model: nn.Module) -> None:
    """Refuse ties that are none: in flat vectors every tensor has a place of its own."""
    tensors = [*_tensors(model), *_attributes(model)]
    for name, parameter in model.named_parameters():
        if parameter.numel() * 4 > parameter.untyped_storage().nbytes():
            raise InputError(f"elements of parameter {name!r} share memory; clone it")
    places: dict[int, list[tuple[str, Tensor]]] = {}
    for name, tensor in tensors:
        places.setdefault(tensor.untyped_storage().data_ptr(), []).append((name, tensor))
    for start, group in places.items():
        for (one, first), (other, second) in combinations(group, 2):
            trained = isinstance(first, nn.Parameter) or isinstance(second, nn.Parameter)
            if start and trained and first is not second and _overlap(first, second):
                raise InputError(
                    f"{one!r} and {other!r} share memory, but are not the same parameter; tie "
                    "them by using one (and, say, its transpose in `forward`), or clone"
                )


def _attributes(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, Tensor):
                yield f"{name}.{key}".lstrip("."), value


def _overlap(one: Tensor, other: Tensor) -> bool:
    (low, high), (least, most) = _extent(one), _extent(other)
    return low < most and least < high


def _extent(tensor: Tensor) -> tuple[int, int]:
    start = int(tensor.storage_offset()) * tensor.element_size()
    span = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (int(span) + 1) * tensor.element_size()
