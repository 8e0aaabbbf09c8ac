"""Masks as bytes, at about the entropy of what the receiver does not know yet."""

from mpfl.wire.masks.codecs import (
    MASK_CODECS,
    MaskCodec,
    MaskContent,
    check_mask_codec,
    decode_mask,
    encode_mask,
    mask_bound_bits,
)
from mpfl.wire.masks.packed import unpack_bits
from mpfl.wire.masks.plan import MaskPlan, magnitude_classes, matrix_widths, quantile_classes

__all__ = [
    "MASK_CODECS",
    "MaskCodec",
    "MaskContent",
    "MaskPlan",
    "check_mask_codec",
    "decode_mask",
    "encode_mask",
    "magnitude_classes",
    "mask_bound_bits",
    "matrix_widths",
    "quantile_classes",
    "unpack_bits",
]
