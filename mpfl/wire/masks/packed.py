"""Bits eight to a byte, as they stand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpfl.wire.errors import WireError

Bools = NDArray[np.bool_]


def unpack_bits(packed: bytes | memoryview, count: int, field: str) -> Bools:
    """Return `count` bits from ⌈count/8⌉ bytes with zero padding; WireError otherwise."""
    if len(packed) != (count + 7) // 8:
        raise WireError(field, f"got {len(packed)} bytes for {count} units")
    raw = np.frombuffer(packed, np.uint8)
    if count % 8 and raw[-1] >> (count % 8):
        raise WireError(field, "padding bits are not zero")
    return np.unpackbits(raw, count=count, bitorder="little").view(np.bool_)
