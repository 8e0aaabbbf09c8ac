"""Carry-save addition of packed bits to bit planes, with array operations.

``_carry.c`` does the same in compiled loops; `mpfl.vote.tally` takes that where it was built.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_BLOCK = 1 << 15  # words per step at most: 256 KiB per operand, so that carries stay in cache


def add(planes: list[Words], level: int, ballots: list[Any], units: int) -> None:
    """Add packed bits of weight 2**level, in place.

    Parameters
    ----------
    planes
        Plane l holds bit l of every unit's count, uint64[⌈units / 64⌉].
    level
        Where the bits are added; what they carry is added to the planes above.
    ballots
        Buffers of ⌈units / 8⌉ bytes; they are read in place. Padding bits are not counted.
    units
        Number of bits.
    """
    parts = [_words_of(ballot, units) for ballot in ballots]
    # Four ballots need four blocks of scratch space: half a plane, small ones aside.
    block = min(_BLOCK, 64 + planes[0].size // 8)
    body = parts[0][0].size
    for start in range(0, body, block):
        part = slice(start, min(start + block, body))
        _add_block([plane[part] for plane in planes[level:]], [words[part] for words, _ in parts])
    if parts[0][1].size:
        _add_block([plane[body:] for plane in planes[level:]], [tail for _, tail in parts])


def _add_block(planes: list[Words], waiting: list[Words]) -> None:
    for plane in planes:
        carries = []
        for i in range(0, len(waiting), 2):
            carry = plane & waiting[i]
            np.bitwise_xor(plane, waiting[i], out=plane)
            if i + 1 < len(waiting):
                carry |= plane & waiting[i + 1]
                np.bitwise_xor(plane, waiting[i + 1], out=plane)
            carries.append(carry)
        waiting = carries


def _words_of(ballot: Any, units: int) -> tuple[Words, Words]:
    """Return the ballot's whole words without copying, and the zero-padded last one, if any."""
    view = memoryview(ballot).cast("B")
    whole = units // 64
    body = np.frombuffer(view, np.uint64, whole) if whole else np.empty(0, np.uint64)
    if units % 64 == 0:
        return body, np.empty(0, np.uint64)
    rest = int.from_bytes(view[8 * whole :][:8], "little") & ((1 << units % 64) - 1)
    return body, np.frombuffer(rest.to_bytes(8, "little"), np.uint64)
