"""Differences of which few matter: the largest as float32 behind a mask, or only the signs."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mpfl.errors import InputError
from mpfl.mask import Layout, Mask
from mpfl.ranking.selection import top, units_to_keep
from mpfl.wire.errors import WireError
from mpfl.wire.floats import check_floats, float32_bytes
from mpfl.wire.masks import decode_mask, encode_mask, mask_bound_bits
from mpfl.wire.values.base import Classes, Floats, Segments, Stream, ValueContext
from mpfl.wire.varint import decode_varint, encode_varint

_SCALE = struct.Struct("<f")


def segment_layout(segments: Segments) -> Layout:
    """Return the layout of masks over values: a layer for each segment that is not empty."""
    sizes = tuple(int(n) for n in segments if n)
    return Layout(tuple(str(i) for i in range(len(sizes))), sizes)


@dataclass(frozen=True)
class SparseCodec:
    """The largest values as float32, and a coded mask that says where they stand.

    The payload is the mask's length (varint), the mask, the values. Values that are zero are
    never sent; ties go to the lower index.

    Attributes
    ----------
    share
        Of the values, over all segments together, that may be sent; at least one is.
    """

    relative: ClassVar[bool] = True
    feedback: ClassVar[bool] = True
    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"got share = {self.share:g}, expected 0 < share <= 1")

    @property
    def bits_each(self) -> float:
        """Of those sent 32 and an index of 32 bits, but no more than a dense vector takes."""
        return min(64 * self.share, 32)

    def encode(
        self, values: Floats, segments: Segments, rng: Stream, context: ValueContext
    ) -> bytes:
        """Return the payload; nothing for no values."""
        if not values.size:
            return b""
        size = np.abs(values)
        count = self._most(values.size)
        keep = np.zeros(values.size, np.bool_)
        keep[top([size], np.flatnonzero(size), count)] = True
        mask = encode_mask(Mask.from_bools(segment_layout(segments), keep), classes=context.classes)
        return encode_varint(len(mask)) + mask + float32_bytes(values[keep])

    def decode(self, payload: bytes, segments: Segments, context: ValueContext) -> Floats:
        """Return the values, zero where none was sent; WireError if the payload is not legal."""
        values = np.zeros(sum(segments), np.float32)
        mask, raw = self._read(payload, segments, context.classes)
        if mask is not None:
            values[mask.bools()] = np.frombuffer(raw, "<f4")
        return values

    def _most(self, count: int) -> int:
        """Return how many of so many values may be sent."""
        return max(1, units_to_keep(self.share, count))

    def bound_bytes(self, payload: bytes, segments: Segments, context: ValueContext) -> float:
        """Return the entropy of the places, and four bytes a value."""
        mask, raw = self._read(payload, segments, context.classes)
        if mask is None:
            return 0.0
        return len(raw) + mask_bound_bits(mask, classes=context.classes) / 8

    def _read(
        self, payload: bytes, segments: Segments, classes: Classes
    ) -> tuple[Mask | None, memoryview]:
        if not sum(segments):
            if payload:
                raise WireError("values", "a payload for no values")
            return None, memoryview(b"")
        length, start = decode_varint(payload, 0, "values.mask", len(payload))
        if length > len(payload) - start:
            raise WireError("values.mask", f"got {len(payload) - start} of {length} bytes")
        layout = segment_layout(segments)
        mask = decode_mask(payload[start : start + length], layout, classes=classes)
        raw = memoryview(payload)[start + length :]
        if len(raw) != 4 * mask.count() or mask.count() > self._most(sum(segments)):
            raise WireError("values", f"got {len(raw)} bytes for {mask.count()} values")
        sent = np.frombuffer(raw, "<f4")
        check_floats(sent, "values")
        if not sent.all():
            raise WireError("values", "one is 0, which is not sent")
        return mask, raw


@dataclass(frozen=True)
class SignCodec:
    """One magnitude for all (float32), and a sign a value; zero counts as positive."""

    relative: ClassVar[bool] = True
    feedback: ClassVar[bool] = True
    bits_each: ClassVar[float] = 1

    def encode(
        self, values: Floats, segments: Segments, rng: Stream, context: ValueContext
    ) -> bytes:
        """Return the mean magnitude and the coded signs; nothing for no values."""
        if not values.size:
            return b""
        scale = _SCALE.pack(np.abs(values).mean(dtype=np.float64))
        signs = values >= 0 if any(scale) else np.ones(values.size, np.bool_)
        return scale + encode_mask(Mask.from_bools(segment_layout(segments), signs))

    def decode(self, payload: bytes, segments: Segments, context: ValueContext) -> Floats:
        """Return plus or minus the magnitude; WireError if the payload is not legal."""
        scale, signs = self._read(payload, segments)
        if signs is None:
            return np.zeros(0, np.float32)
        return np.where(signs.bools(), np.float32(scale), np.float32(-scale))

    def bound_bytes(self, payload: bytes, segments: Segments, context: ValueContext) -> float:
        """Return the entropy of the signs, and four bytes."""
        _, signs = self._read(payload, segments)
        return _SCALE.size + mask_bound_bits(signs) / 8 if signs is not None else 0.0

    def _read(self, payload: bytes, segments: Segments) -> tuple[float, Mask | None]:
        if not sum(segments):
            if payload:
                raise WireError("values", "a payload for no values")
            return 0.0, None
        if len(payload) < _SCALE.size:
            raise WireError("values.scale", "the payload ends inside it")
        (scale,) = _SCALE.unpack_from(payload)
        if not 0 <= scale < float("inf") or payload[_SCALE.size - 1] >> 7:
            raise WireError("values.scale", f"got {scale}, expected a finite magnitude")
        signs = decode_mask(payload[_SCALE.size :], segment_layout(segments))
        if not scale and signs.count() < signs.layout.total:
            raise WireError("values.scale", "a sign of 0")
        return scale, signs
