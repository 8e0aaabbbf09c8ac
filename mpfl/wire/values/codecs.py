"""Values as bytes: float formats for values, quantised ones for differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import ClassVar, Literal

import numpy as np

from mpfl.errors import InputError, NotFiniteError
from mpfl.registry import Registry
from mpfl.wire.errors import WireError
from mpfl.wire.floats import check_floats, float32_bytes
from mpfl.wire.values.base import NOTHING_KNOWN, Floats, Segments, Stream, ValueCodec, ValueContext
from mpfl.wire.values.eden import EdenCodec
from mpfl.wire.values.grid import grid
from mpfl.wire.values.low_rank import LowRankCodec
from mpfl.wire.values.one_magnitude import SbcCodec, StcCodec
from mpfl.wire.values.quantised import (
    QuantisedCodec,
    dead_zone,
    full_range,
    least_cost,
    least_error,
    nearest,
    of_root_mean_square,
    stochastic,
)
from mpfl.wire.values.sparse import SignCodec, SparseCodec


def encode_values(
    values: Floats,
    codec: str,
    segments: Segments,
    rng: Stream = None,
    *,
    context: ValueContext = NOTHING_KNOWN,
) -> bytes:
    """Return the payload of float32 values.

    Parameters
    ----------
    values
        float32[n], finite.
    codec
        A name in `VALUE_CODECS`, with arguments where it takes some.
    segments
        How many consecutive values belong together (a layer's, usually) and share a scale; the
        sum is n. The receiver must know them.
    rng
        Stream for stochastic rounding; only codecs that round so need it.
    context
        What is known beside them: of its classes and shapes the receiver must know the same.

    Raises
    ------
    NotFiniteError
        If a value is not finite.
    ValueError
        If a value is out of the format's range, shapes do not fit, or the codec is unknown.
    """
    if values.dtype != np.float32 or values.shape != (sum(segments),):
        got = f"{values.dtype}{list(values.shape)}"
        raise ValueError(f"values: got {got}, expected float32[{sum(segments)}]")
    if not np.isfinite(values).all():
        advice = "if training diverged, a smaller train.lr, or train.clip, may help"
        raise NotFiniteError(f"values: not all of them are finite; {advice}")
    context.check(segments)
    return value_codec(codec).encode(values, segments, rng, context)


def decode_values(
    payload: bytes, codec: str, segments: Segments, *, context: ValueContext = NOTHING_KNOWN
) -> Floats:
    """Read what `encode_values` wrote with the same codec, segments and context.

    Returns float32[n], finite.

    Raises
    ------
    WireError
        If the payload cannot have come from `encode_values`.
    """
    context.check(segments)
    return value_codec(codec).decode(payload, segments, context)


def values_bound_bytes(
    payload: bytes, codec: str, segments: Segments, *, context: ValueContext = NOTHING_KNOWN
) -> float:
    """Return the entropy bound, in bytes, of what a legal payload says.

    For float formats that is their length; for quantised ones the entropy of the integers of
    every class of every segment plus the steps.
    """
    context.check(segments)
    return value_codec(codec).bound_bytes(payload, segments, context)


def value_codec(spec: str) -> ValueCodec:
    """Return the codec that a spec asks for; InputError if there is none.

    What stands behind a bar writes what the codec before it leaves to be written.

    Examples
    --------
    >>> value_codec("int4(nearest)").largest
    7
    >>> value_codec("lowrank(4) | int8").inner.name
    'int8'
    """
    outer, bar, inner = spec.partition("|")
    codec = _made(outer, VALUE_CODECS[outer.partition("(")[0].strip()])
    if not bar:
        return codec
    if not isinstance(codec, LowRankCodec):
        raise InputError(f"{spec!r}: only lowrank can stand before a bar, as in lowrank(4) | int8")
    return replace(codec, inner=value_codec(inner))


@lru_cache(maxsize=64)
def _made(spec: str, part: Callable[..., ValueCodec]) -> ValueCodec:
    """Return a codec; its part is in the key, because one of one's own may be replaced."""
    return VALUE_CODECS.bind(spec)()


def formula_bits(codec: str, segments: Segments, *, context: ValueContext = NOTHING_KNOWN) -> float:
    """Return what a paper would say that values in such segments cost: nothing entropy-coded."""
    chosen = value_codec(codec)
    if isinstance(chosen, LowRankCodec):
        return chosen.bits_each * chosen.numbers(segments, context)
    return chosen.bits_each * sum(segments)


_MINUS = 0x8000
"""-0, in 16 bits."""


@dataclass(frozen=True)
class FloatCodec:
    """A float format of 16 or 32 bits, little-endian, nothing around it.

    Attributes
    ----------
    name
        ``float32``, ``float16`` or ``bfloat16`` (the upper half of a float32, rounded to the
        nearest, ties to even).
    """

    relative: ClassVar[bool] = False
    feedback: ClassVar[bool] = False
    name: str

    @property
    def bits_each(self) -> int:
        """Bits a value."""
        return 32 if self.name == "float32" else 16

    def encode(
        self, values: Floats, segments: Segments, rng: Stream, context: ValueContext
    ) -> bytes:
        """Return the values in this format; ValueError if one is beyond its range."""
        if self.name == "float32":
            return float32_bytes(values)
        if self.name == "float16":
            with np.errstate(over="ignore"):
                half = values.astype("<f2") + np.float16(0)  # no -0
        else:
            whole = values.view(np.uint32)
            half = ((whole + 0x7FFF + (whole >> 16 & 1)) >> 16).astype("<u2")
            half[half == _MINUS] = 0
        payload = half.tobytes()
        if not np.isfinite(self._read(payload)).all():
            raise ValueError(f"values: one is too large for {self.name}")
        return payload

    def decode(self, payload: bytes, segments: Segments, context: ValueContext) -> Floats:
        """Read them; WireError on a wrong length or a value that is -0 or not finite."""
        expected = sum(segments) * self.bits_each // 8
        if len(payload) != expected:
            raise WireError("values", f"got {len(payload)} bytes, expected {expected}")
        values = self._read(payload)
        check_floats(values, "values")
        return values

    def bound_bytes(self, payload: bytes, segments: Segments, context: ValueContext) -> float:
        """Return the payload's own length."""
        return float(len(payload))

    def _read(self, payload: bytes) -> Floats:
        if self.name == "float32":
            return np.frombuffer(payload, "<f4").astype(np.float32)
        if self.name == "float16":
            return np.frombuffer(payload, "<f2").astype(np.float32)
        wide = np.frombuffer(payload, "<u2").astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)


def integers(
    name: str, largest: int, rounding: Literal["stochastic", "nearest"] = "stochastic"
) -> ValueCodec:
    """Integers times a step for each layer: no bias, or the least error (nearest)."""
    if rounding == "nearest":
        return QuantisedCodec(name, least_error(largest), nearest, largest, feedback=True)
    return QuantisedCodec(name, full_range(largest), stochastic, largest, feedback=False)


def step(factor: float = 1.0, threshold: float = 0.5, last: float = 0.0) -> ValueCodec:
    """Integers times `factor` times each layer's root mean square, small ones cut to zero.

    With `last`, the factor goes from `factor` to `last` while training lasts, by equal ratios.
    """
    fits = 0.02 <= factor <= 100.0 and 0.5 <= threshold <= 1.0
    if not fits or not (last == 0 or 0.02 <= last <= 100.0):
        got = f"step({factor:g}, {threshold:g}" + (f", {last:g})" if last else ")")
        raise InputError(f"got {got}, expected step(0.02 to 100, 0.5 to 1, 0.02 to 100)")
    choose = of_root_mean_square(factor, last or factor)
    return QuantisedCodec("step", choose, dead_zone(threshold), 127, True)


def priced_step(price: float, threshold: float = 0.65) -> ValueCodec:
    """Integers times the step of each layer that makes error + price · bits least.

    After Mitchell et al. 2022 (arXiv 2201.02664), where clients vote on one step for the next
    round; here each sender takes for each layer what is best for what it sends. See
    `mpfl.wire.values.quantised.least_cost`.
    """
    if not 1e-5 <= price <= 10 or not 0.5 <= threshold <= 1.0:
        got = f"rd_step({price:g}, {threshold:g})"
        raise InputError(f"got {got}, expected rd_step(0.00001 to 10, 0.5 to 1)")
    rounding = dead_zone(threshold)
    return QuantisedCodec("rd_step", least_cost(price, rounding), rounding, 127, True)


def low_rank(rank: int) -> ValueCodec:
    """Matrices as two factors of this rank, in float32 or, before a bar, in any other codec."""
    return LowRankCodec(rank, FloatCodec("float32"))


VALUE_CODECS: Registry[Callable[..., ValueCodec]] = Registry(
    "value codec",
    {
        "float32": partial(FloatCodec, "float32"),
        "float16": partial(FloatCodec, "float16"),
        "bfloat16": partial(FloatCodec, "bfloat16"),
        "int8": partial(integers, "int8", 127),
        "int4": partial(integers, "int4", 7),
        "int3": partial(integers, "int3", 3),
        "ternary": partial(integers, "ternary", 1),
        "step": step,
        "rd_step": priced_step,
        "grid": grid,
        "sparse": SparseCodec,
        "sign": SignCodec,
        "stc": StcCodec,
        "sbc": SbcCodec,
        "eden": EdenCodec,
        "lowrank": low_rank,
    },
    given=0,
)
"""What makes a codec from the arguments of its name: a class, or a function."""
