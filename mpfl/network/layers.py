"""Which parameters are prunable, what a unit is, and what a unit's bit does to parameters.

A layer of units touches parameters through slots. A slot says how the layer's bits are spread
over one parameter tensor, so that the mask of a parameter is the AND of all slots on it:

- own weights, one bit per weight or per convolution kernel (``axis is None``);
- own weights of a filter, neuron or recurrent unit (a slice along ``axis``);
- what follows the unit: its bias, its normalisation parameters and buffers;
- the weights of later layers that read the unit (input columns).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mpfl.mask import Layout, Mask

OWN, FOLLOW, INPUT = "own", "follow", "input"


@dataclass(frozen=True)
class Slot:
    """How one layer's unit bits spread over one parameter (or buffer) tensor.

    Attributes
    ----------
    parameter
        Name of the tensor, as in ``named_parameters`` or ``named_buffers``.
    axis
        Axis that units index; None: units run over the flattened tensor.
    tile
        The bits repeat this often as a block (4 for LSTM gates, 3 for GRU).
    repeat
        Each bit covers this many consecutive indices (height·width after a flatten, the
        kernel's area at kernel granularity).
    role
        ``own`` (the unit's prunable weights), ``follow`` (bias, normalisation) or ``input``
        (weights of later layers that read the unit).
    """

    parameter: str
    axis: int | None
    tile: int = 1
    repeat: int = 1
    role: str = OWN

    def spread(self, bits: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Return the bits as a boolean array that broadcasts against `shape`."""
        wide = np.tile(bits, self.tile) if self.tile > 1 else bits
        wide = np.repeat(wide, self.repeat) if self.repeat > 1 else wide
        if self.axis is None:
            return wide.reshape(shape)
        return wide.reshape([-1 if i == self.axis else 1 for i in range(len(shape))])


@dataclass(frozen=True)
class Layer:
    """One prunable layer of units.

    Attributes
    ----------
    name
        Module name (the first one's where several are coupled).
    kind
        ``linear``, ``conv``, ``lstm``, ``gru`` or ``coupled``.
    units
        Number of units.
    slots
        Every parameter the units decide about; at least one with role ``own``.
    """

    name: str
    kind: str
    units: int
    slots: tuple[Slot, ...]

    @property
    def single(self) -> bool:
        """Whether every unit is one weight of one tensor."""
        return self.slots == (Slot(self.slots[0].parameter, None),)

    def own(self) -> tuple[Slot, ...]:
        """Return the slots of the layer's own prunable weights."""
        return tuple(slot for slot in self.slots if slot.role == OWN)


@dataclass(frozen=True)
class Tensors:
    """Names, shapes and places of tensors laid one after another in a flat vector."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        edges = [0]
        for shape in self.shapes:
            edges.append(edges[-1] + int(np.prod(shape, dtype=np.int64)))
        object.__setattr__(self, "_edges", tuple(edges))
        object.__setattr__(self, "_index", {n: i for i, n in enumerate(self.names)})

    @property
    def total(self) -> int:
        """Elements of all tensors together."""
        return self._edges[-1]  # type: ignore[attr-defined, no-any-return]

    def place(self, name: str) -> tuple[slice, tuple[int, ...]]:
        """Return the flat slice and the shape of tensor `name`."""
        i = self._index[name]  # type: ignore[attr-defined]
        edges = self._edges  # type: ignore[attr-defined]
        return slice(edges[i], edges[i + 1]), self.shapes[i]

    def __contains__(self, name: object) -> bool:
        return name in self._index  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Structure:
    """Everything masks need to know about one network.

    Attributes
    ----------
    layers
        The prunable layers, in order.
    parameters, buffers
        Where each parameter and each float32 buffer stands in its flat vector.
    aliases
        Further names of tied tensors, each with the name that stands in `parameters` or `buffers`.
    moves
        bool[P + B]: which entries training may change: no frozen parameters, no buffers that are
        constants. None: all.
    """

    layers: tuple[Layer, ...]
    parameters: Tensors
    buffers: Tensors
    aliases: tuple[tuple[str, str], ...] = ()
    moves: NDArray[np.bool_] | None = field(default=None, compare=False)

    @cached_property
    def layout(self) -> Layout:
        """Layout of this network's masks."""
        return Layout(
            tuple(layer.name for layer in self.layers),
            tuple(layer.units for layer in self.layers),
        )

    @cached_property
    def moving_parameters(self) -> NDArray[np.bool_]:
        """bool[P]: which parameters training may change."""
        total = self.parameters.total
        return np.ones(total, np.bool_) if self.moves is None else self.moves[:total]

    @cached_property
    def moving_buffers(self) -> NDArray[np.bool_]:
        """bool[B]: which entries of buffers training may change."""
        if self.moves is None:
            return np.ones(self.buffers.total, np.bool_)
        return self.moves[self.parameters.total :]

    def parameter_mask(self, mask: Mask) -> NDArray[np.bool_]:
        """Return bool[P]: which parameters survive `mask` (those no unit owns always do)."""
        return self._expand(mask, self.parameters)

    def buffer_mask(self, mask: Mask) -> NDArray[np.bool_]:
        """Return bool[B]: which buffer entries belong to surviving units."""
        return self._expand(mask, self.buffers)

    def named(self, model: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return every parameter and buffer of a model, float32[P + B], as a view by each name."""
        named, start = {}, 0
        for tensors in (self.parameters, self.buffers):
            for name in tensors.names:
                where, shape = tensors.place(name)
                named[name] = model[start + where.start : start + where.stop].reshape(shape)
            start += tensors.total
        return named | {alias: named[name] for alias, name in self.aliases}

    def prunable(self) -> NDArray[np.bool_]:
        """Return bool[P]: which parameters are prunable weights (role ``own``)."""
        out = np.zeros(self.parameters.total, np.bool_)
        for layer in self.layers:
            for slot in layer.own():
                out[self.parameters.place(slot.parameter)[0]] = True
        return out

    def densities(self, mask: Mask) -> tuple[float, float]:
        """Return surviving/all over prunable weights, and over all parameters."""
        keep = self.parameter_mask(mask)
        return float(keep[self.prunable()].mean()), float(keep.mean())

    def unit_values(self, vector: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Return, per layer, each unit's L2 norm of its own weights in a flat vector[P].

        At weight granularity that is the absolute value.
        """
        if all(layer.single for layer in self.layers):
            places = [self.parameters.place(layer.slots[0].parameter)[0] for layer in self.layers]
            return [np.abs(vector[where]) for where in places]
        squares = np.square(vector, dtype=np.float64)
        return [np.sqrt(sum_over_units(layer, self.parameters, squares)) for layer in self.layers]

    def _expand(self, mask: Mask, tensors: Tensors) -> NDArray[np.bool_]:
        if mask.layout != self.layout:
            raise ValueError(
                f"mask of layers {list(mask.layout.names)} with {list(mask.layout.units)} units "
                f"does not fit {list(self.layout.names)} with {list(self.layout.units)}"
            )
        out = np.ones(tensors.total, np.bool_)
        bits = mask.layers()
        for layer in self.layers:
            for slot in layer.slots:
                if slot.parameter in tensors:
                    where, shape = tensors.place(slot.parameter)
                    view = out[where].reshape(shape)
                    view &= slot.spread(bits[layer.name], shape)
        return out


def sum_over_units(
    layer: Layer, tensors: Tensors, vector: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Sum a flat vector[P] over each unit's own weights; returns float32[units]."""
    total = np.zeros(layer.units, np.float64)
    for slot in layer.own():
        where, shape = tensors.place(slot.parameter)
        values: NDArray[np.floating] = vector[where]
        if slot.axis is not None:
            before, after = math.prod(shape[: slot.axis]), math.prod(shape[slot.axis + 1 :])
            columns = values.reshape(before, shape[slot.axis], after)
            values = columns.sum(axis=(0, 2), dtype=np.float64)
        if slot.tile == slot.repeat == 1:
            total += values
        else:
            blocks = values.reshape(slot.tile, layer.units, slot.repeat)
            total += blocks.sum(axis=(0, 2), dtype=np.float64)
    return total.astype(np.float32)
