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

_TOGETHER = 4  # ballots that are added in one go
_STEP = 1 << 17  # units counted at a time
_LIMIT = (1 << 32) - 1


class Tally:
    """A vertical counter: bit l of every unit's vote count stands in plane l.

    Ballots are added word-parallel, 64 units at a time. Of those that weigh 1 a few wait and go
    in together, which spares most of the traffic through the planes: a carry-save adder as in
    Harley & Seal's population count (Warren, Hacker's Delight, 2nd ed., 5-1). K ballots need
    ⌊log2 K⌋ + 1 planes, and no more than three ballots are held.

    Parameters
    ----------
    layout
        Layers and units that every ballot must have.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._planes: list[Words] = []
        self._waiting: list[Any] = []
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
        if self._weight + weight > _LIMIT:
            raise ValueError(f"sum of ballot weights exceeds {_LIMIT}")
        self._weight += weight
        self._ballots += 1
        if weight == 1:
            self._waiting.append(ballot.bits)
            if len(self._waiting) == _TOGETHER:
                self._settle()
            return
        for level in range(weight.bit_length()):
            if weight >> level & 1:
                self._add_at(level, [ballot.bits])

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

    def _settle(self) -> None:
        """Add the ballots that wait."""
        if self._waiting:
            self._add_at(0, self._waiting)
            self._waiting = []

    def _add_at(self, level: int, ballots: list[Any]) -> None:
        """Add packed bits of weight 2**level."""
        words = (self.layout.total + 63) // 64
        while len(self._planes) < self._weight.bit_length():
            self._planes.append(np.zeros(words, np.uint64))
        kernel = arrays if COMPILED is None else COMPILED
        kernel.add(self._planes, level, ballots, self.layout.total)


def _byte_of(planes: list[Words]) -> NDArray[np.uint8]:
    """Return the number that at most eight planes hold for each unit, uint8[64 · words]."""
    digit = np.zeros(8 * planes[0].size, np.uint64)
    for level, plane in enumerate(planes):
        # Eight units' bits as eight bytes; shifted by less than 8, none leaves its byte.
        bits = np.unpackbits(plane.view(np.uint8), bitorder="little").view(np.uint64)
        np.left_shift(bits, np.uint64(level), out=bits)
        np.bitwise_or(digit, bits, out=digit)
    return digit.view(np.uint8)
