"""Values as bytes: float formats for values, quantised ones for differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mpfl.registry import Registry, parse_spec
from mpfl.wire.errors import WireError

Floats = NDArray[np.float32]


class ValueCodec(Protocol):
    """One way of writing float32 values.

    Attributes
    ----------
    relative
        True: it loses much, and is meant for differences against what the receiver holds.
    """

    @property
    def relative(self) -> bool:
        """Whether it is meant for differences."""
        ...

    def encode(
        self, values: Floats, segments: Sequence[int], rng: np.random.Generator | None
    ) -> bytes:
        """Return the payload of finite values."""
        ...

    def decode(self, payload: bytes, segments: Sequence[int]) -> Floats:
        """Read it; WireError if it is not legal."""
        ...

    def bound_bytes(self, payload: bytes, segments: Sequence[int]) -> float:
        """Return the fewest bytes in which the content of a legal payload could stand."""
        ...


def encode_values(
    values: Floats,
    codec: str,
    segments: Sequence[int],
    rng: np.random.Generator | None = None,
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

    Raises
    ------
    ValueError
        If a value is not finite or out of the format's range, shapes do not fit, or the codec
        is unknown.
    """
    if values.dtype != np.float32 or values.shape != (sum(segments),):
        got = f"{values.dtype}{list(values.shape)}"
        raise ValueError(f"values: got {got}, expected float32[{sum(segments)}]")
    if not np.isfinite(values).all():
        raise ValueError("values: not all of them are finite")
    return value_codec(codec).encode(values, segments, rng)


def decode_values(payload: bytes, codec: str, segments: Sequence[int]) -> Floats:
    """Read what `encode_values` wrote with the same codec and segments; returns float32[n].

    Raises
    ------
    WireError
        If the payload cannot have come from `encode_values`.
    """
    return value_codec(codec).decode(payload, segments)


def values_bound_bytes(payload: bytes, codec: str, segments: Sequence[int]) -> float:
    """Return the entropy bound, in bytes, of what a legal payload says.

    For float formats that is their length; for quantised ones the entropy of the symbols of
    every segment plus the scales.
    """
    return value_codec(codec).bound_bytes(payload, segments)


def value_codec(spec: str) -> ValueCodec:
    """Return the codec a spec such as ``"int4(nearest)"`` asks for; ValueError if there is none."""
    name, arguments = parse_spec(spec)
    codec = VALUE_CODECS[name]
    if arguments:
        raise ValueError(f"{spec!r}: {name} takes no arguments")
    return codec


@dataclass(frozen=True)
class FloatCodec:
    """A float format of 16 or 32 bits, little-endian, nothing around it.

    Attributes
    ----------
    name
        ``float32``, ``float16`` or ``bfloat16`` (the upper half of a float32, rounded to the
        nearest, ties to even).
    """

    name: str
    relative: bool = False

    @property
    def bytes_each(self) -> int:
        """Bytes a value."""
        return 4 if self.name == "float32" else 2

    def encode(
        self, values: Floats, segments: Sequence[int], rng: np.random.Generator | None = None
    ) -> bytes:
        """Return the values in this format; ValueError if one is beyond its range."""
        if self.name == "float32":
            return values.astype("<f4").tobytes()
        if self.name == "float16":
            with np.errstate(over="ignore"):
                half = values.astype("<f2")
        else:
            whole = values.view(np.uint32)
            half = ((whole + 0x7FFF + (whole >> 16 & 1)) >> 16).astype("<u2")
        payload = half.tobytes()
        if not np.isfinite(self._read(payload)).all():
            raise ValueError(f"values: one is too large for {self.name}")
        return payload

    def decode(self, payload: bytes, segments: Sequence[int]) -> Floats:
        """Read them; WireError on a wrong length or a value that is not finite."""
        expected = sum(segments) * self.bytes_each
        if len(payload) != expected:
            raise WireError("values", f"got {len(payload)} bytes, expected {expected}")
        values = self._read(payload)
        if not np.isfinite(values).all():
            raise WireError("values", "not all of them are finite")
        return values

    def bound_bytes(self, payload: bytes, segments: Sequence[int]) -> float:
        """Return the payload's own length."""
        return float(len(payload))

    def _read(self, payload: bytes) -> Floats:
        if self.name == "float32":
            return np.frombuffer(payload, "<f4").astype(np.float32)
        if self.name == "float16":
            return np.frombuffer(payload, "<f2").astype(np.float32)
        return (np.frombuffer(payload, "<u2").astype(np.uint32) << 16).view(np.float32)


VALUE_CODECS: Registry[ValueCodec] = Registry(
    "value codec",
    {name: FloatCodec(name) for name in ("float32", "float16", "bfloat16")},
)
