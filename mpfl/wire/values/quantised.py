"""Quantised values: a scale a segment and small integers at their entropy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mpfl.wire.entropy.grouping import Grouping
from mpfl.wire.entropy.symbols import Symbols, decode_symbols, encode_symbols, entropy_bits
from mpfl.wire.errors import WireError
from mpfl.wire.values.base import Classes, Floats, Segments, Stream, ValueContext

Doubles = NDArray[np.float64]

_SCALE_BYTES = 2
_CHUNK = 1 << 14
"""Values that are rounded at a time."""
_SEARCH_SAMPLE = 8192
_SEARCH_STEPS = 24


@dataclass(frozen=True)
class Overall:
    """What the choice of a segment's step knows beside its values.

    Attributes
    ----------
    mean_square
        Of all values.
    progress
        Share of the run's training that is over.
    """

    mean_square: float
    progress: float


StepChoice = Callable[[Doubles, Overall], float]


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
    feedback
        Whether rounding is biased.
    """

    relative: ClassVar[bool] = True
    name: str
    choose_step: StepChoice
    round: Callable[[Doubles, np.random.Generator | None], Doubles]
    largest: int
    feedback: bool

    @property
    def bits_each(self) -> int:
        """As many bits as the largest integer and a sign need."""
        return (self.largest + 1).bit_length()

    def encode(
        self, values: Floats, segments: Segments, rng: Stream, context: ValueContext
    ) -> bytes:
        """Return the steps, then the integers; ValueError without a stream where one is needed."""
        steps = np.zeros(len(segments), np.uint16)
        symbols = np.zeros(values.size, np.int8)
        overall = Overall(_mean_square(values), context.progress)
        begin = 0
        for i, count in enumerate(segments):
            part = values[begin : begin + count]
            if part.any():
                steps[i] = self._step(self.choose_step(part.astype(np.float64), overall))
                step, whole = float(_widen(steps[i : i + 1])[0]), symbols[begin : begin + count]
                self._whole(part, step, rng, whole)
                steps[i] *= whole.any()
            begin += count
        return self.packed(steps, symbols, segments, context.classes)

    def packed(
        self, steps: NDArray[np.uint16], symbols: Symbols, segments: Segments, classes: Classes
    ) -> bytes:
        """Return steps (upper halves of float32, 0 where all is 0) and integers as bytes."""
        grouping = _grouping(segments, steps, classes)
        coded = encode_symbols(grouping.gather(symbols), grouping.lengths)
        return steps.astype("<u2").tobytes() + coded

    def _step(self, step: float) -> int:
        """Return the bfloat16 from `step` on, but no more than has a finite largest multiple."""
        most = int((np.finfo(np.float32).max / np.float32(self.largest)).view(np.uint32)) >> 16
        return min(_bfloat16_above(step), most)

    def _whole(self, part: Floats, step: float, rng: Stream, out: Symbols) -> None:
        """Write the values of a segment in whole steps."""
        for begin in range(0, part.size, _CHUNK):
            some = slice(begin, begin + _CHUNK)
            whole = self.round(part[some].astype(np.float64) / step, rng)
            out[some] = np.clip(whole, -self.largest, self.largest)

    def decode(self, payload: bytes, segments: Segments, context: ValueContext) -> Floats:
        """Return integers times steps; WireError if the payload is not legal."""
        coded, steps, grouping = self._read(payload, segments, context.classes)
        symbols = np.zeros(sum(segments), np.int8)
        grouping.scatter(coded, symbols)
        values = symbols.astype(np.float32)
        begin = 0
        with np.errstate(over="ignore", under="ignore"):
            for count, step in zip(segments, _widen(steps), strict=True):
                values[begin : begin + count] *= step
                begin += count
        if not np.isfinite(values).all():
            raise WireError("values.steps", "one is too large")
        return values

    def bound_bytes(self, payload: bytes, segments: Segments, context: ValueContext) -> float:
        """Return the entropy of the integers, by segment and class, plus the steps."""
        coded, _, grouping = self._read(payload, segments, context.classes)
        return entropy_bits(coded, grouping.lengths) / 8 + _SCALE_BYTES * len(segments)

    def check_steps(self, steps: NDArray[np.uint16]) -> None:
        """Raise WireError if a step that arrived is none of this codec's; here all are."""

    def _read(
        self, payload: bytes, segments: Segments, classes: Classes
    ) -> tuple[Symbols, NDArray[np.uint16], Grouping]:
        size = _SCALE_BYTES * len(segments)
        if len(payload) < size:
            raise WireError("values.steps", "the payload ends inside them")
        steps = np.frombuffer(payload[:size], "<u2").astype(np.uint16)
        if (steps >= 0x7F80).any():
            raise WireError("values.steps", "one is negative or not finite")
        self.check_steps(steps)
        grouping = _grouping(segments, steps, classes)
        symbols = decode_symbols(memoryview(payload)[size:], grouping.lengths)
        if max(int(symbols.max(initial=0)), -int(symbols.min(initial=0))) > self.largest:
            raise WireError("values.symbols", f"one is beyond {self.largest}")
        if not all(part.any() for part in _by_span(symbols, grouping)):
            raise WireError("values.steps", "one has no integer but 0")
        return symbols, steps, grouping


def nearest(scaled: Doubles, rng: Stream) -> Doubles:
    """Round to the nearest integer: the least error, but biased."""
    return np.rint(scaled)


def stochastic(scaled: Doubles, rng: Stream) -> Doubles:
    """Round up or down at random so that the expectation is exact; ValueError without a stream."""
    if rng is None:
        raise ValueError("rng: stochastic rounding needs a stream")
    return np.floor(scaled + rng.random(scaled.size))


def dead_zone(width: float) -> Callable[[Doubles, np.random.Generator | None], Doubles]:
    """Return a rounding to nearest, but away from zero only from `width` beyond an integer on."""

    def apply(scaled: Doubles, rng: Stream) -> Doubles:
        return np.copysign(np.floor(np.abs(scaled) + (1.0 - width)), scaled)

    return apply


def full_range(largest: int) -> StepChoice:
    """Return a choice of step that clips nothing."""
    return lambda values, overall: float(np.abs(values).max()) / largest


def least_error(largest: int) -> StepChoice:
    """Return a choice of step that makes the squared error least, clipping what is rare."""

    def choose(values: Doubles, overall: Overall) -> float:
        sample = values[:: 1 + values.size // _SEARCH_SAMPLE]
        top = float(np.abs(values).max()) / largest
        candidates = top * np.geomspace(1 / 64, 1.0, _SEARCH_STEPS)
        errors = []
        for step in candidates:
            whole = np.clip(np.rint(sample / step), -largest, largest)
            errors.append(float(np.square(sample - whole * step).sum()))
        return float(candidates[int(np.argmin(errors))])

    return choose


def of_root_mean_square(first: float, last: float) -> StepChoice:
    """Return a choice of step: a factor times the segment's root mean square.

    The factor goes from `first` to `last` by equal ratios while training lasts.

    It is larger where 127 steps would not reach the largest value.
    """

    def choose(values: Doubles, overall: Overall) -> float:
        floor = float(np.abs(values).max()) / 127
        factor = first * float(last / first) ** overall.progress
        return float(max(factor * np.sqrt(np.square(values).mean()), floor))

    return choose


def least_cost(price: float, rounding: Callable[[Doubles, Stream], Doubles]) -> StepChoice:
    """Return a choice of step: the least squared error + price · bits.

    Errors are in units of the mean square of all values, not of the segment: a bit is worth the
    same error wherever it is spent, so that segments of small values get few or none. Bits are
    the entropy of the integers. Candidates are from 1/4 to 16 root mean squares of all values, a
    fourth root of 2 apart, and one step that leaves nothing; where 127 steps would not reach the
    largest value they are larger.

    Parameters
    ----------
    price
        What a bit a value is worth.
    rounding
        How values in steps become integers.
    """

    def choose(values: Doubles, overall: Overall) -> float:
        sample = values[:: 1 + values.size // _SEARCH_SAMPLE]
        largest = float(np.abs(values).max())
        factors = math.sqrt(overall.mean_square) * np.geomspace(0.25, 16, 25)
        steps = [*np.maximum(factors, largest / 127).tolist(), 4 * largest]
        costs = [cost(sample, rounding(sample / step, None), step, overall) for step in steps]
        return float(steps[int(np.argmin(costs))])

    def cost(values: Doubles, whole: Doubles, step: float, overall: Overall) -> float:
        error = float(np.square(values - whole * step).mean()) / overall.mean_square
        bits = entropy_bits(whole.clip(-127, 127).astype(np.int8), (whole.size,))
        return error + price * bits / whole.size

    return choose


def _mean_square(values: Floats) -> float:
    """Return the mean of squares, in doubles, a piece at a time; 0 of no values."""
    places = range(0, values.size, _CHUNK)
    sums = [np.square(values[i : i + _CHUNK].astype(np.float64)).sum() for i in places]
    return float(sum(sums)) / max(values.size, 1)


def _grouping(segments: Segments, steps: NDArray[np.uint16], classes: Classes) -> Grouping:
    """Return the coded integers: those of segments whose step is not 0, each by class."""
    spans: list[slice] = []
    begin = 0
    for count, step in zip(segments, steps.tolist(), strict=True):
        if step:
            spans.append(slice(begin, begin + count))
        begin += count
    return Grouping.of(spans, classes, None)


def _by_span(symbols: Symbols, grouping: Grouping) -> list[Symbols]:
    ends = np.cumsum([counts.sum() for counts in grouping.counts])
    return np.split(symbols, ends[:-1]) if ends.size else []


def _widen(steps: NDArray[np.uint16]) -> Floats:
    return (steps.astype(np.uint32) << 16).view(np.float32)


def _bfloat16_above(step: float) -> int:
    """Return the bits of the least bfloat16 that is not below `step`."""
    single = np.float32(step)
    bits = int(single.view(np.uint32))
    return (bits >> 16) + (bits & 0xFFFF > 0 or float(single) < step)
