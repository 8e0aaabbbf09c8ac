"""Masks of matrices: every row, every column and every class has odds of its own.

Kept weights cluster: inputs that never vary keep none, important neurons keep many. The odds of a
unit are 2^((2 · row + 2 · column + class) / 2), with a small integer label for each row, column and
class of a layer. Labels are fitted by the sender (mpfl.wire.masks.matrix_fit) and are part of the
payload; units of equal odds then form a segment of independent bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfl.wire.entropy.grouping import BLOCK, Grouping
from mpfl.wire.entropy.symbols import decode_symbols, encode_symbols, entropy_bits
from mpfl.wire.errors import WireError
from mpfl.wire.masks.bernoulli import (
    CONSTANT,
    decode_with_parameters,
    encode_with_parameters,
    probabilities,
)
from mpfl.wire.masks.matrix_fit import fit_labels
from mpfl.wire.masks.plan import MaskPlan
from mpfl.wire.masks.sheet import Sheet
from mpfl.wire.varint import decode_varint, encode_varint

Bools = NDArray[np.bool_]
Labels = NDArray[np.int8]
Parameters = NDArray[np.uint8]

_LARGEST_SUM = 36


@dataclass(frozen=True)
class MatrixCode:
    """A fitted model of a mask, ready to be written.

    Attributes
    ----------
    widths
        Units per row of every layer.
    labels
        int8[labels]: of columns, rows and classes, layer after layer.
    groups
        How many labels each of these parts has.
    parameters
        uint8[d], each unit's parameter as in mpfl.wire.masks.bernoulli.
    """

    widths: tuple[int, ...]
    labels: Labels
    groups: tuple[int, ...]
    parameters: Parameters

    def estimated_bytes(self, bools: Bools, plan: MaskPlan) -> float:
        """Return about how long the payload will be, without writing it."""
        inside = plan.grouping.inside
        counts = np.zeros(512, np.int64)
        for begin in range(0, bools.size, BLOCK):
            part = slice(begin, begin + BLOCK)
            keys = self.parameters[part].astype(np.int64) * 2 + bools[part]
            counts += np.bincount(keys if inside is None else keys[inside[part]], minlength=512)
        rare = np.minimum(np.repeat(probabilities(), 2), 0.5)
        one = np.where(np.arange(CONSTANT) % 2 == 1, 1.0 - rare, rare)
        zeros, ones = counts[: 2 * CONSTANT : 2], counts[1 : 2 * CONSTANT : 2]
        bits = -float(ones @ np.log2(one) + zeros @ np.log2(1.0 - one))
        return (bits + entropy_bits(self.labels, self.groups)) / 8 + 4 * len(self.groups)


def fit_matrix(bools: Bools, plan: MaskPlan) -> MatrixCode:
    """Return the model for a mask of all units; ValueError if the plan has no widths."""
    units = plan.layout.units
    if len(plan.widths) != len(units):
        raise ValueError("mask codec 'matrix' needs the width of every layer")
    widths = tuple(min(w, n) if w > 0 else n for w, n in zip(plan.widths, units, strict=True))
    sheets = _sheets(plan, widths)
    labels = np.concatenate([fit_labels(bools, sheet) for sheet in sheets])
    return MatrixCode(widths, labels, _groups(sheets), _parameters(plan, sheets, labels))


def encode_matrix(bools: Bools, plan: MaskPlan, code: MatrixCode | None = None) -> bytes:
    """Return widths, labels and an rANS stream; ValueError if the plan has no widths."""
    code = code or fit_matrix(bools, plan)
    header = b"".join(encode_varint(width) for width in code.widths)
    coded = encode_symbols(code.labels, code.groups)
    grouping, used = _by_parameter(plan, code.parameters)
    stream = encode_with_parameters(used, grouping.gather(bools), grouping.lengths)
    return header + encode_varint(len(coded)) + coded + stream


def decode_matrix(payload: bytes | memoryview, plan: MaskPlan) -> Bools:
    """Return the bits of all units; raises WireError and nothing else."""
    code, stream = read_code(payload, plan)
    grouping, used = _by_parameter(plan, code.parameters)
    bits = decode_with_parameters(used, stream, grouping.lengths)
    bools = np.zeros(plan.layout.total, np.bool_)
    grouping.scatter(bits, bools)
    return bools


def read_code(payload: bytes | memoryview, plan: MaskPlan) -> tuple[MatrixCode, bytes | memoryview]:
    """Return the model that stands in front, and the stream behind it."""
    position = 0
    widths = []
    for units in plan.layout.units:
        width, position = decode_varint(payload, position, "mask.widths", units)
        if not width:
            raise WireError("mask.widths", "one is 0")
        widths.append(width)
    size, position = decode_varint(payload, position, "mask.labels", len(payload))
    if size > len(payload) - position:
        raise WireError("mask.labels", "the payload ends inside them")
    sheets = _sheets(plan, tuple(widths))
    groups, end = _groups(sheets), position + size
    labels = decode_symbols(payload[position:end], groups)
    parameters = _parameters(plan, sheets, labels)
    return MatrixCode(tuple(widths), labels, groups, parameters), payload[end:]


def _sheets(plan: MaskPlan, widths: tuple[int, ...]) -> list[Sheet]:
    layers = zip(plan.grouping.spans, widths, plan.grouping.counts, strict=True)
    classes, inside = plan.grouping.keys, plan.grouping.inside
    return [Sheet(place, width, counts, classes, inside) for place, width, counts in layers]


def _groups(sheets: list[Sheet]) -> tuple[int, ...]:
    return tuple(n for sheet in sheets for n in sheet.groups)


def _by_parameter(plan: MaskPlan, parameters: Parameters) -> tuple[Grouping, Parameters]:
    """Return the coded units grouped by parameter, and the parameters that occur."""
    whole = slice(0, plan.layout.total)
    grouping = Grouping.of([whole], parameters, plan.grouping.inside)
    return grouping, np.flatnonzero(grouping.counts[0]).astype(np.uint8)


def _parameters(plan: MaskPlan, sheets: list[Sheet], labels: Labels) -> Parameters:
    """Return each unit's parameter."""
    out = np.empty(plan.layout.total, np.uint8)
    table = _parameter_of_sum()
    begin = 0
    for sheet in sheets:
        columns, rows, classes = sheet.split(labels[begin : begin + sum(sheet.groups)])
        begin += sum(sheet.groups)
        twice = [2 * part.astype(np.int16) for part in (rows, columns)]
        for block in sheet.blocks(BLOCK):
            total = np.add.outer(twice[0][block.rows], twice[1][block.columns])
            total += block.of_classes(classes)
            np.clip(total, -_LARGEST_SUM, _LARGEST_SUM, out=total)
            total += _LARGEST_SUM
            block.put(table[total], out)
    return out


def _parameter_of_sum() -> Parameters:
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
