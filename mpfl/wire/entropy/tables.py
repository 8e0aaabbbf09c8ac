"""Static distributions over bytes, as integer frequencies that are equal on every machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Shorts = NDArray[np.uint16]
Contexts = NDArray[np.integer]
"""Numbers of tables, in whatever integers."""

TABLES_AT_ONCE = 16
"""Tables that are worked out at a time: the doubles behind them take four times their memory."""
PRECISION = 15
"""The frequencies of a distribution add up to 2 to this power."""


@dataclass(frozen=True)
class Tables:
    """Static distributions over bytes.

    Attributes
    ----------
    frequencies
        uint16[contexts, alphabet], each row adding up to 2 ** `PRECISION`; an impossible symbol
        has 0.
    starts
        Sum of the frequencies of all lower symbols, same shape.
    """

    frequencies: Shorts
    starts: Shorts

    @classmethod
    def from_weights(cls, weights: NDArray[np.float64]) -> Tables:
        """Round non-negative weights[contexts, alphabet] to frequencies.

        A weight above 0 gets a frequency above 0. The result is the same on every machine:
        nothing but sums, products and quotients of doubles in a fixed order.
        """
        total = np.add.accumulate(weights, axis=1)[:, -1]  # one after another, never in pairs
        whole = 1 << PRECISION
        share = np.floor(weights / total[:, None] * whole + 0.5).astype(np.int64)
        share = np.maximum(share, weights > 0)
        excess = share.sum(axis=1) - whole
        rows = np.arange(len(share))
        share[rows, share.argmax(axis=1)] -= excess
        starts = np.cumsum(share, axis=1) - share
        return cls(share.astype(np.uint16), starts.astype(np.uint16))

    def slots(self, symbols: int) -> Slots:
        """Return the lookup of symbols by slots.

        A table for it is quicker, but only taken if it has at most an entry for each of the
        symbols that will be asked for.
        """
        contexts, alphabet = self.frequencies.shape
        if symbols < contexts << PRECISION:
            return Slots(self, None)
        numbers = np.tile(np.arange(alphabet, dtype=np.uint8), contexts)
        return Slots(self, np.repeat(numbers, self.frequencies.ravel()))

    @cached_property
    def certain(self) -> NDArray[np.int16]:
        """The only symbol that each table has, -1 where it has several."""
        largest = self.frequencies.argmax(axis=1)
        alone = self.frequencies.max(axis=1) == 1 << PRECISION
        return np.where(alone, largest, -1).astype(np.int16)

    @classmethod
    def joined(cls, parts: Iterable[NDArray[np.float64]]) -> Tables:
        """Return the tables of weights that come `TABLES_AT_ONCE` rows, or so, at a time."""
        tables = [cls.from_weights(weights) for weights in parts]
        frequencies = np.concatenate([some.frequencies for some in tables])
        return cls(frequencies, np.concatenate([some.starts for some in tables]))

    def information(self, places: Ints) -> int:
        """Return what the symbols of these places say together, in parts of a `BIT`."""
        return int(information_table().take(self.frequencies.ravel().take(places)).sum())

    @cached_property
    def packed(self) -> NDArray[np.uint32]:
        """Start · 2^16 + frequency of every symbol, contexts one after another."""
        packed: NDArray[np.uint32] = self.starts.astype(np.uint32)
        packed <<= 16
        packed |= self.frequencies
        return packed.ravel()


BIT = 1 << 24
"""A bit of information, in the whole numbers in which both sides add it up."""


@lru_cache(maxsize=1)
def information_table() -> Ints:
    """Return what a symbol of each frequency says, 0 to 2 ** `PRECISION`; whole parts of a bit."""
    bits = PRECISION - np.log2(np.maximum(np.arange((1 << PRECISION) + 1), 1))
    whole: Ints = np.rint(bits * BIT).astype(np.int64)
    return whole


@dataclass(frozen=True)
class Slots:
    """Which symbol a slot belongs to.

    Slots are numbered through all tables: context · 2 ** `PRECISION` + slot. Places are those of
    symbols in all tables: context · alphabet + symbol.
    """

    tables: Tables
    symbols: NDArray[np.uint8] | None

    @cached_property
    def edges(self) -> Ints:
        """Slot of each place's start; places of impossible symbols start with the next one."""
        contexts = np.arange(len(self.tables.starts))[:, None] << PRECISION
        return (self.tables.starts + contexts).ravel()

    def places(self, slots: Ints, bases: Ints) -> Ints:
        """Return the places of the symbols of slots; `bases` are context · alphabet."""
        if self.symbols is not None:
            return bases + self.symbols.take(slots)
        found: Ints = self.edges.searchsorted(slots, "right")
        found -= 1
        return found
