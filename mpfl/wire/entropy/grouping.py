"""Entries of a vector in the order of small keys, found block by block: no index of all of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

COMPILED: Any = None
"""The loops in C, where a compiler was there when the package was installed."""
with suppress(ImportError):
    from mpfl.wire.entropy import _order

    COMPILED = _order if sys.byteorder == "little" else None

Bools = NDArray[np.bool_]
Keys = NDArray[np.uint8]
Scalar = TypeVar("Scalar", bound=np.generic)

BLOCK = 1 << 13
"""Entries that are sorted at a time: the indices of a block are all that is ever held."""
_ASIDE = 256
"""What the kernel adds to the key of an entry that does not count."""


@dataclass(frozen=True)
class Grouping:
    """Which entries of a vector count, and the order in which they are coded.

    The order is span after span, within a span by ascending key, within a key by position.

    Attributes
    ----------
    spans
        Disjoint ranges of the vector, ascending.
    keys
        uint8[n], the key of every entry; None: all the same.
    inside
        bool[n], which entries count; None: all of them.
    counts
        For every span the entries of each key, int64[256] or, without keys, int64[1].
    parts
        The same for every quarter of a span as int64[4, 512], from 256 on those that do not
        count: what the kernel starts from. Empty without keys or kernel.
    """

    spans: tuple[slice, ...]
    keys: Keys | None
    inside: Bools | None
    counts: tuple[NDArray[np.int64], ...]
    parts: tuple[NDArray[np.int64], ...] = ()

    @classmethod
    def of(cls, spans: Sequence[slice], keys: Keys | None, inside: Bools | None) -> Grouping:
        """Count what there is."""
        if keys is None or COMPILED is None:
            counts = tuple(_count(span, keys, inside) for span in spans)
            return cls(tuple(spans), keys, inside, counts)
        parts = tuple(np.zeros((4, 2 * _ASIDE), np.int64) for _ in spans)
        for span, part in zip(spans, parts, strict=True):
            COMPILED.count(keys[span], _part_of(inside, span), part)
        counts = tuple(part[:, :_ASIDE].sum(axis=0) for part in parts)
        return cls(tuple(spans), keys, inside, counts, parts)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Entries of every key of every span, those of none left out."""
        return tuple(n for counts in self.counts for n in counts[counts > 0].tolist())

    @property
    def count(self) -> int:
        """Entries that count."""
        return sum(int(counts.sum()) for counts in self.counts)

    def ones(self, values: Bools) -> NDArray[np.int64]:
        """Return how many of the entries that count are set, as int64 in step with `lengths`."""
        found = []
        for span, counts in zip(self.spans, self.counts, strict=True):
            chosen = values[span] if self.inside is None else values[span] & self.inside[span]
            if self.keys is None:
                ones = np.array([np.count_nonzero(chosen)])
            elif COMPILED:
                parts = np.zeros((4, 2 * _ASIDE), np.int64)
                COMPILED.count(self.keys[span], chosen, parts)
                ones = parts[:, :_ASIDE].sum(axis=0)
            else:
                keys = self.keys[span]
                ones = np.zeros(256, np.int64)
                for places in _set_places(chosen):
                    ones += np.bincount(keys[places], minlength=256)
            found.append(ones[counts > 0])
        return np.concatenate(found)

    def gather(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return the entries that count, in coded order."""
        if self._compiled(values):
            # One more: where the kernel puts what does not count.
            coded = np.empty(self.count + 1, values.dtype)
            for span, keys, inside, following in self._starts(aside=self.count):
                COMPILED.gather(keys, inside, following, values[span], coded)
            return coded[:-1]
        out = np.empty(self.count, values.dtype)
        for place, order, runs in self._blocks():
            part = values[place] if order is None else values[place][order]
            for first, begin, size in runs:
                out[begin : begin + size] = part[first : first + size]
        return out

    def scatter(self, coded: NDArray[Scalar], out: NDArray[Scalar]) -> None:
        """Put entries in coded order back where they belong in `out`; the rest of it stays."""
        if coded.size and self._compiled(out) and self._compiled(coded):
            for span, keys, inside, following in self._starts(aside=0):
                COMPILED.scatter(keys, inside, following, coded, out[span])
            return
        for place, order, runs in self._blocks():
            if order is None:
                first, begin, size = runs[0]
                out[place] = coded[begin : begin + size]
                continue
            part = np.empty(order.size, coded.dtype)
            for first, begin, size in runs:
                part[first : first + size] = coded[begin : begin + size]
            out[place][order] = part

    def _compiled(self, values: NDArray[Scalar]) -> bool:
        """Tell whether the kernel moves such values: single bytes."""
        return bool(self.parts and COMPILED) and values.itemsize == 1 and values.flags.c_contiguous

    def _starts(self, aside: int) -> Iterator[tuple[slice, Keys, Any, NDArray[np.int64]]]:
        """Give for every span its keys, what is inside, and where its entries go in coded order.

        The last is int64[4, 512], by quarter and key; `aside` is for what does not count.
        """
        keys, done = self.keys, 0
        if keys is None:
            return
        for span, counts, parts in zip(self.spans, self.counts, self.parts, strict=True):
            following = np.full(parts.shape, aside, np.int64)
            following[:, :_ASIDE] = np.cumsum(parts, axis=0)[:, :_ASIDE] - parts[:, :_ASIDE]
            following[:, :_ASIDE] += done + np.cumsum(counts) - counts
            done += int(counts.sum())
            yield span, keys[span], _part_of(self.inside, span), following

    def _blocks(
        self,
    ) -> Iterator[tuple[slice, NDArray[np.intp] | None, list[tuple[int, int, int]]]]:
        """Give for every block its place, the coded order of its entries, and its runs.

        A run is where it begins in the block, where in the coded order, and its size. The order
        None stands for all entries as they are.
        """
        done = 0
        for span, counts in zip(self.spans, self.counts, strict=True):
            starts = done + np.cumsum(counts) - counts
            done += int(counts.sum())
            if self.keys is None:
                if self.inside is None:
                    yield span, None, [(0, int(starts[0]), span.stop - span.start)]
                    continue
                for places in _set_places(self.inside[span]):
                    yield span, places, [(0, int(starts[0]), places.size)]
                    starts += places.size
                continue
            for begin in range(span.start, span.stop, BLOCK):
                place = slice(begin, min(begin + BLOCK, span.stop))
                order, sizes = self._sorted(self.keys, place)
                firsts = np.cumsum(sizes) - sizes
                used = np.flatnonzero(sizes)
                columns = (firsts[used], starts[used], sizes[used])
                yield place, order, list(zip(*(c.tolist() for c in columns), strict=True))
                starts[: sizes.size] += sizes

    def _sorted(self, every: Keys, place: slice) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the coded order of a block's entries, and how many have each key."""
        keys = every[place]
        if self.inside is None:
            return np.argsort(keys, kind="stable"), np.bincount(keys)
        chosen = np.flatnonzero(self.inside[place])
        keys = keys[chosen]
        return chosen[np.argsort(keys, kind="stable")], np.bincount(keys)


def _part_of(inside: Bools | None, span: slice) -> Any:
    """Return a span's part for the kernel, to which no bytes stand for all."""
    return b"" if inside is None else inside[span]


def _set_places(flags: Bools) -> Iterator[NDArray[np.intp]]:
    """Give the places of the set flags, block by block: far quicker than indexing by flags."""
    for begin in range(0, flags.size, 4 * BLOCK):
        places = np.flatnonzero(flags[begin : begin + 4 * BLOCK])
        places += begin
        yield places


def _count(span: slice, keys: Keys | None, inside: Bools | None) -> NDArray[np.int64]:
    if keys is None:
        full = span.stop - span.start
        return np.array([full if inside is None else np.count_nonzero(inside[span])], np.int64)
    counts = np.zeros(256, np.int64)
    for begin in range(span.start, span.stop, BLOCK):
        place = slice(begin, min(begin + BLOCK, span.stop))
        part = keys[place] if inside is None else keys[place][inside[place]]
        counts += np.bincount(part, minlength=256)
    return counts
