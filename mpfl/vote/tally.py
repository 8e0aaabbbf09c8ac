"""Tally: how many ballots kept each unit, counted in bit planes while ballots stream in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfl.mask import Layout, Mask
from mpfl.vote import planes as arrays

try:
    from mpfl.vote import _carry
except ImportError:  # no compiler when the package was installed
    COMPILED = None
else:
    COMPILED = _carry

Words = NDArray[np.uint64]

_WAITING = 2  # planes whose carry waits for a second one before it moves up
_STEP = 1 << 17  # units counted at a time
_LIMIT = (1 << 32) - 1


class Tally:
    """A vertical counter: bit l of every unit's vote count stands in plane l.

    A ballot is added word-parallel, 64 units at a time, and forgotten. The carry out of each of
    the lowest planes waits in a plane of its own until a second one arrives (the two can never
    overlap), which halves the traffic above: a carry-save adder as in Harley & Seal's population
    count (Warren, Hacker's Delight, 2nd ed., 5-1), but without holding back any input. K ballots
    need ⌊log2 K⌋ + 1 planes and two that wait.

    Parameters
    ----------
    layout
        Layers and units that every ballot must have.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._planes: list[Words] = []
        self._carries: list[Words] = []
        self._waiting = [False] * _WAITING
        self._ballots = 0
        self._weight = 0

    @property
    def ballots(self) -> int:
        """Number of ballots added."""
        return self._ballots

    @property
    def weight(self) -> int:
        """Sum of the ballots' weights: the highest count a unit can have."""
        return self._weight

    def add(self, ballot: Mask, weight: int = 1) -> None:
        """Count a ballot `weight` times.

        Raises
        ------
        ValueError
            If the ballot has another layout, the weight is below 1, or the sum of the weights
            would not fit into 32 bits. The tally is then as it was.
        """
        self._check(ballot)
        if weight < 1:
            raise ValueError(f"ballot weight: got {weight}, expected at least 1")
        self._grow(weight)
        for level in range(weight.bit_length()):
            if weight >> level & 1:
                self._add_at(level, ballot.bits, self.layout.total)

    def counts(self) -> NDArray[np.uint32]:
        """Return how often each unit was kept, uint32[d]."""
        self._settle()
        out = np.zeros(self.layout.total, np.uint32)
        for start in range(0, self.layout.total, _STEP):
            part = out[start : start + _STEP]
            words = slice(start // 64, (start + _STEP) // 64)
            for low in range(0, len(self._planes), 8):
                digit = _byte_of([plane[words] for plane in self._planes[low : low + 8]])
                part += digit[: part.size].astype(np.uint32) << np.uint32(low)
        return out

    def _check(self, ballot: Mask) -> None:
        if ballot.layout != self.layout:
            raise ValueError(
                f"ballot over layers {list(ballot.layout.names)} with "
                f"{list(ballot.layout.units)} units does not fit the tally's "
                f"{list(self.layout.names)} with {list(self.layout.units)}"
            )

    def _grow(self, weight: int) -> None:
        """Make room for a ballot of this weight."""
        if self._weight + weight > _LIMIT:
            raise ValueError(f"sum of ballot weights exceeds {_LIMIT}")
        self._weight += weight
        self._ballots += 1
        words = (self.layout.total + 63) // 64
        while len(self._planes) < self._weight.bit_length():
            self._planes.append(np.zeros(words, np.uint64))
        while len(self._carries) < min(_WAITING, len(self._planes) - 1):
            self._carries.append(np.zeros(words, np.uint64))

    def _add_at(self, level: int, bits: Any, units: int) -> None:
        """Add packed bits of weight 2**level."""
        last = level
        while last < len(self._carries) and self._waiting[last]:
            self._waiting[last] = False
            last += 1
        if last < len(self._carries):
            self._waiting[last] = True
        kernel = arrays if COMPILED is None else COMPILED
        kernel.add(self._planes, self._carries, level, last, bits, units)

    def _settle(self) -> None:
        """Carry up whatever waits."""
        for i, carry in enumerate(self._carries):
            if self._waiting[i]:
                self._waiting[i] = False
                self._add_at(i + 1, carry, 64 * carry.size)


def _byte_of(planes: list[Words]) -> NDArray[np.uint8]:
    """Return the number that at most eight planes hold for each unit, uint8[64 · words]."""
    digit = np.zeros(8 * planes[0].size, np.uint64)
    for level, plane in enumerate(planes):
        # Eight units' bits as eight bytes; shifted by less than 8, none leaves its byte.
        bits = np.unpackbits(plane.view(np.uint8), bitorder="little").view(np.uint64)
        np.left_shift(bits, np.uint64(level), out=bits)
        np.bitwise_or(digit, bits, out=digit)
    return digit.view(np.uint8)
