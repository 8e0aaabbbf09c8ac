"""Differences of which few matter, all of one magnitude a segment: where they are, and the sign."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mpfl.errors import InputError
from mpfl.mask import Mask
from mpfl.ranking.selection import top
from mpfl.wire.errors import WireError
from mpfl.wire.masks import decode_mask, encode_mask, mask_bound_bits
from mpfl.wire.masks.packed import unpack_bits
from mpfl.wire.values.base import Classes, Floats, Segments, Stream, ValueContext, cut
from mpfl.wire.values.sparse import segment_layout
from mpfl.wire.varint import decode_varint, encode_varint

Bools = NDArray[np.bool_]

_GOLDEN_RATIO = (math.sqrt(5) + 1) / 2


@dataclass(frozen=True)
class _OneMagnitude(ABC):
    """What `stc` and `sbc` have in common: a share of each segment, and one scale for it.

    Attributes
    ----------
    share
        p: of each segment at most ⌈p · n⌉ values are sent.
    """

    relative: ClassVar[bool] = True
    feedback: ClassVar[bool] = True
    share: Fraction

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"got share = {float(self.share):g}, expected 0 < share <= 1")

    @abstractmethod
    def _choose(self, values: Floats) -> tuple[NDArray[np.intp], np.float32]:
        """Return which of a segment's values are sent, and their scale."""

    def _chosen(self, values: Floats, segments: Segments) -> tuple[Floats, Bools]:
        """Return a scale a segment, and bool[n]: which values are sent."""
        keep = np.zeros(values.size, np.bool_)
        scales = np.zeros(len(segments), np.float32)
        for i, part in enumerate(cut(segments)):
            chosen, scales[i] = self._choose(values[part])
            keep[part][chosen] = True
        return scales, keep

    def _largest(self, sizes: Floats) -> NDArray[np.intp]:
        """Return the indices of a segment's largest sizes, none of them 0, in ascending order."""
        return np.sort(top([sizes], np.flatnonzero(sizes), _most(self.share, sizes.size)))


@dataclass(frozen=True)
class StcCodec(_OneMagnitude):
    """The largest of each segment, as plus or minus their mean magnitude.

    Sparse ternary compression (Sattler et al. 2019, arXiv 1903.02891, algorithm 1), tensor by
    tensor. Places are coded by the mask codec, not by Golomb's code; values of zero are never
    sent; equally large ones go by index. The payload is the length of the places (varint), the
    places (see `_write_places`), and a bit a value, 1 for plus.
    """

    @property
    def bits_each(self) -> float:
        """Golomb's code for the places, and a sign: equation 15 of the paper."""
        return float(self.share) * (golomb_bits(float(self.share)) + 1)

    def _choose(self, values: Floats) -> tuple[NDArray[np.intp], np.float32]:
        chosen = self._largest(np.abs(values))
        return chosen, _mean(np.abs(values[chosen]))

    def encode(
        self, values: Floats, segments: Segments, rng: Stream, context: ValueContext
    ) -> bytes:
        """Return the payload; nothing for no values."""
        if not values.size:
            return b""
        scales, keep = self._chosen(values, segments)
        places = _write_places(scales, keep, segments, context.classes)
        signs = np.packbits(values[keep] > 0, bitorder="little").tobytes()
        return encode_varint(len(places)) + places + signs

    def decode(self, payload: bytes, segments: Segments, context: ValueContext) -> Floats:
        """Return plus or minus the magnitudes; WireError if the payload is not legal."""
        scales, keep, signs = self._read(payload, segments, context.classes)
        values = _spread(scales, keep, segments)
        values[keep] *= np.where(signs, np.float32(1), np.float32(-1))
        return values

    def bound_bytes(self, payload: bytes, segments: Segments, context: ValueContext) -> float:
        """Return the entropy of the places, a bit a value, and four bytes a segment."""
        scales, keep, signs = self._read(payload, segments, context.classes)
        return _places_bound(scales, keep, segments, context.classes) + signs.size / 8

    def _read(
        self, payload: bytes, segments: Segments, classes: Classes
    ) -> tuple[Floats, Bools, Bools]:
        if not payload and not sum(segments):
            return np.zeros(len(segments), np.float32), *np.zeros((2, 0), np.bool_)
        length, start = decode_varint(payload, 0, "values.places", len(payload))
        if length > len(payload) - start:
            raise WireError("values.places", f"got {len(payload) - start} of {length} bytes")
        places = payload[start : start + length]
        scales, keep = _read_places(places, segments, self.share, classes)
        if np.signbit(scales).any():
            raise WireError("values.scale", "one is negative")
        count = int(np.count_nonzero(keep))
        return scales, keep, unpack_bits(payload[start + length :], count, "values.signs")


@dataclass(frozen=True)
class SbcCodec(_OneMagnitude):
    """The largest of one sign in each segment, as their mean.

    Sparse binary compression (Sattler et al. 2018, arXiv 1805.08768, algorithm 2), tensor by
    tensor: of the ⌈p · n⌉ largest and the ⌈p · n⌉ least, those are sent whose mean is farther
    from zero (plus, if neither is). Places are coded by the mask codec, not by Golomb's code;
    neither zeros nor values of the other sign are ever sent. The payload is the places (see
    `_write_places`).
    """

    @property
    def bits_each(self) -> float:
        """Golomb's code for the places: equation 5 of the paper."""
        return float(self.share) * golomb_bits(float(self.share))

    def _choose(self, values: Floats) -> tuple[NDArray[np.intp], np.float32]:
        sides = [self._largest(np.maximum(sign * values, 0)) for sign in (1, -1)]
        plus, minus = (_mean(np.abs(values[side])) for side in sides)
        return (sides[1], -minus) if minus > plus else (sides[0], plus)

    def encode(
        self, values: Floats, segments: Segments, rng: Stream, context: ValueContext
    ) -> bytes:
        """Return the payload; nothing for no values."""
        if not values.size:
            return b""
        return _write_places(*self._chosen(values, segments), segments, context.classes)

    def decode(self, payload: bytes, segments: Segments, context: ValueContext) -> Floats:
        """Return the means where they stand; WireError if the payload is not legal."""
        scales, keep = self._read(payload, segments, context.classes)
        return _spread(scales, keep, segments)

    def bound_bytes(self, payload: bytes, segments: Segments, context: ValueContext) -> float:
        """Return the entropy of the places, and four bytes a segment."""
        scales, keep = self._read(payload, segments, context.classes)
        return _places_bound(scales, keep, segments, context.classes)

    def _read(self, payload: bytes, segments: Segments, classes: Classes) -> tuple[Floats, Bools]:
        if not payload and not sum(segments):
            return np.zeros(len(segments), np.float32), np.zeros(0, np.bool_)
        return _read_places(payload, segments, self.share, classes)


def golomb_bits(share: float) -> float:
    """Return the mean bits of a gap between places by Golomb's code, of a share above 0.

    With b* = 1 + ⌊log₂(ln(φ − 1) / ln(1 − p))⌋, at least 0: b* + 1 / (1 − (1 − p)^(2^b*)).

    Examples
    --------
    >>> round(golomb_bits(0.01), 2)
    8.11
    """
    if share == 1:
        return 1.0
    ratio = math.log(_GOLDEN_RATIO - 1) / math.log1p(-share)
    exponent = max(1 + math.floor(math.log2(ratio)), 0)
    return exponent + 1 / -math.expm1(2**exponent * math.log1p(-share))


def _most(share: Fraction, count: int) -> int:
    """Return how many of a segment's values may be sent."""
    return math.ceil(share * count)


def _mean(sizes: Floats) -> np.float32:
    return np.float32(sizes.mean(dtype=np.float64)) if sizes.size else np.float32(0)


def _write_places(scales: Floats, keep: Bools, segments: Segments, classes: Classes) -> bytes:
    """Return a float32 a segment, and a mask over the values of those where it is not 0."""
    raw, coded = scales.astype("<f4").tobytes(), _coded(scales, segments)
    if not coded.any():
        return raw
    layout = segment_layout(_used(scales, segments))
    return raw + encode_mask(
        Mask.from_bools(layout, keep[coded]), classes=None if classes is None else classes[coded]
    )


def _read_places(
    payload: bytes, segments: Segments, share: Fraction, classes: Classes
) -> tuple[Floats, Bools]:
    """Return the scales and which values are sent; WireError if the payload is not legal."""
    size = 4 * len(segments)
    if len(payload) < size:
        raise WireError("values.scale", "the payload ends inside them")
    scales = np.frombuffer(payload[:size], "<f4").astype(np.float32)
    zero = scales == 0
    if not np.isfinite(scales).all() or np.signbit(scales[zero]).any():
        raise WireError("values.scale", "one is not finite, or a negative zero")
    used, coded = _used(scales, segments), _coded(scales, segments)
    if not zero[np.array(segments) == 0].all():
        raise WireError("values.scale", "there is one for no values")
    if not used:
        if len(payload) > size:
            raise WireError("values.places", "a mask where nothing is sent")
        return scales, coded
    known = None if classes is None else classes[coded]
    mask = decode_mask(payload[size:], segment_layout(used), classes=known)
    for count, units in zip(mask.counts(), used, strict=True):
        if not 1 <= count <= _most(share, units):
            raise WireError("values.places", f"{count} of {units} values, which is not the share")
    coded[coded] = mask.bools()
    return scales, coded


def _places_bound(scales: Floats, keep: Bools, segments: Segments, classes: Classes) -> float:
    coded = _coded(scales, segments)
    if not coded.any():
        return 4.0 * len(segments) if sum(segments) else 0.0
    mask = Mask.from_bools(segment_layout(_used(scales, segments)), keep[coded])
    known = None if classes is None else classes[coded]
    return 4 * len(segments) + mask_bound_bits(mask, classes=known) / 8


def _used(scales: Floats, segments: Segments) -> list[int]:
    return [n for n, scale in zip(segments, scales, strict=True) if scale]


def _coded(scales: Floats, segments: Segments) -> Bools:
    return np.repeat(scales != 0, segments)


def _spread(scales: Floats, keep: Bools, segments: Segments) -> Floats:
    """Return each segment's scale where it is sent, 0 elsewhere."""
    values = np.zeros(keep.size, np.float32)
    for scale, part in zip(scales, cut(segments), strict=True):
        values[part][keep[part]] = scale
    return values
