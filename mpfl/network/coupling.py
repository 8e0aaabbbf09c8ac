"""Trace a network and find which parameters live and die together with each unit.

A unit is an output channel of a convolution, an output neuron of a linear layer, or a hidden
unit of a recurrent layer. Units whose outputs are added are one unit, and so are the channels of
one group of a group normalisation, which share their statistics. Whatever reads or follows a unit
is tied to it; units that reach the output or the input are not prunable.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from mpfl.errors import InputError
from mpfl.network.flat import aliases_of
from mpfl.network.gates import Recurrent, hidden_slots, input_slot, is_plain, recurrent_kind
from mpfl.network.layers import FOLLOW, INPUT, OWN, Layer, Slot
from mpfl.network.tracing import shape_at, traced

_KEEPS_ZERO_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Tanh,
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.MaxPool1d, nn.MaxPool2d,
    nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d,
)  # fmt: skip
_KEEPS_ZERO: frozenset[object] = frozenset({
    F.relu, torch.relu, torch.relu_, F.leaky_relu, F.elu, F.gelu, F.silu, F.hardswish, torch.tanh,
    F.tanh, F.dropout, F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, "relu", "relu_", "tanh",
    "contiguous",
})  # fmt: skip
_MOVES_ZERO_MODULES = (nn.Sigmoid, nn.Softmax, nn.LogSoftmax, nn.Softplus)
_MOVES_ZERO: frozenset[object] = frozenset({
    torch.sigmoid, F.sigmoid, F.softmax, F.log_softmax, torch.softmax, torch.log_softmax,
    F.softplus, "sigmoid", "softmax", "log_softmax",
})  # fmt: skip
_ADDITIONS = frozenset({operator.add, operator.iadd, torch.add, "add", "add_"})
_FLATTENS = frozenset({torch.flatten, "flatten"})
_MEANS = frozenset({torch.mean, "mean"})
_KNOWN = _KEEPS_ZERO | _MOVES_ZERO | _FLATTENS | _MEANS | {operator.getitem}


@dataclass
class _Group:
    """Units that live and die together, and everything they decide about."""

    names: list[str] = field(default_factory=list)
    kind: str = ""
    units: int = 0
    width: int = 1
    """Channels, neurons or hidden units that are one unit."""
    slots: list[Slot] = field(default_factory=list)
    fixed: bool = False
    """Whether the units reach the network's input or output, and so may not be pruned."""
    merged_into: _Group | None = None

    def root(self) -> _Group:
        return self.merged_into.root() if self.merged_into else self

    def add(self, slot: Slot) -> None:
        """Add what the units decide about; the slot is that of single channels."""
        self.slots.append(replace(slot, repeat=slot.repeat * self.width))

    def widen(self, width: int) -> None:
        """Make so many channels one unit, a multiple of those that are."""
        factor, self.width = width // self.width, width
        self.units //= factor
        self.slots = [replace(slot, repeat=slot.repeat * factor) for slot in self.slots]


@dataclass(frozen=True)
class _Signal:
    """What is known of one value in the traced network.

    Attributes
    ----------
    group
        The units along `axis`.
    axis
        Axis of the units; None within a recurrent layer's tuple, where it is the last.
    repeat
        Consecutive indices per channel, neuron or hidden unit along `axis`.
    """

    group: _Group
    axis: int | None
    repeat: int = 1


def couple(model: nn.Module, input_shape: tuple[int, ...]) -> tuple[Layer, ...]:
    """Return the prunable layers of units, in the order in which inputs meet them.

    Parameters
    ----------
    model
        A network that ``torch.fx`` can trace; it is not changed.
    input_shape
        Shape of one input without the batch.

    Raises
    ------
    InputError
        If the network cannot be traced, or does something whose effect on units is not known.
    """
    graph = traced(model, input_shape)
    aliases = aliases_of(model)
    walk = _Walk(dict(graph.named_modules()), {*aliases, *aliases.values()})
    for node in graph.graph.nodes:
        walk.visit(node)
    return walk.layers()


class _Walk:
    """One pass over the traced network, from input to output."""

    def __init__(self, modules: dict[str, nn.Module], tied: set[str]) -> None:
        self._modules, self._tied = modules, tied
        self._signals: dict[fx.Node, _Signal] = {}
        self._groups: list[_Group] = []
        self._seen: set[str] = set()

    def layers(self) -> tuple[Layer, ...]:
        """Return every group that may be pruned."""
        return tuple(
            Layer(g.names[0], g.kind if len(g.names) == 1 else "coupled", g.units, tuple(g.slots))
            for g in self._groups
            if g.merged_into is None and not g.fixed
        )

    def visit(self, node: fx.Node) -> None:
        """Work out one node's signal from those of its arguments."""
        if node.op == "output":
            for source in node.all_input_nodes:
                self._signals[source].group.root().fixed = True
        elif node.op == "placeholder":
            self._signals[node] = _Signal(self._group(fixed=True), 1)
        elif node.op == "call_module":
            self._signals[node] = self._module(node)
        elif node.op in ("call_function", "call_method"):
            self._signals[node] = self._function(node)
        else:
            raise _unknown(node, "reads a tensor that no module owns")

    def _group(self, **start: Any) -> _Group:
        self._groups.append(_Group(**start))
        return self._groups[-1]

    def _source(self, node: fx.Node) -> _Signal:
        return self._signals[_argument(node)]

    def _module(self, node: fx.Node) -> _Signal:
        name = str(node.target)
        module = self._modules[name]
        if next(module.parameters(), None) is not None:
            if name in self._seen:
                raise _unknown(node, "is applied more than once")
            self._seen.add(name)
            self._check_own(node, name, module)
        source = self._source(node)
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            return self._weighted(node, name, module, source)
        if isinstance(module, Recurrent):
            return self._recurrent(node, name, module, source)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            return self._normalised(node, name, module, source)
        if isinstance(module, nn.GroupNorm):
            return self._normalised_in_groups(node, name, module, source)
        if isinstance(module, nn.Embedding):
            return _Signal(self._group(fixed=True), len(shape_at(node)) - 1)
        if isinstance(module, nn.Flatten):
            return _flattened(node, source, module.start_dim, module.end_dim)
        if isinstance(module, _KEEPS_ZERO_MODULES):
            return source
        if isinstance(module, _MOVES_ZERO_MODULES):
            source.group.root().fixed = True
            return source
        raise _unknown(node, f"is a {type(module).__name__}")

    def _check_own(self, node: fx.Node, name: str, module: nn.Module) -> None:
        """Refuse a module whose tensors are not simply its own; InputError naming it."""
        own = {f"{name}.{leaf}" for leaf, _ in module.named_parameters(recurse=False)}
        if own & self._tied:
            raise _unknown(node, "is tied to another layer")
        if parametrize.is_parametrized(module):
            raise _unknown(node, "computes its weights (a parametrization)")
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
            raise _unknown(node, "has hooks")

    def _weighted(
        self, node: fx.Node, name: str, module: nn.Linear | nn.Conv1d | nn.Conv2d, source: _Signal
    ) -> _Signal:
        linear = isinstance(module, nn.Linear)
        if not linear and getattr(module, "groups", 1) != 1:
            raise _unknown(node, "is a grouped convolution")
        axis = len(shape_at(node)) - 1 if linear else 1
        if source.axis != axis:
            raise _unknown(node, "mixes another axis than that of the units")
        slot = Slot(f"{name}.weight", 1, repeat=source.repeat, role=INPUT)
        source.group.root().add(slot)
        group = self._group(
            names=[name], kind="linear" if linear else "conv", units=module.weight.shape[0]
        )
        group.slots.append(Slot(f"{name}.weight", 0, role=OWN))
        group.fixed = not module.weight.requires_grad
        if module.bias is not None:
            group.slots.append(Slot(f"{name}.bias", 0, role=FOLLOW))
        return _Signal(group, axis)

    def _recurrent(self, node: fx.Node, name: str, module: Recurrent, source: _Signal) -> _Signal:
        if not is_plain(module):
            raise _unknown(node, "is not a plain single-layer recurrent module; stack several")
        if len(node.args) != 1:
            raise _unknown(node, "is given an initial state")
        source.group.root().add(input_slot(name, source.repeat))
        group = self._group(
            names=[name],
            kind=recurrent_kind(module),
            units=module.hidden_size,
            slots=hidden_slots(name, module),
            fixed=not all(parameter.requires_grad for parameter in module.parameters()),
        )
        return _Signal(group, None)

    def _normalised(
        self, node: fx.Node, name: str, module: nn.BatchNorm1d | nn.BatchNorm2d, source: _Signal
    ) -> _Signal:
        if source.axis != 1:
            raise _unknown(node, "normalises another axis than that of the units")
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            if getattr(module, leaf) is not None:
                slot = Slot(f"{name}.{leaf}", 0, repeat=source.repeat, role=FOLLOW)
                source.group.root().add(slot)
        return source

    def _normalised_in_groups(
        self, node: fx.Node, name: str, module: nn.GroupNorm, source: _Signal
    ) -> _Signal:
        group = source.group.root()
        if source.axis != 1 or source.repeat != 1 or group.kind in ("lstm", "gru"):
            raise _unknown(node, "normalises another axis than that of the units")
        if not module.affine:
            raise _unknown(node, "normalises groups without scales of its own")
        width = module.num_channels // module.num_groups
        if math.lcm(width, group.width) not in (width, group.width):
            raise _unknown(node, "normalises groups that overlap with those of another")
        group.widen(max(width, group.width))
        for leaf in ("weight", "bias"):
            group.add(Slot(f"{name}.{leaf}", 0, role=FOLLOW))
        return source

    def _function(self, node: fx.Node) -> _Signal:
        target = node.target
        if target in _ADDITIONS:
            return self._added(node)
        if target not in _KNOWN:
            raise _unknown(node, f"calls {getattr(target, '__name__', target)}")
        source = self._source(node)
        if target in _MOVES_ZERO:
            source.group.root().fixed = True
            return source
        if target in _FLATTENS:
            start = _option(node, 1, "start_dim", 0)
            return _flattened(node, source, start, _option(node, 2, "end_dim", -1))
        if target in _MEANS:
            return _averaged(node, source)
        return _indexed(node, source) if target is operator.getitem else source

    def _added(self, node: fx.Node) -> _Signal:
        if len(node.all_input_nodes) != 2 or len(node.args) != 2 or node.kwargs:
            raise _unknown(node, "adds something that is not the output of a module")
        first, second = (self._signals[source] for source in node.all_input_nodes)
        shapes = {shape_at(source) for source in node.all_input_nodes}
        if (first.axis, first.repeat) != (second.axis, second.repeat) or len(shapes) != 1:
            raise _unknown(node, "adds values of different layouts")
        self._merge(first.group.root(), second.group.root())
        return first

    def _merge(self, one: _Group, other: _Group) -> None:
        if one is other:
            return
        # Groups stand in the order of their first unit; the earlier one survives.
        first, second = sorted((one, other), key=lambda group: _position(self._groups, group))
        for group in (first, second):
            group.widen(math.lcm(first.width, second.width))
        first.names += second.names
        first.slots += second.slots
        first.kind = first.kind or second.kind
        first.units = first.units or second.units
        first.fixed = first.fixed or second.fixed
        second.merged_into = first


def _position(groups: list[_Group], group: _Group) -> int:
    return next(i for i, other in enumerate(groups) if other is group)


def _unknown(node: fx.Node, what: str) -> InputError:
    return InputError(f"cannot prune filters: {node.target!s} ({node.name}) {what}")


def _argument(node: fx.Node) -> fx.Node:
    sources = node.all_input_nodes
    if len(sources) != 1 or node.args[:1] != (sources[0],):
        raise _unknown(node, f"combines {len(sources)} values")
    return sources[0]


def _option(node: fx.Node, place: int, name: str, default: Any) -> Any:
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def _flattened(node: fx.Node, source: _Signal, start: int, end: int) -> _Signal:
    shape = shape_at(_argument(node))
    if source.axis != 1 or start != 1 or end % len(shape) != len(shape) - 1:
        raise _unknown(node, "flattens other axes than units and what follows them")
    return replace(source, repeat=source.repeat * math.prod(shape[2:]))


def _averaged(node: fx.Node, source: _Signal) -> _Signal:
    dims = _option(node, 1, "dim", None)
    if dims is None or source.axis is None:
        raise _unknown(node, "averages over the units")
    rank = len(shape_at(_argument(node)))
    over = {d % rank for d in ((dims,) if isinstance(dims, int) else dims)}
    if source.axis in over:
        raise _unknown(node, "averages over the units")
    if _option(node, 2, "keepdim", False):
        return source
    return replace(source, axis=source.axis - sum(d < source.axis for d in over))


def _indexed(node: fx.Node, source: _Signal) -> _Signal:
    if source.axis is None:  # an element of a recurrent layer's tuple
        shape = node.meta["shape"]
        return replace(source, axis=None if shape is None else len(shape) - 1)
    index = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
    if not all(isinstance(part, int | slice) for part in index):
        raise _unknown(node, "picks elements by something other than numbers and slices")
    if len(index) > source.axis and index[source.axis] != slice(None):
        raise _unknown(node, "picks single units")
    dropped = sum(isinstance(part, int) for part in index[: source.axis])
    return replace(source, axis=source.axis - dropped)
