"""Interleaved rANS, the sender's half: symbols to bytes at their entropy, many at a time.

The coder is range asymmetric numeral systems (Duda, arXiv 1311.2540) with states of 32 bits that
shed words of 16. Lanes (independent states) take turns, so that one NumPy call serves a row of
symbols. One lane alone serves the last symbols; the words it sheds become the first states of
further lanes, and so these cost nothing to begin and about half a byte each to end.
See docs/wire-format.md for the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfl.wire.entropy import rans_states
from mpfl.wire.entropy.rans_states import LOWEST, lanes_log, pack_states, stages, stride
from mpfl.wire.entropy.tables import PRECISION, Contexts, Ints, Shorts, Tables, information_table
from mpfl.wire.varint import encode_varint

Doubles = NDArray[np.float64]

_CHUNK = 1 << 14
"""Symbols whose frequencies are looked up, or made doubles, at a time."""


class Encoder:
    """Collects symbols in the order in which the decoder will ask for them."""

    def __init__(self) -> None:
        self._frequencies: list[Shorts] = []
        self._starts: list[Shorts] = []

    def put(self, symbols: NDArray[np.uint8], contexts: Contexts, tables: Tables) -> None:
        """Append symbols, each with the number of its table (0 to contexts - 1)."""
        frequencies = np.empty(symbols.size, np.uint16)
        starts = np.empty(symbols.size, np.uint16)
        for begin in range(0, symbols.size, _CHUNK):
            chunk = slice(begin, begin + _CHUNK)
            place = contexts[chunk].astype(np.int64)
            place *= tables.frequencies.shape[1]
            place += symbols[chunk]
            np.take(tables.frequencies.ravel(), place, out=frequencies[chunk])
            np.take(tables.starts.ravel(), place, out=starts[chunk])
        self._frequencies.append(frequencies)
        self._starts.append(starts)

    def finish(self) -> bytes:
        """Return the stream; no bytes for no symbols."""
        if not sum(part.size for part in self._frequencies):
            return b""
        frequencies, starts = np.concatenate(self._frequencies), np.concatenate(self._starts)
        self._frequencies, self._starts = [frequencies], [starts]
        return _encode_stages(lanes_log(_information(frequencies)), frequencies, starts)


def _information(frequencies: Shorts) -> int:
    table, parts = information_table(), range(0, frequencies.size, _CHUNK)
    return sum(int(table.take(frequencies[begin : begin + _CHUNK]).sum()) for begin in parts)


def _encode_stages(log: int, frequencies: Shorts, starts: Shorts) -> bytes:
    """Encode from the last symbol to the first.

    By `lanes_log` all symbols say a hundred times what it takes to feed the lanes.
    """
    states, words, end = np.ones(1, np.int64), np.zeros(0, np.uint16), frequencies.size
    counts: list[int] = []
    lanes_of = stages(log)
    for lanes, following in zip(lanes_of, [*lanes_of[1:], 0], strict=True):
        fresh = words[: lanes - states.size].astype(np.int64)
        states, words = np.concatenate([states, fresh + LOWEST]), words[fresh.size :]
        wanted = following - lanes if following else None
        step = _encode_scalar if lanes == 1 else _encode_rows
        if rans_states.COMPILED:
            step = _encode_compiled
        states, new, begin = step(states, frequencies[:end], starts[:end], wanted)
        words = np.concatenate([new, words])
        counts.append(end - begin)
        end = begin
    header = bytes((log,)) + b"".join(encode_varint(n) for n in counts[:0:-1])
    return header + pack_states(states) + words.astype("<u2").tobytes()


def _encode_compiled(
    states: Ints, frequencies: Shorts, starts: Shorts, wanted: int | None
) -> tuple[Ints, NDArray[np.uint16], int]:
    """Encode backwards with any number of lanes; see `_encode_scalar` and `_encode_rows`."""
    out, words = states.astype(np.uint32), np.empty(frequencies.size, np.uint16)
    left, at = rans_states.COMPILED.encode(
        out, frequencies, starts, words, -1 if wanted is None else wanted, stride(states.size)
    )
    return out.astype(np.int64), words[at:].copy(), left


def _encode_scalar(
    states: Ints, frequencies: Shorts, starts: Shorts, wanted: int | None
) -> tuple[Ints, NDArray[np.uint16], int]:
    """Encode backwards with one lane, all symbols or until `wanted` words are out."""
    state = int(states[0])
    words: list[int] = []
    begin = frequencies.size
    while begin and (wanted is None or len(words) < wanted):
        end, begin = begin, max(begin - stride(1), 0)
        chunk = slice(begin, end)
        for frequency, start in zip(
            _backwards(frequencies[chunk]), _backwards(starts[chunk]), strict=True
        ):
            if state >= frequency << (32 - PRECISION):
                words.append(state & 0xFFFF)
                state >>= 16
            high, low = divmod(state, frequency)
            state = (high << PRECISION) + low + start
    return np.array([state], np.int64), np.array(words[::-1], np.uint16), begin


def _backwards(numbers: Shorts) -> list[int]:
    backwards: list[int] = numbers[::-1].tolist()
    return backwards


def _encode_rows(
    states: Ints, frequencies: Shorts, starts: Shorts, wanted: int | None
) -> tuple[Ints, NDArray[np.uint16], int]:
    """Encode backwards a row of lanes at a time; see `_encode_scalar`.

    The decoder gives the first symbol of a stage to lane 0, so that only the last row of a
    stage, here the first, may be short; where the end is open, none is.

    All is done in doubles, where NumPy divides four at a time. It is exact: states are below
    2 ** 32, and a quotient that is not an integer is at least 2 ** -15 away from the next one.
    """
    lanes, begin, out = states.size, frequencies.size, 0
    all_states = states.astype(np.float64)
    chunks: list[NDArray[np.uint16]] = []
    base, rows = begin, _Rows.of(frequencies, starts, begin, begin)
    while begin >= lanes or (begin and wanted is None):
        if wanted is not None and out >= wanted:
            break
        end, begin = begin, (begin - 1) // lanes * lanes if wanted is None else begin - lanes
        if begin < base:
            base = max(0, min(begin, end - _CHUNK))
            rows = _Rows.of(frequencies, starts, base, end)
        row, state = slice(begin - base, end - base), all_states[: end - begin]
        over = (state >= rows.limit[row]).nonzero()[0]
        chunk = state[over].astype(np.int64)
        chunks.append(chunk.astype(np.uint16))
        out += over.size
        state[over] = chunk >> 16
        high = np.floor(state / rows.frequency[row])
        high *= rows.gain[row]
        state += high
        state += rows.start[row]
    words = np.concatenate(chunks[::-1]) if chunks else np.zeros(0, np.uint16)
    return all_states.astype(np.int64), words, begin


@dataclass(frozen=True)
class _Rows:
    """What a stretch of symbols does to a state: shed words from `limit` on, then grow."""

    limit: Doubles
    frequency: Doubles
    gain: Doubles
    start: Doubles

    @classmethod
    def of(cls, frequencies: Shorts, starts: Shorts, begin: int, end: int) -> _Rows:
        frequency = frequencies[begin:end].astype(np.float64)
        return cls(
            frequency * float(1 << (32 - PRECISION)),
            frequency,
            float(1 << PRECISION) - frequency,
            starts[begin:end].astype(np.float64),
        )
