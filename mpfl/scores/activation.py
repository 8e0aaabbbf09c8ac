"""Scores from a unit's own activations: the average percentage of zeros."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from mpfl.errors import InputError
from mpfl.network.layers import Layer, Structure
from mpfl.scores.base import ScoreInputs, UnitScores, in_order

_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.LSTM, nn.GRU, nn.Embedding)
_RELUS: frozenset[object] = frozenset({functional.relu, torch.relu, torch.relu_, "relu", "relu_"})


def apoz(inputs: ScoreInputs) -> UnitScores:
    """1 − the average share of zeros in the unit's activation after the next ReLU.

    Hu et al. 2016, "Network Trimming", arXiv 1607.03250, eq. 1. Where residual additions couple
    the channels of several convolutions, the mean over the ReLUs that follow any of them.
    """
    graph = _trace(inputs.model.module)
    found = [relus_after(graph, layer) for layer in inputs.structure.layers]
    axes = {
        node: _unit_axis(graph, layer)
        for layer, nodes in zip(inputs.structure.layers, found, strict=True)
        for node in nodes
    }
    counter = _ZeroCounter(graph, axes)
    samples = inputs.scoring_samples()
    inputs.model.module.eval()
    with torch.no_grad():
        for index in in_order(len(samples), inputs.batch_size):
            counter.run(samples.batch(index)[0])
    scores = []
    for layer, nodes in zip(inputs.structure.layers, found, strict=True):
        active = torch.stack([counter.active[n].reshape(layer.units, -1).mean(1) for n in nodes])
        scores.append((active.mean(0) / len(samples)).float().numpy())
    return scores


def without_relu(module: nn.Module, structure: Structure) -> dict[str, str]:
    """Return the layers that no ReLU follows before the next weights."""
    graph = _trace(module)
    layers = [layer for layer in structure.layers if not relus_after(graph, layer)]
    return {layer.name: "no ReLU follows it" for layer in layers}


def relus_after(graph: fx.GraphModule, layer: Layer) -> list[fx.Node]:
    """Return the first ReLU on each path that leaves one of the layer's own modules."""
    names = {slot.parameter.rpartition(".")[0] for slot in layer.own()}
    modules = dict(graph.named_modules())
    ahead = [n for n in graph.graph.nodes if n.op == "call_module" and n.target in names]
    found: dict[fx.Node, None] = {}
    while ahead:
        for reader in ahead.pop().users:
            module = modules.get(str(reader.target)) if reader.op == "call_module" else None
            if isinstance(module, nn.ReLU) or (module is None and reader.target in _RELUS):
                found[reader] = None
            elif not isinstance(module, _WEIGHTED):
                ahead.append(reader)
    return list(found)


def _trace(module: nn.Module) -> fx.GraphModule:
    try:
        return fx.symbolic_trace(module)
    except Exception as error:  # whatever the network's own code raises on a proxy
        raise InputError(f"score 'apoz' cannot trace {type(module).__name__}: {error}") from error


def _unit_axis(graph: fx.GraphModule, layer: Layer) -> int:
    """Return the axis of a layer's units in what it puts out: the last of linear layers, else 1."""
    modules = dict(graph.named_modules())
    names = {slot.parameter.rpartition(".")[0] for slot in layer.own()}
    return -1 if all(isinstance(modules.get(name), nn.Linear) for name in names) else 1


class _ZeroCounter(fx.Interpreter):  # type: ignore[misc, unused-ignore]
    """Runs the network and sums each unit's share of non-zero activations at some nodes.

    Parameters
    ----------
    axes
        Node → the axis of its units.
    """

    def __init__(self, graph: fx.GraphModule, axes: Mapping[fx.Node, int]) -> None:
        super().__init__(graph)
        self._axes = axes
        self.active: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node of the network."""
        result = super().run_node(n)
        if n in self._axes:
            share = (result != 0).double().movedim(self._axes[n], 0)
            share = share.flatten(2 if result.dim() > 2 else 1)
            seen = share.mean(2).sum(1) if result.dim() > 2 else share.sum(1)
            self.active[n] = self.active[n] + seen if n in self.active else seen
        return result
