"""Rotations that two ends draw from a number that they share: Hadamard's, with random signs.

Every segment is cut into blocks of a power of two each, and every block goes through D₁, H, D₂ and
H: H is the Walsh-Hadamard transform, D are diagonals of random signs. Two turns instead of one also
hide a few entries that are much larger than the rest, and their scale, 1 / size, is exact. Only
sums and differences of float32 in a fixed order: the same result on every processor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mpfl.wire.values.base import Floats, Segments, cut

_LARGEST_LOG = 16  # a block and its copies stay in a core's cache
_LEAST_LOG = 7  # below that a rotated block is far from normal


def blocks(segments: Segments) -> Iterator[tuple[slice, int]]:
    """Give where each block stands in the values, and its size, a segment's largest ones first.

    Only a segment's last one may be larger than its part of the values; zeros fill it.

    Examples
    --------
    >>> [size for _, size in blocks([66_000, 10])]
    [65536, 256, 128, 128, 128]
    """
    for part in cut(segments):
        begin = part.start
        while begin < part.stop:
            log = min(max((part.stop - begin).bit_length() - 1, _LEAST_LOG), _LARGEST_LOG)
            yield slice(begin, min(begin + (1 << log), part.stop)), 1 << log
            begin += 1 << log


@dataclass(frozen=True)
class Rotation:
    """The rotation of one block.

    Its random bits are SHAKE-128 of seed and number (u32 each, little-endian).

    Attributes
    ----------
    seed, number
        What it is drawn from: the seed of all blocks, and which block this is.
    size
        A power of two.
    """

    seed: int
    number: int
    size: int

    @cached_property
    def _signs(self) -> Floats:
        """float32[2, size]: the diagonals; a bit of 1 stands for -1."""
        bits = np.unpackbits(self._draw(0, self.size // 4), bitorder="little")
        return (1 - 2 * bits.astype(np.float32)).reshape(2, self.size)

    def kept(self, share: int) -> NDArray[np.bool_]:
        """Return bool[size]: each is True with the chance share / 65536."""
        chosen: NDArray[np.bool_] = self._draw(self.size // 4, 2 * self.size).view("<u2") < share
        return chosen

    def _draw(self, begin: int, count: int) -> NDArray[np.uint8]:
        key = self.seed.to_bytes(4, "little") + self.number.to_bytes(4, "little")
        return np.frombuffer(hashlib.shake_128(key).digest(begin + count), np.uint8)[begin:]

    def turn(self, values: Floats) -> Floats:
        """Return the rotated block of at most `size` values, float32[size]."""
        block = np.zeros(self.size, np.float32)
        block[: values.size] = values
        first, second = self._signs
        turned: Floats = transform(transform(block * first) * second) / np.float32(self.size)
        return turned

    def turn_back(self, rotated: Floats) -> Floats:
        """Return the block of which this is the rotation, times `size`."""
        first, second = self._signs
        back: Floats = transform(transform(rotated) * second) * first
        return back


def transform(values: Floats) -> Floats:
    """Return the Walsh-Hadamard transform of float32[2ᵏ], in its natural order, not scaled.

    Sums and differences of neighbours first, then of those two apart, four, eight, ...
    """
    columns = 1 << (values.size.bit_length() - 1) // 2
    table = values.reshape(-1, columns)
    for _ in range(2):  # over columns, and then over rows: long runs for NumPy
        table = _over_rows(np.ascontiguousarray(table.T))
    return table.reshape(-1)


def _over_rows(table: Floats) -> Floats:
    """Return the transform of every column."""
    rows, columns = table.shape
    half = 1
    while half < rows:
        pairs = table.reshape(-1, 2, half * columns)
        table = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1)
        half *= 2
    return table.reshape(rows, columns)
