"""What a value codec is, and what it is given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Segments = Sequence[int]
"""How many consecutive values belong together and share a scale; the sum is their number."""
Stream = np.random.Generator | None
"""For stochastic rounding and whatever else an encoder draws."""
Classes = NDArray[np.uint8] | None
"""A context per value that the receiver knows too, to keep statistics apart."""
Shape = tuple[int, ...]


@dataclass(frozen=True)
class ValueContext:
    """What is known beside the values.

    Attributes
    ----------
    classes
        uint8[n], a context for each value, known to both ends; such as how large its last
        difference was. Float formats take no notice.
    shapes
        The shape of each segment that is a whole tensor, () or None where it is only part of
        one; known to both ends. None: nothing is known of any.
    previous
        The last payload that the sender wrote by the same codec for the same receiver, empty if
        there is none. Only encoders look at it.
    progress
        Share of the run's rounds of training that is over, 0 to 1. Only encoders look at it.
    """

    classes: Classes = None
    shapes: tuple[Shape | None, ...] | None = None
    previous: bytes = b""
    progress: float = 0.0

    def check(self, segments: Segments) -> None:
        """Raise ValueError if this does not fit values in such segments."""
        self._check_classes(sum(segments))
        if self.shapes is not None and len(self.shapes) != len(segments):
            raise ValueError(f"shapes: got {len(self.shapes)}, expected {len(segments)}")
        for shape, count in zip(self.shapes or (), segments, strict=False):
            if shape and math.prod(shape) != count:
                raise ValueError(f"shapes: got {shape} for a segment of {count} values")
        if not 0.0 <= self.progress <= 1.0:
            raise ValueError(f"progress: got {self.progress}, expected 0 to 1")

    def _check_classes(self, count: int) -> None:
        classes = self.classes
        if classes is not None and (classes.dtype != np.uint8 or classes.shape != (count,)):
            got = f"{classes.dtype}{list(classes.shape)}"
            raise ValueError(f"classes: got {got}, expected uint8[{count}]")


NOTHING_KNOWN = ValueContext()


def cut(segments: Segments) -> list[slice]:
    """Return where each segment stands in a vector of all."""
    ends = list(accumulate(segments))
    return [slice(end - count, end) for end, count in zip(ends, segments, strict=True)]


def within_float32(exact: NDArray[np.float64]) -> Floats:
    """Return the nearest float32, the largest finite one where `exact` is beyond it."""
    most = np.finfo(np.float32).max
    return np.clip(exact, -most, most).astype(np.float32)


class ValueCodec(Protocol):
    """One way of writing float32 values.

    Attributes
    ----------
    relative
        True: it loses much, and is meant for differences against what the receiver holds.
    feedback
        True: what it loses is not zero on average, so that the sender must keep it and add it to
        the next difference (error feedback).
    """

    relative: ClassVar[bool]

    @property
    def feedback(self) -> bool:
        """Whether what is lost must be added to the next difference."""
        ...

    @property
    def bits_each(self) -> float:
        """Bits that a value costs by the formula of a paper, where nothing is coded."""
        ...

    def encode(
        self, values: Floats, segments: Segments, rng: Stream, context: ValueContext
    ) -> bytes:
        """Return the payload of finite values."""
        ...

    def decode(self, payload: bytes, segments: Segments, context: ValueContext) -> Floats:
        """Read it; WireError if it is not legal."""
        ...

    def bound_bytes(self, payload: bytes, segments: Segments, context: ValueContext) -> float:
        """Return the fewest bytes in which the content of a legal payload could stand."""
        ...
