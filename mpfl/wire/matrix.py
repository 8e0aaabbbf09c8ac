"""Masks of matrices: every row, every column and every class has odds of its own.

Kept weights cluster: inputs that never vary keep none, important neurons keep many. The odds of a
unit are 2^((row + column + class) / 2), with a small integer label for each row, column and class
of a layer. Labels are fitted by the sender as in a logistic regression and are part of the
payload; units of equal odds then form a segment of independent bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfl.wire.bernoulli import (
    decode_with_parameters,
    encode_with_parameters,
    probabilities,
)
from mpfl.wire.errors import WireError
from mpfl.wire.plan import Plan
from mpfl.wire.symbols import decode_symbols, encode_symbols
from mpfl.wire.varint import decode_varint, encode_varint

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]

_LARGEST_LABEL = 63
_LARGEST_SUM = 36
_ROUNDS = 3
_STEPS = (2, 2, 1)
"""How many halvings of √2 a label of a column, row and class is worth."""
_PRIOR = 0.5


@dataclass(frozen=True)
class _Labels:
    """Where each coded unit finds its three labels in one vector.

    Attributes
    ----------
    places
        int64[3, n]: for every coded unit the place of its column, row and class.
    groups
        The lengths of the parts of the vector: columns, rows and classes of every layer.
    kinds
        int64[labels]: 0 for columns, 1 for rows, 2 for classes.
    """

    places: Ints
    groups: tuple[int, ...]
    kinds: Ints

    @classmethod
    def of(cls, plan: Plan, widths: list[int]) -> _Labels:
        edges = plan.layout.offsets
        units = np.arange(plan.layout.total) if plan.units is None else plan.units
        layer_of_segment = _layers_of_segments(plan, units)
        segment_of_unit = np.repeat(np.arange(len(plan.lengths)), plan.lengths)
        layer_of_unit = layer_of_segment[segment_of_unit]
        width = np.array(widths, np.int64)
        height = -(-np.array(plan.layout.units, np.int64) // width)
        classes = np.bincount(layer_of_segment, minlength=width.size)
        groups = np.stack([width, height, classes], axis=1).ravel()
        starts = (np.cumsum(groups) - groups).reshape(-1, 3)
        inside = units - np.array(edges[:-1])[layer_of_unit]
        first_segment = np.cumsum(classes) - classes
        places = np.stack(
            [
                starts[layer_of_unit, 0] + inside % width[layer_of_unit],
                starts[layer_of_unit, 1] + inside // width[layer_of_unit],
                starts[layer_of_unit, 2] + segment_of_unit - first_segment[layer_of_unit],
            ]
        )
        kinds = np.repeat(np.tile(np.arange(3), width.size), groups)
        return cls(places, tuple(int(n) for n in groups), kinds)

    def parameters(self, labels: Ints) -> NDArray[np.uint8]:
        """Return each unit's parameter (see mpfl.wire.bernoulli)."""
        total = (labels * np.array(_STEPS)[self.kinds])[self.places].sum(axis=0)
        clipped = np.clip(total, -_LARGEST_SUM, _LARGEST_SUM)
        parameters: NDArray[np.uint8] = _parameter_of_sum()[clipped + _LARGEST_SUM]
        return parameters


def encode_matrix(bits: Bools, plan: Plan) -> bytes:
    """Return widths, labels and an rANS stream; ValueError if the plan has no widths."""
    if len(plan.widths) != len(plan.layout.units):
        raise ValueError("mask codec 'matrix' needs the width of every layer")
    widths = [
        min(w, n) if w > 0 else n for w, n in zip(plan.widths, plan.layout.units, strict=True)
    ]
    model = _Labels.of(plan, widths)
    labels = _fit(bits, model)
    header = b"".join(encode_varint(width) for width in widths)
    coded = encode_symbols(labels.astype(np.int8), model.groups)
    parameters = model.parameters(labels)
    order = np.argsort(parameters, kind="stable")
    used, lengths = np.unique(parameters, return_counts=True)
    stream = encode_with_parameters(used, bits[order], tuple(lengths.tolist()))
    return header + encode_varint(len(coded)) + coded + stream


def decode_matrix(payload: bytes, plan: Plan) -> Bools:
    """Read what `encode_matrix` wrote; raises WireError and nothing else."""
    position = 0
    widths = []
    for units in plan.layout.units:
        width, position = decode_varint(payload, position, "mask.widths", units)
        if not width:
            raise WireError("mask.widths", "one is 0")
        widths.append(width)
    size, position = decode_varint(payload, position, "mask.labels", len(payload))
    model = _Labels.of(plan, widths)
    labels = decode_symbols(payload[position : position + size], model.groups).astype(np.int64)
    parameters = model.parameters(labels)
    order = np.argsort(parameters, kind="stable")
    used, lengths = np.unique(parameters, return_counts=True)
    bits = np.empty(order.size, np.bool_)
    stream = payload[position + size :]
    bits[order] = decode_with_parameters(used, stream, tuple(lengths.tolist()))
    return bits


def _layers_of_segments(plan: Plan, units: NDArray[np.intp]) -> Ints:
    if not plan.lengths:
        return np.zeros(0, np.int64)
    firsts = units[np.cumsum(plan.lengths) - np.array(plan.lengths)]
    layers: Ints = np.searchsorted(np.array(plan.layout.offsets), firsts, side="right") - 1
    return layers


def _parameter_of_sum() -> NDArray[np.uint8]:
    """Return the parameter for each sum of labels, from the most negative one on.

    Powers of two and one constant: no function whose last digit could differ by machine.
    """
    sums = range(_LARGEST_SUM + 1)
    odds = np.array([2.0 ** -(s // 2) * (1.0 if s % 2 == 0 else 0.7071067811865476) for s in sums])
    chance = odds / (1.0 + odds)
    grid = probabilities()
    middles = (grid[1:] + grid[:-1]) / 2
    index = np.searchsorted(-middles, -chance, side="left")
    rare = (2 * index).astype(np.uint8)
    return np.concatenate([rare[:0:-1], rare | 1])[: 2 * _LARGEST_SUM + 1]


def _fit(bits: Bools, model: _Labels) -> Ints:
    """Return the labels: Newton steps in turn for columns, rows and classes, then rounding."""
    count = model.kinds.size
    scores = np.zeros(count)
    ones = [np.bincount(place[bits], minlength=count) for place in model.places]
    for step in range(_ROUNDS * 3 + 3):
        kind = (step + 2) % 3  # classes first, as they hold the overall density
        chance = 1.0 / (1.0 + np.exp(-scores[model.places].sum(axis=0)))
        place = model.places[kind]
        expected = np.bincount(place, chance, count)
        spread = np.bincount(place, chance * (1.0 - chance), count)
        penalty = 0.0 if kind == 2 else _PRIOR
        slope = ones[kind] - expected - penalty * scores
        scores += np.clip(slope / (spread + penalty + 1e-9), -2.0, 2.0) * (model.kinds == kind)
        if step >= _ROUNDS * 3:
            scores = np.where(model.kinds == kind, _to_labels(scores, kind) * _worth(kind), scores)
    worth = np.array([_worth(kind) for kind in range(3)])
    labels: Ints = np.rint(scores / worth[model.kinds]).astype(np.int64)
    return labels


def _worth(kind: int) -> float:
    """Return the log-odds of one label."""
    return float(np.log(2.0)) / 2 * _STEPS[kind]


def _to_labels(scores: Doubles, kind: int) -> Doubles:
    labels: Doubles = np.clip(np.rint(scores / _worth(kind)), -_LARGEST_LABEL, _LARGEST_LABEL)
    return labels
