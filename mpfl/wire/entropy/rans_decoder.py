"""Interleaved rANS, the receiver's half: see mpfl.wire.entropy.rans_encoder."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mpfl.wire.entropy import rans_states
from mpfl.wire.entropy.rans_states import (
    LOWEST,
    MAX_LANES_LOG,
    check_length,
    lanes_log,
    stages,
    stride,
    unpack_states,
)
from mpfl.wire.entropy.tables import (
    PRECISION,
    Contexts,
    Ints,
    Slots,
    Tables,
    information_table,
)
from mpfl.wire.errors import WireError
from mpfl.wire.varint import decode_varint

_MAX_SYMBOLS = 1 << 48
Taker = Callable[[Ints, Tables, NDArray[np.uint8]], None]
"""Takes symbols of the tables with these numbers."""

_CHUNK = 1 << 13
"""Symbols whose tables are looked up at a time."""


class Decoder:
    """Gives back the symbols of a stream, for tables that the caller works out as it goes.

    It allocates what the caller asks for and what the stream is long, never what the stream
    claims: a byte a symbol, at most one more for faster lookup, and a constant. Every method
    raises WireError if the bytes are not the one stream of such symbols: coding step by step is
    the exact reverse of decoding, so that only the lanes and where stages end must be checked.
    """

    def __init__(self, blob: bytes | memoryview) -> None:
        self._blank = not len(blob)  # then there is no stream
        self._log = 0
        self._information = 0
        self._given = 0  # words that the further lanes of the stage before gave back
        self._taken = 0  # symbols of this stage
        self._opened = 0  # words that its first stride took
        self._lanes: list[int] = []
        self._left: list[int] = []  # symbols of every stage but the last, which takes the rest
        self._states = np.ones(1, np.int64)
        begin = self._read_header(blob) if len(blob) else 0
        if (len(blob) - begin) % 2:
            raise WireError("rans.words", "half a word at the end")
        self._words = np.frombuffer(blob, "<u2", offset=begin).astype(np.uint16)
        self._next = 0
        self._row = 0  # lane of the next symbol

    def _read_header(self, blob: bytes | memoryview) -> int:
        if blob[0] > MAX_LANES_LOG:
            raise WireError("rans.lanes", f"2 to the power of {blob[0]} are too many")
        self._log = blob[0]
        check_length(self._log, len(blob))
        self._lanes = stages(blob[0])[::-1]
        begin = 1
        for _ in self._lanes[:-1]:
            count, begin = decode_varint(blob, begin, "rans.count", _MAX_SYMBOLS)
            self._left.append(count)
        if blob[0]:
            self._states, begin = unpack_states(blob, begin, 1 << blob[0])
            return begin
        # Three or four bytes of state, then words; without words, the state alone.
        size = len(blob) - begin
        width = size if size <= 4 else 4 - size % 2
        state = int.from_bytes(blob[begin : begin + width], "little")
        if not width or not blob[begin + width - 1]:
            raise WireError("rans.states", "the state is not in its shortest form")
        self._states = np.array([state], np.int64)
        return begin + width

    def take(self, contexts: Contexts, tables: Tables) -> NDArray[np.uint8]:
        """Return the next symbols, one for each context (the number of its table)."""
        symbols = np.empty(contexts.size, np.uint8)
        take = self._take_compiled if rans_states.COMPILED else self._interpreter(symbols, tables)
        done = 0
        while done < contexts.size:
            self._enter_stage()
            end = done + min(contexts.size - done, self._at_once())
            take(contexts[done:end].astype(np.int64), tables, symbols[done:end])
            self._count(end - done)
            done = end
        return symbols

    def _interpreter(self, symbols: NDArray[np.uint8], tables: Tables) -> Taker:
        """Return what takes symbols without the kernel, as many in all as `symbols` holds."""
        slots = tables.slots(symbols.size)

        def take(some: Ints, tables: Tables, out: NDArray[np.uint8]) -> None:
            certain = tables.certain.take(some)
            if (certain >= 0).all():  # these say nothing and leave all states alone
                out[:] = certain
                self._row = (self._row + out.size) % self._states.size
            else:
                step = self._take_rows if self._states.size > 1 else self._take_scalar
                step(some, tables, slots, out)
            some *= tables.frequencies.shape[1]
            some += out
            self._information += tables.information(some)

        return take

    def _at_once(self) -> int:
        """Return how many symbols may be taken until something is to be looked at."""
        opening = stride(self._states.size) - self._taken
        return min(_CHUNK, *self._left[:1], opening if opening > 0 else _CHUNK)

    def _count(self, symbols: int) -> None:
        self._taken += symbols
        if self._left:
            self._left[0] -= symbols
        if self._taken == stride(self._states.size):
            self._opened = self._next

    def finish(self) -> None:
        """Check that the stream holds nothing more."""
        if self._blank:
            return
        if not (self._taken or self._log):
            raise WireError("rans.lanes", "a stream of no symbols")
        self._enter_stage()
        self._check_stage()
        if self._log != lanes_log(self._information):
            raise WireError("rans.lanes", f"2 to the power of {self._log} are not those it takes")
        if self._left or self._next != self._words.size or self._states.tolist() != [1]:
            raise WireError("rans.words", "the stream does not end with its last symbol")

    def _enter_stage(self) -> None:
        """Leave every stage that has no symbols left; its further lanes give their words back."""
        if self._blank:
            raise WireError("rans.lanes", "there is no stream")
        while self._left and self._left[0] == 0:
            self._check_stage()
            del self._left[0], self._lanes[0]
            words = self._states[self._lanes[0] :] - LOWEST
            if (words >> 16).any():
                raise WireError("rans.states", "a lane does not end where it began")
            self._words = np.concatenate([words.astype("<u2"), self._words[self._next :]])
            self._states = self._states[: self._lanes[0]]
            self._given = words.size
            self._next = self._row = self._taken = self._opened = 0

    def _check_stage(self) -> None:
        """Check that a stage ends as soon as it has shed the words for the lanes that follow."""
        exact = self._next - self._opened < self._given <= self._next
        if self._given and (not exact or self._taken % stride(self._states.size)):
            raise WireError("rans.count", "a stage is longer or shorter than the words it gives")

    def _take_compiled(self, contexts: Ints, tables: Tables, out: NDArray[np.uint8]) -> None:
        states = self._states.astype(np.uint32)
        frequencies, starts = tables.frequencies, tables.starts
        following, information = rans_states.COMPILED.decode(
            states, self._row, self._words, self._next, contexts, frequencies, starts,
            frequencies.shape[1], information_table(), out,
        )  # fmt: skip
        if following < 0:
            raise WireError("rans.words", "the stream ends before its last symbol")
        self._states, self._next = states.astype(np.int64), following
        self._information += information
        self._row = (self._row + out.size) % states.size

    def _take_scalar(
        self, contexts: Contexts, tables: Tables, slots: Slots, out: NDArray[np.uint8]
    ) -> None:
        state = int(self._states[0])
        words = self._words[self._next : self._next + contexts.size].tolist()
        taken = 0
        # Single numbers are read much faster through a memoryview than from an array.
        frequencies, starts = tables.frequencies.ravel().data, tables.starts.ravel().data
        alphabet, mask = tables.frequencies.shape[1], (1 << PRECISION) - 1
        numbers = slots.symbols.data if slots.symbols is not None else None
        edges = slots.edges.data if numbers is None else memoryview(b"")
        symbols, held, symbol, start, frequency = out.data, -1, 0, 0, 0
        for i, context in enumerate(contexts.tolist()):
            slot = state & mask
            if context != held or not 0 <= slot - start < frequency:  # not the last one again
                first, wide, held = context * alphabet, context << PRECISION | slot, context
                if numbers is not None:
                    place = first + numbers[wide]
                else:
                    place = bisect_right(edges, wide, first, first + alphabet) - 1
                symbol, start, frequency = place - first, starts[place], frequencies[place]
            state = frequency * (state >> PRECISION) + slot - start
            symbols[i] = symbol
            if state < LOWEST and taken < len(words):
                state = state << 16 | words[taken]
                taken += 1
        self._next += taken
        self._states = np.array([state], np.int64)

    def _take_rows(
        self, contexts: Contexts, tables: Tables, slots: Slots, out: NDArray[np.uint8]
    ) -> None:
        lanes, words, mask = self._states.size, self._words, (1 << PRECISION) - 1
        packed = tables.packed
        slot_base = contexts << PRECISION
        place_base = contexts * tables.frequencies.shape[1]
        places = np.empty(contexts.size, np.int64)
        done = 0
        while done < contexts.size:
            end = min(done + lanes - self._row, contexts.size)
            state = self._states[self._row : self._row + end - done]
            slot = state & mask
            place = slots.places(slot_base[done:end] + slot, place_base[done:end])
            both = packed.take(place)
            state >>= PRECISION
            state *= both & 0xFFFF
            both >>= 16
            state += slot
            state -= both
            low = (state < LOWEST).nonzero()[0]
            following = self._next + low.size
            if following > words.size:
                raise WireError("rans.words", "the stream ends before its last symbol")
            state[low] = state[low] << 16 | words[self._next : following]
            self._next = following
            places[done:end] = place
            self._row = (self._row + end - done) % lanes
            done = end
        out[:] = places - place_base
