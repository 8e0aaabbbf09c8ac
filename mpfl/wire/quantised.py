"""Quantised values: a scale a segment and small integers at their entropy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfl.wire.errors import WireError
from mpfl.wire.symbols import Symbols, decode_symbols, encode_symbols, entropy_bits

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_SCALE_BYTES = 2
_SEARCH_SAMPLE = 8192
_SEARCH_STEPS = 24


@dataclass(frozen=True)
class QuantisedCodec:
    """Integers times a step for each segment.

    Attributes
    ----------
    name
        For error messages.
    choose_step
        From a segment's values (float64[n], not all zero) to a step above 0. It is then rounded
        up to a bfloat16.
    round
        From values in steps (float64[n]) and a stream to whole numbers.
    largest
        Integers go from -largest to largest.
    """

    name: str
    choose_step: Callable[[Doubles], float]
    round: Callable[[Doubles, np.random.Generator | None], Doubles]
    largest: int
    relative: bool = True

    def encode(
        self,
        values: Floats,
        segments: Sequence[int],
        rng: np.random.Generator | None = None,
        classes: NDArray[np.uint8] | None = None,
    ) -> bytes:
        """Return the steps, then the integers; ValueError without a stream where one is needed."""
        exact = values.astype(np.float64)
        steps = np.zeros(len(segments), np.uint16)
        symbols = np.zeros(values.size, np.int8)
        begin = 0
        for i, count in enumerate(segments):
            part = exact[begin : begin + count]
            if part.any():
                steps[i] = _bfloat16_above(self.choose_step(part))
                whole = self.round(part / float(_widen(steps[i : i + 1])[0]), rng)
                symbols[begin : begin + count] = np.clip(whole, -self.largest, self.largest)
            begin += count
        order, parts = _coded_order(segments, steps, classes)
        return steps.astype("<u2").tobytes() + encode_symbols(symbols[order], parts)

    def decode(
        self,
        payload: bytes,
        segments: Sequence[int],
        classes: NDArray[np.uint8] | None = None,
    ) -> Floats:
        """Return integers times steps; WireError if the payload is not legal."""
        symbols, steps, order, _ = self._read(payload, segments, classes)
        wide = np.repeat(_widen(steps), np.array(segments, np.int64))
        values = np.zeros(wide.size, np.float32)
        with np.errstate(over="ignore", under="ignore"):
            values[order] = symbols.astype(np.float32) * wide[order]
        if not np.isfinite(values).all():
            raise WireError("values.steps", "one is too large")
        return values

    def bound_bytes(
        self,
        payload: bytes,
        segments: Sequence[int],
        classes: NDArray[np.uint8] | None = None,
    ) -> float:
        """Return the entropy of the integers, by segment and class, plus the steps."""
        symbols, _, _, parts = self._read(payload, segments, classes)
        return entropy_bits(symbols, parts) / 8 + _SCALE_BYTES * len(segments)

    def _read(
        self, payload: bytes, segments: Sequence[int], classes: NDArray[np.uint8] | None
    ) -> tuple[Symbols, NDArray[np.uint16], NDArray[np.intp], list[int]]:
        size = _SCALE_BYTES * len(segments)
        if len(payload) < size:
            raise WireError("values.steps", "the payload ends inside them")
        steps = np.frombuffer(payload[:size], "<u2").astype(np.uint16)
        if (steps >= 0x7F80).any():
            raise WireError("values.steps", "one is negative or not finite")
        order, parts = _coded_order(segments, steps, classes)
        symbols = decode_symbols(payload[size:], parts)
        if symbols.size and int(np.abs(symbols.astype(np.int64)).max()) > self.largest:
            raise WireError("values.symbols", f"one is beyond {self.largest}")
        return symbols, steps, order, parts


def nearest(scaled: Doubles, rng: np.random.Generator | None) -> Doubles:
    """Round to the nearest integer: the least error, but biased."""
    return np.rint(scaled)


def stochastic(scaled: Doubles, rng: np.random.Generator | None) -> Doubles:
    """Round up or down at random so that the expectation is exact; ValueError without a stream."""
    if rng is None:
        raise ValueError("rng: stochastic rounding needs a stream")
    return np.floor(scaled + rng.random(scaled.size))


def dead_zone(width: float) -> Callable[[Doubles, np.random.Generator | None], Doubles]:
    """Return a rounding to nearest, but away from zero only from `width` beyond an integer on."""

    def apply(scaled: Doubles, rng: np.random.Generator | None) -> Doubles:
        return np.copysign(np.floor(np.abs(scaled) + (1.0 - width)), scaled)

    return apply


def full_range(largest: int) -> Callable[[Doubles], float]:
    """Return a choice of step that clips nothing."""
    return lambda values: float(np.abs(values).max()) / largest


def least_error(largest: int) -> Callable[[Doubles], float]:
    """Return a choice of step that makes the squared error least, clipping what is rare."""

    def choose(values: Doubles) -> float:
        sample = values[:: 1 + values.size // _SEARCH_SAMPLE]
        top = float(np.abs(values).max()) / largest
        candidates = top * np.geomspace(1 / 64, 1.0, _SEARCH_STEPS)
        errors = []
        for step in candidates:
            whole = np.clip(np.rint(sample / step), -largest, largest)
            errors.append(float(np.square(sample - whole * step).sum()))
        return float(candidates[int(np.argmin(errors))])

    return choose


def of_root_mean_square(factor: float) -> Callable[[Doubles], float]:
    """Return a choice of step: `factor` times the segment's root mean square.

    It is larger where 127 steps would not reach the largest value.
    """

    def choose(values: Doubles) -> float:
        floor = float(np.abs(values).max()) / 127
        return max(factor * float(np.sqrt(np.square(values).mean())), floor)

    return choose


def _coded_order(
    segments: Sequence[int], steps: NDArray[np.uint16], classes: NDArray[np.uint8] | None
) -> tuple[NDArray[np.intp], list[int]]:
    """Return the places of the coded integers in their order, and the lengths of its parts.

    A segment whose step is 0 is not coded; the others are cut by class.
    """
    order: list[NDArray[np.intp]] = [np.zeros(0, np.intp)]
    parts: list[int] = []
    begin = 0
    for count, step in zip(segments, steps, strict=True):
        places = np.arange(begin, begin + count)
        begin += count
        if not step:
            continue
        if classes is None:
            parts.append(int(count))
        else:
            labels = classes[places]
            places = places[np.argsort(labels, kind="stable")]
            parts += [int(n) for n in np.bincount(labels) if n]
        order.append(places)
    return np.concatenate(order), parts


def _widen(steps: NDArray[np.uint16]) -> Floats:
    return (steps.astype(np.uint32) << 16).view(np.float32)


def _bfloat16_above(step: float) -> int:
    """Return the bits of the least bfloat16 that is not below `step`."""
    single = np.float32(step)
    bits = int(single.view(np.uint32))
    return (bits >> 16) + (bits & 0xFFFF > 0 or float(single) < step)
