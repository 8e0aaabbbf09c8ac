"""A layer of a mask seen as a matrix, and the blocks in which it is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfl.wire.entropy.grouping import Bools, Keys, Scalar

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """Some rows of a matrix, or a stretch of one; a last, incomplete row counts as complete.

    Attributes
    ----------
    rows, columns
        Where it stands in the matrix.
    place
        Where it stands in the vector of all units: a stretch without gaps.
    sheet
        The matrix.
    """

    rows: slice
    columns: slice
    place: slice
    sheet: Sheet

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def take(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return the block's part of a vector over all units, zero where there is no unit."""
        part = values[self.place]
        height, width = self.shape
        if part.size < height * width:
            part = np.concatenate([part, np.zeros(height * width - part.size, part.dtype)])
        return part.reshape(height, width)

    def put(self, part: NDArray[Scalar], values: NDArray[Scalar]) -> None:
        """Write the block's part of a vector over all units."""
        values[self.place] = part.ravel()[: self.place.stop - self.place.start]

    def of_classes(self, table: NDArray[Scalar]) -> NDArray[Scalar]:
        """Look up every unit's class in a table of 256 entries, of one without classes."""
        if self.sheet.classes is None:
            return table[:1]
        return table[self.take(self.sheet.classes)]

    def counted(self) -> Bools | None:
        """Return which of its entries are coded units; None: all of them."""
        if self.sheet.inside is not None:
            return self.take(self.sheet.inside)
        height, width = self.shape
        size = self.place.stop - self.place.start
        if size == height * width:
            return None
        there: Bools = np.arange(height * width) < size
        return there.reshape(height, width)


@dataclass(frozen=True)
class Sheet:
    """A layer: unit u of it is in row u ÷ width and column u mod width.

    Attributes
    ----------
    place
        Where it stands in the vector of all units.
    width
        Units per row.
    counts
        How many coded units each class has, int64[256] or, without classes, int64[1].
    classes, inside
        Class of every unit, and which are coded, over all layers; None: all alike.
    """

    place: slice
    width: int
    counts: Ints
    classes: Keys | None
    inside: Bools | None

    @property
    def height(self) -> int:
        """Rows, the last of which may be incomplete."""
        units: int = self.place.stop - self.place.start
        return -(-units // self.width)

    @property
    def groups(self) -> tuple[int, int, int]:
        """Labels of columns, rows and classes."""
        return self.width, self.height, int(np.count_nonzero(self.counts))

    def split(self, labels: NDArray[Scalar]) -> tuple[NDArray[Scalar], ...]:
        """Return the labels of columns, of rows and of all possible classes."""
        classes = np.zeros(self.counts.size, labels.dtype)
        classes[self.counts > 0] = labels[self.width + self.height :]
        return labels[: self.width], labels[self.width : self.width + self.height], classes

    def blocks(self, units: int) -> Iterator[Block]:
        """Give the matrix in blocks of whole rows, but where a row alone has over `units`.

        Then the blocks are stretches of a row, of `units` units at most.
        """
        start, stop, width = self.place.start, self.place.stop, self.width
        many, stretch = max(1, units // width), min(units, width)
        for row in range(0, self.height, many):
            end = min(row + many, self.height)
            for column in range(0, width, stretch):
                last = min(column + stretch, width)
                begin = start + row * width + column
                where = slice(begin, min(begin + (end - row - 1) * width + last - column, stop))
                if where.stop > where.start:
                    yield Block(slice(row, end), slice(column, last), where, self)
