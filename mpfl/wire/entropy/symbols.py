"""Small signed integers at their entropy: one table of magnitudes a segment, then rANS.

A table gives weights to buckets of magnitudes: 0, 1, 2, 3, 4-5, 6-7, 8-11, 12-15, ... up to 127.
Within a bucket, and between the signs, integers are taken as equally likely. A segment brings a
table of its own or refers to an earlier one, whichever is smaller, so that small segments cost
next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mpfl.wire.entropy.rans_decoder import Decoder
from mpfl.wire.entropy.rans_encoder import Encoder
from mpfl.wire.entropy.tables import BIT, TABLES_AT_ONCE, Tables
from mpfl.wire.errors import WireError

Symbols = NDArray[np.int8]

EDGES = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Bucket b holds the magnitudes from EDGES[b] up to, but not, EDGES[b + 1]."""

_NEW = 255
"""Reference of a segment that brings its own table."""
_ABSENT = 255
"""Weight of a bucket that does not occur."""
_BUCKETS = len(EDGES) - 1
_LARGEST = EDGES[-1] - 1
_CHUNK = 1 << 14
"""Integers that are counted at a time."""


def encode_symbols(symbols: Symbols, segments: Sequence[int]) -> bytes:
    """Return integers from -127 to 127 as bytes; segments without any cost nothing."""
    header, contexts, tables = _described(symbols, segments)
    if not tables:
        return b""
    encoder = Encoder()
    shifted = symbols.view(np.uint8) + np.uint8(_LARGEST)  # wraps around as it should
    encoder.put(shifted, contexts, _distributions(tables))
    return header + encoder.finish()


def _described(
    symbols: Symbols, segments: Sequence[int]
) -> tuple[bytes, NDArray[np.uint8], list[bytes]]:
    """Return the tables as they are sent, the number of each integer's, and all of them."""
    tables: list[bytes] = []
    costs: list[NDArray[np.int64]] = []
    header = bytearray()
    contexts: list[NDArray[np.uint8]] = []
    for part in _parts(symbols, segments):
        counts = _magnitude_counts(part)
        own = _table(np.add.reduceat(counts, EDGES[:-1]))
        bits = [int(counts @ cost) for cost in costs]
        own_cost = _magnitude_bits(own)
        own_bits = int(counts @ own_cost) + 8 * (len(own) + 1) * BIT
        if len(tables) < _NEW and (not bits or own_bits < min(bits)):
            header += bytes((_NEW, len(own))) + own
            contexts.append(np.full(part.size, len(tables), np.uint8))
            tables.append(own)
            costs.append(own_cost)
        else:
            chosen = int(np.argmin(bits))
            header.append(chosen)
            contexts.append(np.full(part.size, chosen, np.uint8))
    return bytes(header), np.concatenate([np.zeros(0, np.uint8), *contexts]), tables


def decode_symbols(payload: bytes | memoryview, segments: Sequence[int]) -> Symbols:
    """Read what `encode_symbols` wrote; raises WireError and nothing else."""
    tables: list[bytes] = []
    contexts: list[NDArray[np.uint8]] = []
    position = 0
    for count in segments:
        if not count:
            continue
        if position >= len(payload):
            raise WireError("values.tables", "the payload ends inside them")
        chosen, position = payload[position], position + 1
        if chosen == _NEW:
            chosen = len(tables)
            if chosen == _NEW:
                raise WireError("values.tables", f"more than {_NEW} of them")
            table, position = _read_table(payload, position)
            tables.append(table)
        if chosen >= len(tables):
            raise WireError("values.tables", f"there is no table {chosen}")
        contexts.append(np.full(count, chosen, np.uint8))
    decoder = Decoder(payload[position:])
    if not tables:
        decoder.finish()
        return np.zeros(0, np.int8)
    shifted = decoder.take(np.concatenate(contexts), _distributions(tables))
    decoder.finish()
    shifted -= np.uint8(_LARGEST)  # wraps around as it should
    symbols = shifted.view(np.int8)
    if payload[:position] != _described(symbols, segments)[0]:
        raise WireError("values.tables", "they are not those of the integers")
    return symbols


def entropy_bits(symbols: Symbols, segments: Sequence[int]) -> float:
    """Return the sum of n·H over the segments, H of each one's own shares."""
    bits = 0.0
    for part in _parts(symbols, segments):
        counts = _signed_counts(part)
        counts = counts[counts > 0]
        bits += float(counts @ np.log2(part.size / counts))
    return bits


def _signed_counts(part: Symbols) -> NDArray[np.int64]:
    """Return how often each integer occurs, from 0 to 127 and then from -128 to -1."""
    counts = np.zeros(256, np.int64)
    for begin in range(0, part.size, _CHUNK):
        counts += np.bincount(part[begin : begin + _CHUNK].view(np.uint8), minlength=256)
    return counts


def _magnitude_counts(part: Symbols) -> NDArray[np.int64]:
    counts = _signed_counts(part)
    magnitudes = counts[: _LARGEST + 1].copy()
    magnitudes[1:] += counts[: _LARGEST + 1 : -1]
    return magnitudes


def _parts(symbols: Symbols, segments: Sequence[int]) -> list[Symbols]:
    ends = np.cumsum(segments, dtype=np.int64)
    return [symbols[end - n : end] for n, end in zip(segments, ends, strict=True) if n]


def _table(counts: NDArray[np.int64]) -> bytes:
    """Return a byte a bucket, up to the last one that occurs: its share on a scale of halvings."""
    used = int(np.flatnonzero(counts)[-1]) + 1
    share = counts[:used] / counts.sum()
    distance = np.abs(_shares()[:, None] - share) / np.maximum(share, 1e-30)
    return np.where(counts[:used] > 0, distance.argmin(axis=0), _ABSENT).astype(np.uint8).tobytes()


def _shares() -> NDArray[np.float64]:
    """Return the 255 shares: 1, 15/16, ... 9/16, 1/2, ... down by powers of 2."""
    i = np.arange(_ABSENT)
    shares: NDArray[np.float64] = np.ldexp(16.0 - i % 8, -(4 + i // 8))
    return shares


def _read_table(payload: bytes | memoryview, position: int) -> tuple[bytes, int]:
    size = payload[position] if position < len(payload) else 0
    table = bytes(payload[position + 1 : position + 1 + size])
    if not 1 <= size <= _BUCKETS or len(table) != size or table[-1] == _ABSENT:
        raise WireError("values.tables", "a table is truncated or too long")
    return table, position + 1 + size


def _magnitude_weights(table: bytes) -> NDArray[np.float64]:
    """Return the weight of each magnitude, both signs together; shape [128]."""
    steps = np.frombuffer(table, np.uint8)
    shares = np.append(_shares(), 0.0)[steps]
    widths = np.diff(EDGES)[: steps.size]
    weights = np.zeros(_LARGEST + 1)
    weights[: EDGES[steps.size]] = np.repeat(shares / widths, widths)
    return weights


def _magnitude_bits(table: bytes) -> NDArray[np.int64]:
    """Return what a symbol of each magnitude costs, in `BIT`; a lot where it cannot be sent."""
    weights = _magnitude_weights(table)
    signed = weights / weights.sum() / np.where(np.arange(weights.size) > 0, 2.0, 1.0)
    bits: NDArray[np.int64] = np.rint(-np.log2(np.maximum(signed, 2.0**-200)) * BIT).astype(int)
    return bits


def _distributions(tables: list[bytes]) -> Tables:
    """Return the tables over -127 to 127, shifted to 0 to 254."""
    parts = range(0, len(tables), TABLES_AT_ONCE)
    return Tables.joined(_signed_weights(tables[i : i + TABLES_AT_ONCE]) for i in parts)


def _signed_weights(tables: list[bytes]) -> NDArray[np.float64]:
    magnitudes = np.stack([_magnitude_weights(table) for table in tables])
    magnitudes[:, 1:] /= 2
    return np.concatenate([magnitudes[:, :0:-1], magnitudes], axis=1)
