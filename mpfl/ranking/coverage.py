"""Neural relief's selection rule: which connections cover the share alpha of a neuron's input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfl.errors import InputError
from mpfl.mask import Layout


@dataclass(frozen=True)
class Fan:
    """The units of one layer as a matrix [outputs, inputs] of connections.

    Attributes
    ----------
    layer
        Name of the layer in the layout; it has outputs · inputs units, output by output.
    outputs
        Neurons or filters.
    inputs
        Connections into each: the inputs of a linear layer, the kernels of a convolution.
    alpha
        Share of a neuron's total importance that the kept connections must carry.
    source
        The layer whose outputs these inputs are (empty: the data, or unknown).
    repeat
        Consecutive inputs per output of the source: height · width after a flatten, the
        kernel's area where the units of a convolution are single weights.
    """

    layer: str
    outputs: int
    inputs: int
    alpha: float
    source: str = ""
    repeat: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise InputError(f"alpha of {self.layer!r}: got {self.alpha}, expected 0 < a <= 1")
        if self.source and self.inputs % self.repeat:
            raise InputError(
                f"layer {self.layer!r}: {self.inputs} inputs are not {self.repeat} per source unit"
            )


@dataclass(frozen=True)
class Coverage:
    """The connections of every layer, in the order data flows through them."""

    fans: tuple[Fan, ...]


def covered(
    scores: Sequence[NDArray[np.float32]],
    layout: Layout,
    eligible: NDArray[np.bool_],
    coverage: Coverage,
) -> NDArray[np.bool_]:
    """Return bool[d]: the connections that the rule keeps.

    Dekhovich et al., "Neural network relief", arXiv 2109.10795: for every neuron or filter the
    shortest prefix of its incoming connections, best first, whose cumulative share reaches
    alpha. Afterwards, from the last layer to the first, a neuron without outgoing connections
    loses its incoming ones. A neuron that is dead on the scoring set contributes nothing to any
    reader, so its outgoing scores are zero, none of them is kept, and it goes the same way.

    Parameters
    ----------
    scores
        One vector per layer of shares of the neuron's total importance: those of one neuron
        sum to 1 minus the share of its bias.
    layout, eligible
        Layers, and bool[d] of the units that survive so far; others count as zero.
    coverage
        Connections and alpha of every layer.

    Raises
    ------
    InputError
        If the fans are not the layers of the layout, or shares of a neuron sum to more than 1.
    """
    if tuple(fan.layer for fan in coverage.fans) != layout.names:
        raise InputError(
            f"coverage of layers {[fan.layer for fan in coverage.fans]} "
            f"does not fit {list(layout.names)}"
        )
    keep: dict[str, NDArray[np.bool_]] = {}
    for fan, values, part in zip(coverage.fans, scores, layout.slices(), strict=True):
        if fan.outputs * fan.inputs != values.size:
            raise InputError(
                f"layer {fan.layer!r}: {fan.outputs} x {fan.inputs} connections "
                f"are not its {values.size} units"
            )
        shares = np.where(eligible[part], values, 0).astype(np.float64)
        keep[fan.layer] = covering_prefix(shares.reshape(fan.outputs, fan.inputs), fan)
    _sweep_backward(keep, coverage)
    return np.concatenate([keep[name].reshape(-1) for name in layout.names])


def covering_prefix(shares: NDArray[np.float64], fan: Fan) -> NDArray[np.bool_]:
    """Return bool[outputs, inputs]: per row the fewest best shares that reach alpha.

    The bias takes part with what is missing to 1, and always stays. Zero shares are never kept.
    """
    sums = shares.sum(axis=1, keepdims=True)
    if (sums > 1 + 1e-3).any():
        raise InputError(
            f"layer {fan.layer!r}: shares of a neuron sum to {sums.max():.3g}, expected at most 1 "
            "(coverage needs a score that is a share, such as 'activity')"
        )
    bias = np.clip(1.0 - sums, 0.0, None)
    every = np.concatenate([shares, bias], axis=1)
    best_first = np.argsort(-every, axis=1, kind="stable")
    before = np.cumsum(np.take_along_axis(every, best_first, axis=1), axis=1)
    reached = np.zeros(every.shape, np.bool_)
    # A connection belongs to the prefix if those before it do not reach alpha yet.
    reached[:, 1:] = before[:, :-1] >= fan.alpha - 1e-9
    keep = np.empty_like(reached)
    np.put_along_axis(keep, best_first, ~reached, axis=1)
    return keep[:, :-1]


def _sweep_backward(keep: dict[str, NDArray[np.bool_]], coverage: Coverage) -> None:
    """Remove, last layer first, the inputs of outputs that no reader is connected to."""
    sizes = {fan.layer: fan.outputs for fan in coverage.fans}
    for fan in reversed(coverage.fans):
        readers = [reader for reader in coverage.fans if reader.source == fan.layer]
        if not readers:
            continue
        read = np.zeros(fan.outputs, np.bool_)
        for reader in readers:
            if reader.inputs != sizes[fan.layer] * reader.repeat:
                raise InputError(
                    f"layer {reader.layer!r} reads {reader.inputs} inputs, but {fan.layer!r} "
                    f"has {fan.outputs} outputs of {reader.repeat}"
                )
            columns = keep[reader.layer].any(axis=0)
            read |= columns.reshape(fan.outputs, reader.repeat).any(axis=1)
        keep[fan.layer] &= read[:, None]
