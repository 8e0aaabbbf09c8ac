"""What a value codec is, and what it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Segments = Sequence[int]
"""How many consecutive values belong together and share a scale; the sum is their number."""
Stream = np.random.Generator | None
"""For stochastic rounding."""
Classes = NDArray[np.uint8] | None
"""A context per value that the receiver knows too, to keep statistics apart."""


class ValueCodec(Protocol):
    """One way of writing float32 values.

    Attributes
    ----------
    relative
        True: it loses much, and is meant for differences against what the receiver holds.
    """

    relative: ClassVar[bool]

    @property
    def bits_each(self) -> float:
        """Bits that a value costs by the formula of a paper, where nothing is coded."""
        ...

    def encode(self, values: Floats, segments: Segments, rng: Stream, classes: Classes) -> bytes:
        """Return the payload of finite values."""
        ...

    def decode(self, payload: bytes, segments: Segments, classes: Classes) -> Floats:
        """Read it; WireError if it is not legal."""
        ...

    def bound_bytes(self, payload: bytes, segments: Segments, classes: Classes) -> float:
        """Return the fewest bytes in which the content of a legal payload could stand."""
        ...
