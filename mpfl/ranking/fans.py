"""Which layer's outputs every layer reads: what the ranking ``coverage`` needs of a network."""

from __future__ import annotations

from torch import nn

from mpfl.config import PruneConfig
from mpfl.errors import InputError
from mpfl.network.coupling import couple
from mpfl.network.layers import INPUT, Structure
from mpfl.ranking.coverage import Coverage, Fan
from mpfl.scores import Score


def find_coverage(
    module: nn.Module,
    structure: Structure,
    config: PruneConfig,
    score: Score,
    input_shape: tuple[int, ...],
) -> Coverage | None:
    """Return the fans of every layer for ``ranking = "coverage"``; None for other rankings.

    A layer that reads a sum of several layers' outputs (a residual addition) gets no source, so
    that the backward sweep stops there.

    Raises
    ------
    InputError
        If the score gives no shares, or a unit is no single connection.
    """
    if not config.by_coverage:
        return None
    if not score.shares:
        raise InputError(
            f"prune.ranking: 'coverage' needs a score that is a share of a neuron's input, "
            f"such as 'activity'; got {config.score!r}"
        )
    if config.granularity == "filter":
        raise InputError("prune.ranking: 'coverage' ranks connections; use weight or kernel")
    sources = _sources(module, input_shape)
    fans = []
    for layer in structure.layers:
        part = module.get_submodule(layer.name)
        outputs = structure.parameters.place(f"{layer.name}.weight")[1][0]
        source, repeat = sources.get(layer.name, ("", 1))
        alpha = config.alpha_conv if isinstance(part, nn.Conv2d) else config.alpha_fc
        fans.append(Fan(layer.name, outputs, layer.units // outputs, alpha, source, repeat))
    return Coverage(tuple(fans))


def _sources(module: nn.Module, input_shape: tuple[int, ...]) -> dict[str, tuple[str, int]]:
    """Return, per reading module, the module it reads and its indices per output of that one."""
    found = {}
    for layer in couple(module, input_shape):
        if layer.kind not in ("linear", "conv"):
            continue
        width = layer.own()[0].repeat  # outputs that are one unit
        for slot in layer.slots:
            if slot.role == INPUT:
                found[slot.parameter.rpartition(".")[0]] = (layer.name, slot.repeat // width)
    return found
