"""Carry-save addition of packed bits to bit planes, with array operations.

``_carry.c`` does the same in compiled loops; `mpfl.vote.tally` takes that where it was built.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_BLOCK = 1 << 15  # words per step at most: 256 KiB per operand, so that carries stay in cache


def add(
    planes: list[Words], carries: list[Words], level: int, last: int, ballot: Any, units: int
) -> None:
    """Add bits of weight 2**level, in place.

    Parameters
    ----------
    planes
        Plane l holds bit l of every unit's count, uint64[⌈units / 64⌉].
    carries
        What waits to be carried out of each of the lowest planes.
    level, last
        Planes from `level` up to `last` (excluded) have a carry waiting: a second one joins it
        and both move up. At `last` nothing waits: a carry out of it begins to wait there, or,
        beyond the planes that may wait, goes all the way up.
    ballot
        A buffer of ⌈units / 8⌉ bytes; it is read in place. Padding bits are not counted.
    units
        Number of bits.
    """
    body, tail = _words_of(ballot, units)
    # Two blocks of scratch space take at most a quarter of a plane (small ones aside).
    block = min(_BLOCK, 64 + planes[0].size // 8)
    scratch = np.empty((2, block), np.uint64)
    for start in range(0, body.size, block):
        words = body[start : start + block]
        _add_block(planes, carries, level, last, words, start, scratch)
    if tail.size:
        _add_block(planes, carries, level, last, tail, body.size, scratch)


def _add_block(
    planes: list[Words],
    carries: list[Words],
    level: int,
    last: int,
    carry: Words,
    start: int,
    scratch: Words,
) -> None:
    part = slice(start, start + carry.size)
    spill, spare = scratch[0, : carry.size], scratch[1, : carry.size]
    for i in range(level, last):
        plane, waiting = planes[i][part], carries[i][part]
        np.bitwise_and(plane, carry, out=spill)
        np.bitwise_xor(plane, carry, out=plane)
        # Where one carry waits the plane was 0 since, so the second one cannot overlap it.
        np.bitwise_or(waiting, spill, out=waiting)
        carry = waiting
    if last < len(carries):
        plane = planes[last][part]
        np.bitwise_and(plane, carry, out=carries[last][part])
        np.bitwise_xor(plane, carry, out=plane)
        return
    for whole in planes[last:-1]:
        plane = whole[part]
        np.bitwise_and(plane, carry, out=spill)
        np.bitwise_xor(plane, carry, out=plane)
        carry, spill, spare = spill, spare, spill
    plane = planes[-1][part]
    np.bitwise_xor(plane, carry, out=plane)


def _words_of(ballot: Any, units: int) -> tuple[Words, Words]:
    """Return the ballot's whole words without copying, and the zero-padded last one, if any."""
    view = memoryview(ballot).cast("B")
    whole = units // 64
    body = np.frombuffer(view, np.uint64, whole) if whole else np.empty(0, np.uint64)
    if units % 64 == 0:
        return body, np.empty(0, np.uint64)
    rest = int.from_bytes(view[8 * whole :][:8], "little") & ((1 << units % 64) - 1)
    return body, np.frombuffer(rest.to_bytes(8, "little"), np.uint64)
