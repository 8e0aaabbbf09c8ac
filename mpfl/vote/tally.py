"""Tally: how many ballots kept each unit, counted in bit planes while ballots stream in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpfl.mask import Layout, Mask

Words = NDArray[np.uint64]

_BLOCK = 1 << 15  # words per step at most: 256 KiB per operand, so that carries stay in cache
_DEFERRED = 2  # levels whose carry waits for a second one before it moves up


class Tally:
    """A vertical counter: bit l of every unit's vote count stands in plane l.

    A ballot is added word-parallel, 64 units at a time, and forgotten. The carry out of each of
    the lowest planes waits in a plane of its own until a second one arrives (the two can never
    overlap), which halves the traffic above; a carry-save adder as in Harley & Seal's population
    count (Warren, Hacker's Delight, 2nd ed., 5-1), but without holding back any input.

    Parameters
    ----------
    layout
        Layers and units that every ballot must have.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._words = (layout.total + 63) // 64
        self._planes: list[Words] = []
        self._carries: list[Words] = []
        self._waiting = [False] * _DEFERRED
        self._block = min(_BLOCK, 64 + self._words // 8)  # two of them are a quarter of a plane
        self._scratch = np.empty((2, self._block), np.uint64)
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

    @property
    def memory_bytes(self) -> int:
        """Bytes held in bit planes and scratch space."""
        planes = sum(plane.nbytes for plane in (*self._planes, *self._carries))
        return planes + self._scratch.nbytes

    def add(self, ballot: Mask, weight: int = 1) -> None:
        """Count a ballot `weight` times.

        Raises
        ------
        ValueError
            If the ballot has another layout, the weight is below 1, or the sum of the weights
            would not fit into 32 bits.
        """
        if ballot.layout != self.layout:
            raise ValueError(
                f"ballot over layers {list(ballot.layout.names)} with "
                f"{list(ballot.layout.units)} units does not fit the tally's "
                f"{list(self.layout.names)} with {list(self.layout.units)}"
            )
        if weight < 1:
            raise ValueError(f"ballot weight: got {weight}, expected at least 1")
        if self._weight + weight >= 1 << 32:
            raise ValueError(f"sum of ballot weights exceeds {(1 << 32) - 1}")
        self._weight += weight
        self._ballots += 1
        while len(self._planes) < self._weight.bit_length():
            self._planes.append(np.zeros(self._words, np.uint64))
        while len(self._carries) < min(_DEFERRED, len(self._planes) - 1):
            self._carries.append(np.zeros(self._words, np.uint64))
        body, tail = _words_of(ballot)
        for level in range(weight.bit_length()):
            if weight >> level & 1:
                self._add_at(level, body, tail)

    def counts(self) -> NDArray[np.uint32]:
        """Return how often each unit was kept, uint32[d]."""
        out = np.zeros(self.layout.total, np.uint32)
        planes = list(enumerate(self._planes))
        planes += [
            (level + 1, carry) for level, carry in enumerate(self._carries) if self._waiting[level]
        ]
        step = 64 * 4096
        for start in range(0, self.layout.total, step):
            part = out[start : start + step]
            for level, plane in planes:
                words = plane[start // 64 : (start + step) // 64]
                bits = np.unpackbits(words.view(np.uint8), count=part.size, bitorder="little")
                part += bits.astype(np.uint32) << np.uint32(level)
        return out

    def _add_at(self, level: int, body: Words, tail: Words) -> None:
        """Add words of weight 2**level to the planes from `level` up."""
        last = level
        while last < len(self._carries) and self._waiting[last]:
            last += 1
        for start in range(0, body.size, self._block):
            self._add_block(level, last, slice(start, min(start + self._block, body.size)), body)
        if tail.size:
            self._add_block(level, last, slice(body.size, self._words), tail, body.size)
        for i in range(level, last):
            self._waiting[i] = False
        if last < len(self._carries):
            self._waiting[last] = True

    def _add_block(self, level: int, last: int, part: slice, words: Words, base: int = 0) -> None:
        """Add one block; levels below `last` absorb a second carry, `last` begins a new one."""
        carry = words[part.start - base : part.stop - base]
        size = carry.size
        for i in range(level, last):
            plane, waiting = self._planes[i][part], self._carries[i][part]
            spill = self._scratch[0, :size]
            np.bitwise_and(plane, carry, out=spill)
            np.bitwise_xor(plane, carry, out=plane)
            np.bitwise_or(waiting, spill, out=waiting)
            carry = waiting
        if last < len(self._carries):
            plane = self._planes[last][part]
            np.bitwise_and(plane, carry, out=self._carries[last][part])
            np.bitwise_xor(plane, carry, out=plane)
            return
        spill, spare = self._scratch[0, :size], self._scratch[1, :size]
        for plane in self._planes[last:-1]:
            np.bitwise_and(plane[part], carry, out=spill)
            np.bitwise_xor(plane[part], carry, out=plane[part])
            carry, spill, spare = spill, spare, spill
        top = self._planes[-1][part]
        np.bitwise_xor(top, carry, out=top)


def _words_of(ballot: Mask) -> tuple[Words, Words]:
    """Return the ballot's whole words without copying, and the zero-padded last one, if any."""
    bits = ballot.bits
    view = memoryview(bits)
    whole = len(bits) // 64
    body = np.frombuffer(view, np.uint64, whole) if whole else np.empty(0, np.uint64)
    if len(bits) % 64 == 0:
        return body, np.empty(0, np.uint64)
    rest = int.from_bytes(view[8 * whole :], "little") & ((1 << len(bits) % 64) - 1)
    return body, np.frombuffer(rest.to_bytes(8, "little"), np.uint64)
