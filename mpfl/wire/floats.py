"""Numbers as float32, each of which has one form: no -0, nothing that is not finite."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpfl.wire.errors import WireError

Floats = NDArray[np.float32]

_MINUS_ZERO = 1 << 31


def float32_bytes(values: Floats) -> bytes:
    """Return the values in four bytes each, little-endian; -0 becomes 0."""
    return (values + np.float32(0)).astype("<f4").tobytes()


def check_floats(values: Floats, field: str) -> None:
    """Raise WireError if a value is -0 or not finite."""
    if not np.isfinite(values).all():
        raise WireError(field, "not all of them are finite")
    if (values.view(np.uint32) == _MINUS_ZERO).any():
        raise WireError(field, "one is -0")
