"""Differences in whole powers of two, so that those of several rounds add up to one.

Who was away for rounds must be sent all that they changed. Differences in steps that have nothing
in common go one behind the other, and ten cost ten times as much as one. Whole multiples of one
fine grid add up exactly, in any order, and their sum is not much longer than one of them: about
log2(10) / 2 bits a value for ten that are like normal numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfl.errors import InputError
from mpfl.wire.errors import WireError
from mpfl.wire.values.base import Floats, Segments, ValueContext, cut
from mpfl.wire.values.quantised import (
    Doubles,
    Overall,
    QuantisedCodec,
    StepChoice,
    dead_zone,
    of_root_mean_square,
)

_FINEST_LOG2 = -20
_COARSEST_LOG2 = 120  # 127 of these are still a float32
FINEST = 2.0**_FINEST_LOG2
"""All steps, and the weights that training starts from, are multiples of it."""
EXACT_BELOW = 2.0 ** (24 + _FINEST_LOG2)
"""Multiples of `FINEST` below this are float32, and so are their sums: nothing is rounded."""
_DIGIT_BITS = 7


@dataclass(frozen=True)
class GridCodec(QuantisedCodec):
    """Integers times a power of two for each segment, `FINEST` or more."""

    def exact(self, values: Floats, segments: Segments, context: ValueContext) -> list[bytes]:
        """Return payloads whose sum is float32[n], multiples of `FINEST` below `EXACT_BELOW`.

        One where integers up to 127 can say it; for larger ones a second adds multiples of 128
        steps, and so on.
        """
        units = np.ldexp(values, -_FINEST_LOG2).astype(np.int32)
        shifts = np.zeros(len(segments), np.int32)
        for i, where in enumerate(cut(segments)):
            bits = int(np.bitwise_or.reduce(units[where], initial=0))
            shifts[i] = max((bits & -bits).bit_length() - 1, 0)
            units[where] >>= shifts[i]
        payloads: list[bytes] = []
        while units.any() or not payloads:
            digits = np.where(np.abs(units) <= self.largest, units, _lowest_digit(units))
            there = np.array([digits[where].any() for where in cut(segments)], np.bool_)
            steps = np.where(there, _halves(shifts + _FINEST_LOG2), 0).astype(np.uint16)
            symbols = digits.astype(np.int8)
            payloads.append(self.packed(steps, symbols, segments, context.classes))
            units = (units - digits) >> _DIGIT_BITS
            shifts += _DIGIT_BITS
        return payloads

    def check_steps(self, steps: NDArray[np.uint16]) -> None:
        """Raise WireError if one is no power of two from `FINEST` on."""
        whole = steps & 0x7F == 0
        if not (whole & ((steps == 0) | (steps >= _halves(_FINEST_LOG2)))).all():
            raise WireError("values.steps", "one is no power of two of the grid")


def grid(factor: float = 1.0, threshold: float = 0.5) -> GridCodec:
    """Integers times the power of two nearest to `factor` times each layer's root mean square.

    Like `step`, but what several rounds changed adds up: who was away is sent one sum.
    """
    if not (0.02 <= factor <= 100.0 and 0.5 <= threshold <= 1.0):
        got = f"grid({factor:g}, {threshold:g})"
        raise InputError(f"got {got}, expected grid(0.02 to 100, 0.5 to 1)")
    choose = nearest_power(of_root_mean_square(factor, factor))
    return GridCodec("grid", choose, dead_zone(threshold), 127, True)


def nearest_power(choose: StepChoice) -> StepChoice:
    """Return a choice of step: the power of two nearest to another's; 127 of them reach all."""

    def chosen(values: Doubles, overall: Overall) -> float:
        nearest = np.rint(np.log2(choose(values, overall)))
        least = np.ceil(np.log2(np.abs(values).max() / 127))
        return float(np.exp2(np.clip(max(nearest, least), _FINEST_LOG2, _COARSEST_LOG2)))

    return chosen


def on_grid(values: Floats) -> Floats:
    """Return the nearest multiples of `FINEST`."""
    nearest: Floats = np.ldexp(np.rint(np.ldexp(values, -_FINEST_LOG2)), _FINEST_LOG2)
    return nearest + np.float32(0)  # no -0


def _lowest_digit(units: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the remainders of 128 that are nearest to 0, from -64 to 63."""
    half = 1 << (_DIGIT_BITS - 1)
    return ((units + half) & ((1 << _DIGIT_BITS) - 1)) - half


def _halves(exponents: NDArray[np.int32] | int) -> NDArray[np.uint16]:
    """Return the upper halves of powers of two as float32."""
    powers = np.ldexp(np.float32(1), exponents)
    return (np.atleast_1d(powers).view(np.uint32) >> 16).astype(np.uint16)
