"""Shares on a common scale, as levels from 0 to a top of at most 255, at their entropy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mpfl.wire.entropy.rans_decoder import Decoder
from mpfl.wire.entropy.rans_encoder import Encoder
from mpfl.wire.entropy.tables import TABLES_AT_ONCE, Contexts, Tables
from mpfl.wire.errors import WireError

Levels = NDArray[np.uint8]

_CHUNK = 1 << 14
"""Levels that are counted at a time."""
_ABSENT = 255
"""Share of a level that does not occur."""


def encode_levels(levels: Levels, top: int, segments: Sequence[int]) -> bytes:
    """Return levels as bytes: the top, a share a level for each segment, then an rANS stream.

    Parameters
    ----------
    levels
        uint8[n], none above `top`.
    top
        1 to 255.
    segments
        How many consecutive levels have a table in common; the sum is n, none is 0.
    """
    if not 1 <= top <= 255 or (levels.size and int(levels.max()) > top):
        raise ValueError(f"levels: expected 0 to top, and top from 1 to 255; top is {top}")
    if levels.shape != (sum(segments),):
        raise ValueError(f"levels: got shape {levels.shape}, expected ({sum(segments)},)")
    shares = _shares(levels, top, segments)
    encoder = Encoder()
    if levels.size:
        encoder.put(levels, _contexts(segments), _tables(shares))
    return bytes((top,)) + shares.tobytes() + encoder.finish()


def decode_levels(payload: bytes, segments: Sequence[int]) -> tuple[Levels, int]:
    """Return levels and top; raises WireError and nothing else."""
    top = payload[0] if payload else 0
    size = (top + 1) * len(segments)
    raw = np.frombuffer(payload[1 : 1 + size], np.uint8)
    if top < 1 or raw.size != size:
        raise WireError("levels", "the payload ends inside its tables")
    shares = raw.reshape(len(segments), top + 1)
    if (shares == _ABSENT).all(axis=1).any():
        raise WireError("levels", "a table has no level")
    decoder = Decoder(payload[1 + size :])
    levels = np.zeros(0, np.uint8)
    if len(segments):
        levels = decoder.take(_contexts(segments), _tables(shares))
    decoder.finish()
    if not np.array_equal(shares, _shares(levels, top, segments)):
        raise WireError("levels", "the tables are not those of the levels")
    return levels, top


def levels_bound_bytes(levels: Levels, segments: Sequence[int]) -> float:
    """Return the entropy of each segment's levels, and one byte for the top."""
    bits = 0.0
    for part in np.split(levels, np.cumsum(segments)[:-1]):
        counts = np.unique(part, return_counts=True)[1]
        bits += float(counts @ np.log2(part.size / counts))
    return 1 + bits / 8


def _shares(levels: Levels, top: int, segments: Sequence[int]) -> Levels:
    """Return the share of each level in each segment, uint8[segments, top + 1]."""
    parts = np.split(levels, np.cumsum(segments)[:-1]) if levels.size else []
    rows = [_shares_of(part, top) for part in parts]
    return np.stack(rows) if rows else np.zeros((0, top + 1), np.uint8)


def _shares_of(part: Levels, top: int) -> Levels:
    counts = np.zeros(top + 1, np.int64)
    for begin in range(0, part.size, _CHUNK):
        counts += np.bincount(part[begin : begin + _CHUNK], minlength=top + 1)
    middles = (_grid()[1:] + _grid()[:-1]) / 2
    nearest = np.searchsorted(-middles, -counts / counts.sum())  # the greater of two equally near
    return np.where(counts > 0, nearest, _ABSENT).astype(np.uint8)


def _grid() -> NDArray[np.float64]:
    """Return the 255 shares: 1, 15/16, ... 9/16, 1/2, ... down by powers of 2."""
    i = np.arange(_ABSENT)
    shares: NDArray[np.float64] = np.ldexp(16.0 - i % 8, -(4 + i // 8))
    return shares


def _tables(shares: Levels) -> Tables:
    weights, parts = np.append(_grid(), 0.0), range(0, len(shares), TABLES_AT_ONCE)
    return Tables.joined(weights[shares[i : i + TABLES_AT_ONCE]] for i in parts)


def _contexts(segments: Sequence[int]) -> Contexts:
    numbers = np.arange(len(segments), dtype=np.min_scalar_type(len(segments)))
    return np.repeat(numbers, segments)
