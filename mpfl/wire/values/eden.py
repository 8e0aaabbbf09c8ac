"""Differences rotated until they look normal, and then rounded to the best levels for that."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mpfl.errors import InputError
from mpfl.wire.entropy.levels import Levels, decode_levels, encode_levels, levels_bound_bytes
from mpfl.wire.errors import WireError
from mpfl.wire.values.base import Floats, Segments, Stream, ValueContext, within_float32
from mpfl.wire.values.rotation import Rotation, blocks

Doubles = NDArray[np.float64]

_SEED_BYTES = 4
_ITERATIONS = 2000
_UNIT = 1 << 16
"""Levels are multiples of 1 / this, so that they are the same whatever the library of the C
language says of exp and erf in the last bit; shares of rotated values are, too."""


@dataclass(frozen=True)
class EdenCodec:
    """Rotated values at b bits each, without bias.

    EDEN (Vargaftik et al. 2022, arXiv 2108.08842); at b = 1 DRIVE (arXiv 2105.08339). Every
    segment, in blocks of at most 65536 with a scale each, is rotated at random and rounded to the
    best levels for N(0, 1), 2ᵇ of them, or as many as that rounds to. Below one bit there are two
    levels, and each rotated value is sent with probability b only; both ends draw which. The
    scale ‖x‖² / ⟨Rx, q⟩ (that over b, below one bit) takes the bias away. What differs: blocks
    instead of padding to a power of two, two turns instead of one (see
    `mpfl.wire.values.rotation`), and levels coded at their entropy, which takes fewer than b bits
    above one.

    The payload is the seed (u32), a scale a block (float32; 0: all of it is 0), and the levels of
    the other blocks (see `mpfl.wire.entropy.levels`), a single segment.

    Attributes
    ----------
    bits
        b, from 0.1 to 4.
    """

    relative: ClassVar[bool] = True
    feedback: ClassVar[bool] = False
    bits: float = 1.0

    def __post_init__(self) -> None:
        if not 0.1 <= self.bits <= 4:
            raise InputError(f"got eden({self.bits:g}), expected eden(0.1 to 4)")

    @property
    def bits_each(self) -> float:
        """Return b."""
        return self.bits

    @property
    def _share(self) -> int:
        """How many in 65536 rotated values are sent."""
        return round(min(self.bits, 1.0) * _UNIT)

    @property
    def _levels(self) -> Doubles:
        return normal_levels(round(2 ** max(self.bits, 1.0)))

    def encode(
        self, values: Floats, segments: Segments, rng: Stream, context: ValueContext
    ) -> bytes:
        """Return the payload, nothing for no values; ValueError without a stream."""
        if not values.size:
            return b""
        if rng is None:
            raise ValueError("rng: the rotation needs a stream")
        seed = int(rng.integers(1 << 32))
        coded = [
            self._encode_block(values[place], Rotation(seed, number, size))
            for number, (place, size) in enumerate(blocks(segments))
        ]
        scales = np.array([scale for scale, _ in coded], np.float32)
        levels = np.concatenate([some for _, some in coded])
        return self.write(seed, scales, levels)

    def _encode_block(self, values: Floats, rotation: Rotation) -> tuple[np.float32, Levels]:
        """Return the scale and the levels that are sent."""
        exact = values.astype(np.float64)
        size = float(np.sqrt(np.square(exact).mean()))
        if size == 0:
            return np.float32(0), np.zeros(0, np.uint8)
        exact /= size
        rotated = rotation.turn(exact.astype(np.float32)).astype(np.float64)
        table = self._levels
        # a block of 100 values that fills 128 places has root mean square 1 in the former only
        spread = math.sqrt(values.size / rotated.size)
        levels = np.searchsorted((table[1:] + table[:-1]) / 2 * spread, rotated).astype(np.uint8)
        ratio = np.square(exact).sum() / (rotated * table[levels]).sum()
        scale = np.float32(min(size * ratio * _UNIT / self._share, np.finfo(np.float32).max))
        if not scale:
            return scale, levels[:0]
        return scale, levels if self._share == _UNIT else levels[rotation.kept(self._share)]

    def decode(self, payload: bytes, segments: Segments, context: ValueContext) -> Floats:
        """Turn the levels back; WireError if the payload is not legal."""
        values = np.zeros(sum(segments), np.float32)
        if not values.size and not payload:
            return values
        seed, scales, levels = self.read(payload, segments)
        table, begin = self._levels.astype(np.float32), 0
        for number, (place, size) in enumerate(blocks(segments)):
            if not scales[number]:
                continue
            rotation = Rotation(seed, number, size)
            rotated = np.zeros(size, np.float32)
            kept = self._kept(rotation)
            end = begin + int(np.count_nonzero(kept))
            rotated[kept] = table[levels[begin:end]]
            begin = end
            back = rotation.turn_back(rotated)[: place.stop - place.start]
            values[place] = within_float32(back.astype(np.float64) * (float(scales[number]) / size))
        return values

    def bound_bytes(self, payload: bytes, segments: Segments, context: ValueContext) -> float:
        """Return the entropy of the levels, four bytes a block and five more."""
        if not payload and not sum(segments):
            return 0.0
        _, scales, levels = self.read(payload, segments)
        coded = levels_bound_bytes(levels, (levels.size,)) if levels.size else 0.0
        return _SEED_BYTES + 4 * scales.size + coded

    def _kept(self, rotation: Rotation) -> NDArray[np.bool_]:
        if self._share == _UNIT:
            return np.ones(rotation.size, np.bool_)
        return rotation.kept(self._share)

    def write(self, seed: int, scales: Floats, levels: Levels) -> bytes:
        """Return the payload of a seed, a scale a block, and the levels that are sent."""
        head = seed.to_bytes(_SEED_BYTES, "little") + scales.astype("<f4").tobytes()
        if not levels.size:
            return head
        return head + encode_levels(levels, self._levels.size - 1, (levels.size,))

    def read(self, payload: bytes, segments: Segments) -> tuple[int, Floats, Levels]:
        """Return seed, scales and levels; WireError if the payload is not legal."""
        sizes = [size for _, size in blocks(segments)]
        start = _SEED_BYTES + 4 * len(sizes)
        if len(payload) < start or not sizes:
            raise WireError("values.scale", "the payload ends inside them, or there are no values")
        seed = int.from_bytes(payload[:_SEED_BYTES], "little")
        scales = np.frombuffer(payload[_SEED_BYTES:start], "<f4").astype(np.float32)
        if not np.isfinite(scales).all() or np.signbit(scales).any():
            raise WireError("values.scale", "one is negative or not finite")
        rotations = [Rotation(seed, i, size) for i, size in enumerate(sizes) if scales[i]]
        sent = sum(int(np.count_nonzero(self._kept(rotation))) for rotation in rotations)
        if not sent:
            if len(payload) > start:
                raise WireError("values.levels", "levels where none is sent")
            return seed, scales, np.zeros(0, np.uint8)
        levels, highest = decode_levels(payload[start:], (sent,))
        if highest != self._levels.size - 1:
            raise WireError("values.levels", f"got {highest + 1}, expected {self._levels.size}")
        return seed, scales, levels


@lru_cache(maxsize=16)
def normal_levels(count: int) -> Doubles:
    """Return the `count` levels that make the squared error of N(0, 1) least, ascending.

    Lloyd's iteration: edges half-way between levels, levels at the mean between edges (Max 1960,
    table 1). They are rounded to multiples of 2⁻¹⁶.

    Examples
    --------
    >>> normal_levels(4).round(3).tolist()
    [-1.51, -0.453, 0.453, 1.51]
    """
    levels = [6 * (i + 0.5) / count - 3 for i in range(count)]
    for _ in range(_ITERATIONS):
        inner = [(a + b) / 2 for a, b in pairwise(levels)]
        edges = [-math.inf, *inner, math.inf]
        levels = [_mean_between(a, b) for a, b in pairwise(edges)]
    rounded: Doubles = np.rint(np.array(levels) * _UNIT) / _UNIT
    return rounded


def _mean_between(low: float, high: float) -> float:
    """Return the mean of N(0, 1) between two edges."""
    density = [math.exp(-x * x / 2) / math.sqrt(2 * math.pi) for x in (low, high)]
    below = [(1 + math.erf(x / math.sqrt(2))) / 2 for x in (low, high)]
    return (density[0] - density[1]) / (below[1] - below[0])
