"""Masks as bytes: codecs behind one interface, and the entropy bound they are held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mpfl.errors import InputError
from mpfl.mask import Layout, Mask
from mpfl.registry import Registry, unknown_name
from mpfl.wire.errors import WireError
from mpfl.wire.masks.bernoulli import decode_segments, encode_segments
from mpfl.wire.masks.matrix import decode_matrix, encode_matrix, fit_matrix
from mpfl.wire.masks.packed import unpack_bits
from mpfl.wire.masks.plan import MaskPlan, magnitude_classes, make_plan, matrix_widths

__all__ = ["MASK_CODECS", "MaskCodec", "check_mask_codec", "decode_mask", "encode_mask",
           "magnitude_classes", "mask_bound_bits", "matrix_widths"]  # fmt: skip

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class MaskCodec:
    """One way of writing the coded bits of a mask.

    Attributes
    ----------
    number
        First byte of its payloads.
    description
        One line for listings.
    encode
        The bits of all units and what is coded of them, to bytes.
    decode
        The reverse; raises WireError and nothing else, whatever the bytes.
    """

    number: int
    description: str
    encode: Callable[[MaskContent], bytes]
    decode: Callable[[memoryview, MaskPlan], Mask]


@dataclass(frozen=True)
class MaskContent:
    """The mask that a codec is to write: all bits, and which of them are coded.

    Attributes
    ----------
    bools
        bool[d], the bits of all units.
    plan
        Which of them are coded, and how.
    """

    bools: Bools
    plan: MaskPlan

    @cached_property
    def bits(self) -> Bools:
        """The coded bits, segment after segment."""
        return self.plan.take(self.bools)


def encode_mask(
    mask: Mask,
    *,
    within: Mask | None = None,
    classes: NDArray[np.uint8] | None = None,
    codec: str = "auto",
    widths: Sequence[int] | None = None,
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
    widths
        Units per row of every layer (inputs of a neuron, say), 0 where it is no matrix: lets
        ``auto`` try ``matrix``. The receiver need not know them.

    Raises
    ------
    ValueError
        If the codec is unknown, `mask` is not inside `within`, or shapes do not fit.
    """
    check_mask_codec(codec)
    if codec == "raw" and classes is not None:  # which has no statistics to keep apart
        return _set_aside(encode_mask(mask, within=within, codec=codec))
    plan = replace(make_plan(mask.layout, within, classes), widths=tuple(widths or ()))
    if within is not None and not mask.issubset(within):
        raise ValueError("mask: it keeps units outside `within`")
    content = MaskContent(mask.bools(), plan)
    if codec != "auto":
        return _encode_with(codec, content)
    if plan.count >= _LARGE:
        return _encode_large(content)
    plain = None
    if classes is not None:
        plain = MaskContent(content.bools, make_plan(mask.layout, within, None))
    return _encode_smallest(content, plain)


def check_mask_codec(name: str) -> None:
    """Raise InputError unless `encode_mask` takes this for a codec."""
    if name != "auto" and name not in MASK_CODECS:
        raise unknown_name("mask codec", name, ["auto", *MASK_CODECS.names()])
    if name == "auto":
        return
    numbers = {other: MASK_CODECS[other].number for other in MASK_CODECS.names()}
    number = numbers.pop(name)
    if number in numbers.values() or not 0 <= number < _PLAIN:
        expected = f"one below {_PLAIN} that no other codec has"
        raise InputError(f"mask codec {name!r}: got the number {number}, expected {expected}")


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
    if not payload:
        raise WireError("mask.codec", "the payload is empty")
    number, plain = payload[0] & ~_PLAIN, bool(payload[0] & _PLAIN)
    if plain and classes is None:
        raise WireError("mask.codec", "it sets aside classes that there are not")
    plan = make_plan(layout, within, None if plain else classes)
    for name in MASK_CODECS.names():
        if MASK_CODECS[name].number == number:
            return MASK_CODECS[name].decode(memoryview(payload)[1:], plan)
    raise WireError("mask.codec", f"unknown codec {number}")


def mask_bound_bits(
    mask: Mask, within: Mask | None = None, classes: NDArray[np.uint8] | None = None
) -> float:
    """Return the conditional entropy of the mask's bits.

    That is the sum of n·H(k/n) over every class of every layer, k of whose n units inside
    `within` are kept.
    """
    plan = make_plan(mask.layout, within, classes)
    ones = plan.grouping.ones(mask.bools())
    return float(np.sum(_entropy_bits(ones, np.array(plan.lengths, np.int64))))


def _entropy_bits(ones: NDArray[np.int64], total: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return n·H(k/n) in bits."""
    bits = np.zeros(total.shape)
    for part in (ones, total - ones):
        some = part > 0
        bits[some] += part[some] * np.log2(total[some] / part[some])
    return bits


_PLAIN = 0x80
"""Flag in the first byte: the classes are set aside."""
_LARGE = 1 << 20
_RAW_FROM = 0.995
_NEAR, _NEAR_BYTES = 1.003, 32
"""How far above the smallest estimate a codec is still tried: what an estimate may be off."""


def _encode_smallest(content: MaskContent, plain: MaskContent | None) -> bytes:
    """Return the smallest payload, with the classes or without.

    The slow codecs, `rans` and `matrix`, are written only if their estimate is not far above the
    smallest one.
    """
    payloads = [_encode_with("raw", content)]
    slow: list[tuple[float, Callable[[], bytes]]] = []
    if any(content.plan.widths):
        code = fit_matrix(content.bools, content.plan)
        slow.append((
            code.estimated_bytes(content.bools, content.plan),
            lambda: _numbered("matrix", encode_matrix(content.bools, content.plan, code)),
        ))  # fmt: skip
    slow.append((_rans_bytes(content), lambda: _encode_with("rans", content)))
    if plain:
        slow.append((_rans_bytes(plain), lambda: _set_aside(_encode_with("rans", plain))))
    least = min(min(map(len, payloads)), *(estimate for estimate, _ in slow))
    payloads += [write() for estimate, write in slow if estimate <= _NEAR * least + _NEAR_BYTES]
    return min(payloads, key=len)


def _rans_bytes(content: MaskContent) -> float:
    """Return about how long `rans` makes it: the entropy and a byte a segment."""
    return float(np.sum(_entropy_bits(*_counts(content.bits, content.plan)))) / 8 + len(
        content.plan.lengths
    )


def _set_aside(payload: bytes) -> bytes:
    return bytes((payload[0] | _PLAIN,)) + payload[1:]


def _encode_large(content: MaskContent) -> bytes:
    """Return a payload near the smallest where time matters too."""
    ones, lengths = _counts(content.bits, content.plan)
    bound_bytes = float(np.sum(_entropy_bits(ones, lengths))) / 8
    worth = bound_bytes <= _RAW_FROM * content.bits.size / 8
    return _encode_with("rans" if worth else "raw", content)


def _encode_with(name: str, content: MaskContent) -> bytes:
    return _numbered(name, MASK_CODECS[name].encode(content))


def _numbered(name: str, body: bytes) -> bytes:
    return bytes((MASK_CODECS[name].number,)) + body


def _counts(bits: Bools, plan: MaskPlan) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ones and the units of every segment."""
    ends = np.cumsum(plan.lengths, dtype=np.int64)
    pairs = zip(plan.lengths, ends, strict=True)
    ones = [int(np.count_nonzero(bits[end - n : end])) for n, end in pairs]
    return np.array(ones, np.int64), np.array(plan.lengths, np.int64)


def _encode_raw(content: MaskContent) -> bytes:
    return np.packbits(content.bits, bitorder="little").tobytes()


def _decode_raw(payload: memoryview, plan: MaskPlan) -> Mask:
    return plan.put(unpack_bits(payload, plan.count, "mask.raw"))


MASK_CODECS: Registry[MaskCodec] = Registry(
    "mask codec",
    {
        "raw": MaskCodec(0, "The bits themselves, eight to a byte.", _encode_raw, _decode_raw),
        "rans": MaskCodec(
            2,
            "Each class of each layer at its entropy, by asymmetric numeral systems.",
            lambda content: encode_segments(content.bits, content.plan.lengths),
            lambda payload, plan: plan.put(decode_segments(payload, plan.lengths)),
        ),
        "matrix": MaskCodec(
            5,
            "Rows and columns of a layer with statistics of their own.",
            lambda content: encode_matrix(content.bools, content.plan),
            lambda payload, plan: Mask.from_bools(plan.layout, decode_matrix(payload, plan)),
        ),
    },
)
"""How masks are written."""
