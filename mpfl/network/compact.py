"""A masked network as a physically smaller, ordinary module with equal outputs."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mpfl.mask import Mask
from mpfl.network.gates import Recurrent
from mpfl.network.layers import Structure, Tensors


def compact(model: nn.Module, structure: Structure, mask: Mask) -> nn.Module:
    """Cut every pruned unit out of a copy of the network.

    In evaluation mode the small network's outputs equal those of the network whose parameters
    (and buffers) are zeroed by `mask`. Surviving numbers keep their order: the small network's
    flat vectors are ``values[structure.parameter_mask(mask)]`` and
    ``buffers[structure.buffer_mask(mask)]``.

    Parameters
    ----------
    model
        The network; it is not changed. Pruned parameters need not be zero.
    structure
        What `find_structure` returned for it at granularity ``filter``.
    mask
        Which units survive; at least one of every layer.

    Raises
    ------
    ValueError
        If the structure has units that are not slices of tensors (weight, kernel), the mask does
        not fit it, or a layer keeps no unit.
    """
    keeps = _surviving_indices(structure, mask)
    small = copy.deepcopy(model)
    for name, module in small.named_modules():
        tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        for leaf, tensor in tensors:
            axes = keeps.get(f"{name}.{leaf}" if name else leaf)
            if axes is not None:
                _replace(module, leaf, tensor, axes)
        if tensors:
            _update_sizes(module)
    return small


def _surviving_indices(structure: Structure, mask: Mask) -> dict[str, dict[int, Tensor]]:
    """Return, per tensor that a unit touches, the surviving indices of each cut axis."""
    if mask.layout != structure.layout:
        raise ValueError("the mask's layers are not those of the structure")
    keeps: dict[str, dict[int, NDArray[np.bool_]]] = {}
    bits = mask.layers()
    for layer in structure.layers:
        if not bits[layer.name].any():
            raise ValueError(f"layer {layer.name!r} keeps no unit; at least one must stay")
        for slot in layer.slots:
            if slot.axis is None:
                raise ValueError(
                    f"layer {layer.name!r}: only whole units (granularity 'filter') can be cut out"
                )
            shape = _shape(structure, slot.parameter)
            keep = slot.spread(bits[layer.name], shape).ravel()
            axes = keeps.setdefault(slot.parameter, {})
            axes[slot.axis] = axes.get(slot.axis, True) & keep
    return {
        name: {axis: torch.from_numpy(np.flatnonzero(keep)) for axis, keep in axes.items()}
        for name, axes in keeps.items()
    }


def _shape(structure: Structure, name: str) -> tuple[int, ...]:
    tensors: Tensors = structure.parameters if name in structure.parameters else structure.buffers
    return tensors.place(name)[1]


def _replace(module: nn.Module, leaf: str, tensor: Tensor, axes: dict[int, Tensor]) -> None:
    cut = tensor.detach()
    for axis, keep in axes.items():
        cut = cut.index_select(axis, keep.to(cut.device))
    if isinstance(tensor, nn.Parameter):
        setattr(module, leaf, nn.Parameter(cut, requires_grad=tensor.requires_grad))
    else:
        module.register_buffer(leaf, cut)


def _update_sizes(module: nn.Module) -> None:
    """Make the sizes a module states agree with its tensors."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Conv1d | nn.Conv2d):
        module.out_channels, module.in_channels = module.weight.shape[:2]
    elif isinstance(module, Recurrent):
        module.input_size = module.get_parameter("weight_ih_l0").shape[1]
        module.hidden_size = module.get_parameter("weight_hh_l0").shape[1]
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        sized = module.weight if module.affine else module.running_mean
        if sized is not None:
            module.num_features = sized.shape[0]
    elif isinstance(module, nn.GroupNorm):
        width = module.num_channels // module.num_groups
        module.num_channels = module.weight.shape[0]
        module.num_groups = module.num_channels // width
