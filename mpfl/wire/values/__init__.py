"""Values as bytes: float formats, quantised and sparse differences, signs, shares."""

from mpfl.wire.values.base import ValueCodec, ValueContext
from mpfl.wire.values.codecs import (
    VALUE_CODECS,
    FloatCodec,
    decode_values,
    encode_values,
    formula_bits,
    value_codec,
    values_bound_bytes,
)

__all__ = [
    "VALUE_CODECS",
    "FloatCodec",
    "ValueCodec",
    "ValueContext",
    "decode_values",
    "encode_values",
    "formula_bits",
    "value_codec",
    "values_bound_bytes",
]
