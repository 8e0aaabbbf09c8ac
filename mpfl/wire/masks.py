"""Masks as bytes: codecs behind one interface, and the entropy bound they are held against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfl.mask import Layout, Mask
from mpfl.registry import Registry
from mpfl.wire.bernoulli import decode_segments, encode_segments
from mpfl.wire.errors import WireError
from mpfl.wire.gaps import decode_gaps, encode_gaps
from mpfl.wire.plan import Plan, magnitude_classes, make_plan
from mpfl.wire.range_coder import decode_range, encode_range

__all__ = ["MASK_CODECS", "MaskCodec", "decode_mask", "encode_mask", "magnitude_classes",
           "mask_bound_bits"]  # fmt: skip

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class MaskCodec:
    """One way of writing the coded bits of a mask.

    Attributes
    ----------
    number
        First byte of its payloads.
    encode
        Coded bits (bool[n], segment after segment) and segment lengths to bytes.
    decode
        The reverse; raises WireError and nothing else, whatever the bytes.
    """

    number: int
    encode: Callable[[Bools, tuple[int, ...]], bytes]
    decode: Callable[[bytes, tuple[int, ...]], Bools]


def encode_mask(
    mask: Mask,
    *,
    within: Mask | None = None,
    classes: NDArray[np.uint8] | None = None,
    codec: str = "auto",
) -> bytes:
    """Return the payload of a mask for a receiver that holds the same context.

    Parameters
    ----------
    mask
        What to send.
    within
        A mask that the receiver holds and that contains `mask`: only its units are coded.
    classes
        uint8[d], a context per unit that the receiver knows too; the units of each class of each
        layer are coded with their own statistics.
    codec
        A name in `MASK_CODECS`, or ``auto``: the smallest.

    Raises
    ------
    ValueError
        If the codec is unknown, `mask` is not inside `within`, or shapes do not fit.
    """
    plan = make_plan(mask.layout, within, classes)
    if within is not None and not mask.issubset(within):
        raise ValueError("mask: it keeps units outside `within`")
    bits = plan.take(mask.bools())
    if codec == "auto":
        return _encode_auto(bits, plan)
    return _encode_with(codec, bits, plan)


def decode_mask(
    payload: bytes,
    layout: Layout,
    *,
    within: Mask | None = None,
    classes: NDArray[np.uint8] | None = None,
) -> Mask:
    """Read what `encode_mask` wrote with the same `within` and `classes`.

    Raises
    ------
    WireError
        If the payload cannot have come from `encode_mask`.
    """
    plan = make_plan(layout, within, classes)
    if not payload:
        raise WireError("mask.codec", "the payload is empty")
    for name in MASK_CODECS.names():
        if MASK_CODECS[name].number == payload[0]:
            return plan.put(MASK_CODECS[name].decode(payload[1:], plan.lengths))
    raise WireError("mask.codec", f"unknown codec {payload[0]}")


def mask_bound_bits(
    mask: Mask, within: Mask | None = None, classes: NDArray[np.uint8] | None = None
) -> float:
    """Return the conditional entropy of the mask's bits.

    That is the sum of n·H(k/n) over every class of every layer, k of whose n units inside
    `within` are kept.
    """
    plan = make_plan(mask.layout, within, classes)
    return float(np.sum(_entropy_bits(*_counts(plan.take(mask.bools()), plan))))


def _entropy_bits(ones: NDArray[np.int64], total: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return n·H(k/n) in bits."""
    bits = np.zeros(total.shape)
    for part in (ones, total - ones):
        some = part > 0
        bits[some] += part[some] * np.log2(total[some] / part[some])
    return bits


_LARGE = 1 << 20
_GAPS_DENSEST = 0.21
_GAPS_SLACK = 1.015
_RAW_FROM = 0.995


def _encode_auto(bits: Bools, plan: Plan) -> bytes:
    """Return the smallest payload.

    Except that for more than a million units, where time matters, `gaps` is taken unseen where
    ones are neither too rare nor too frequent for it and it is within 1.5 % of the bound; it is
    decoded several times faster than `rans`.
    """
    if bits.size < _LARGE:
        return min((_encode_with(name, bits, plan) for name in ("raw", "rans", "gaps")), key=len)
    ones, lengths = _counts(bits, plan)
    bound_bytes = float(np.sum(_entropy_bits(ones, lengths))) / 8
    rarer = min(int(ones.sum()), bits.size - int(ones.sum()))
    if bound_bytes > _RAW_FROM * bits.size / 8:
        return _encode_with("raw", bits, plan)
    if rarer <= _GAPS_DENSEST * bits.size:
        payload = _encode_with("gaps", bits, plan)
        if len(payload) <= _GAPS_SLACK * bound_bytes:
            return payload
    return _encode_with("rans", bits, plan)


def _encode_with(name: str, bits: Bools, plan: Plan) -> bytes:
    codec = MASK_CODECS[name]
    return bytes((codec.number,)) + codec.encode(bits, plan.lengths)


def _counts(bits: Bools, plan: Plan) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ones and the units of every segment."""
    ends = np.cumsum(plan.lengths, dtype=np.int64)
    pairs = zip(plan.lengths, ends, strict=True)
    ones = [int(np.count_nonzero(bits[end - n : end])) for n, end in pairs]
    return np.array(ones, np.int64), np.array(plan.lengths, np.int64)


def _encode_raw(bits: Bools, lengths: tuple[int, ...]) -> bytes:
    return np.packbits(bits, bitorder="little").tobytes()


def _decode_raw(payload: bytes, lengths: tuple[int, ...]) -> Bools:
    count = sum(lengths)
    if len(payload) != (count + 7) // 8:
        raise WireError("mask.raw", f"got {len(payload)} bytes for {count} units")
    raw = np.frombuffer(payload, np.uint8)
    if count % 8 and raw[-1] >> (count % 8):
        raise WireError("mask.raw", "padding bits are not zero")
    return np.unpackbits(raw, count=count, bitorder="little").view(np.bool_)


MASK_CODECS: Registry[MaskCodec] = Registry(
    "mask codec",
    {
        "raw": MaskCodec(0, _encode_raw, _decode_raw),
        "gaps": MaskCodec(1, encode_gaps, decode_gaps),
        "rans": MaskCodec(2, encode_segments, decode_segments),
        "range": MaskCodec(3, encode_range, decode_range),
    },
)
