"""What travels: frames, masks and values as bytes. See docs/wire-format.md."""

from mpfl.wire.errors import WireError
from mpfl.wire.frame import Frame, Kind, Section, decode_frame, encode_frame, section_bytes
from mpfl.wire.masks import (
    MASK_CODECS,
    decode_mask,
    encode_mask,
    magnitude_classes,
    mask_bound_bits,
    matrix_widths,
)
from mpfl.wire.masks.plan import quantile_classes
from mpfl.wire.values import (
    VALUE_CODECS,
    ValueContext,
    decode_values,
    encode_values,
    value_codec,
    values_bound_bytes,
)

__all__ = [
    "MASK_CODECS",
    "VALUE_CODECS",
    "Frame",
    "Kind",
    "Section",
    "ValueContext",
    "WireError",
    "decode_frame",
    "decode_mask",
    "decode_values",
    "encode_frame",
    "encode_mask",
    "encode_values",
    "magnitude_classes",
    "mask_bound_bits",
    "matrix_widths",
    "quantile_classes",
    "section_bytes",
    "value_codec",
    "values_bound_bytes",
]
