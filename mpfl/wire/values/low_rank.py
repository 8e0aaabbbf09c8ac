"""Matrices as the product of two thin ones, which then go through another codec."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mpfl.errors import InputError
from mpfl.wire.errors import WireError
from mpfl.wire.values.base import (
    NOTHING_KNOWN,
    Floats,
    Segments,
    Stream,
    ValueCodec,
    ValueContext,
    cut,
    within_float32,
)

Doubles = NDArray[np.float64]

_NEGLIGIBLE = 1e-10
"""Below this share of a column nothing of it is left beside the columns before."""


@dataclass(frozen=True)
class LowRankCodec:
    """Each matrix M as P · Qᵀ of a low rank, by one step of the power iteration.

    PowerSGD (Vogels et al. 2019, arXiv 1905.13727, algorithm 1): P = M · Q with the Q of the last
    payload (at first drawn at random), its columns made orthonormal, Q = Mᵀ · P. A tensor of more
    dimensions is a matrix of its first one by all others; vectors, parts of tensors, and matrices
    that factors would not make smaller travel as they are. What differs: P and Q are what one
    sender sends, not means that all senders agree on between the two products, and a column of Q
    that has become zero is drawn anew.

    Products and Gram and Schmidt's method (twice) are sums of float64 in a fixed order, which
    every processor gets alike. So is the product that the receiver makes.

    The payload is that of the inner codec, for the segments one after another: of a matrix the
    columns of P and the columns of Q, two segments; of everything else its values.

    Attributes
    ----------
    rank
        Columns of P and Q, at least 1.
    inner
        What writes the factors.
    """

    relative: ClassVar[bool] = True
    feedback: ClassVar[bool] = True
    rank: int
    inner: ValueCodec

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(f"got lowrank({self.rank}), expected a rank of at least 1")

    @property
    def bits_each(self) -> float:
        """Bits of each number of the factors; see `numbers` for how many those are."""
        return self.inner.bits_each

    def numbers(self, segments: Segments, context: ValueContext) -> int:
        """Return how many numbers stand for values in such segments."""
        return sum(self.factors(segments, context))

    def encode(
        self, values: Floats, segments: Segments, rng: Stream, context: ValueContext
    ) -> bytes:
        """Return the inner codec's payload; ValueError if a draw is due and there is no stream."""
        last = self._last(segments, context)
        parts: list[Floats] = []
        for matrix, place in zip(self._matrices(segments, context), cut(segments), strict=True):
            if matrix is None:
                parts.append(values[place])
                continue
            rows, columns, rank = matrix
            start = last.pop(0).reshape(rank, columns) if last else None
            table = values[place].reshape(rows, columns).astype(np.float64)
            parts += [
                within_float32(factor).ravel() for factor in _power_step(table, rank, start, rng)
            ]
        inside = self.factors(segments, context)
        whole = np.concatenate([np.zeros(0, np.float32), *parts])
        return self.inner.encode(whole, inside, rng, _progress(context))

    def _last(self, segments: Segments, context: ValueContext) -> list[Floats]:
        """Return the Q of every matrix as the last payload has it; none if it does not fit."""
        if not context.previous:
            return []
        inside = self.factors(segments, context)
        try:
            numbers = self.inner.decode(context.previous, inside, NOTHING_KNOWN)
        except WireError:  # values of another mask
            return []
        found = iter(cut(inside))
        factors = []
        for matrix in self._matrices(segments, context):
            place = next(found)
            if matrix is not None:
                place = next(found)
                factors.append(numbers[place])
        return factors

    def decode(self, payload: bytes, segments: Segments, context: ValueContext) -> Floats:
        """Multiply the factors; WireError if the payload is not legal."""
        inside = self.factors(segments, context)
        numbers = self.inner.decode(payload, inside, NOTHING_KNOWN)
        values = np.zeros(sum(segments), np.float32)
        found = iter(cut(inside))
        for matrix, place in zip(self._matrices(segments, context), cut(segments), strict=True):
            if matrix is None:
                values[place] = numbers[next(found)]
                continue
            rows, columns, rank = matrix
            left = numbers[next(found)].reshape(rank, rows)
            right = numbers[next(found)].reshape(rank, columns)
            _multiply(left, right, values[place].reshape(rows, columns))
        return values

    def bound_bytes(self, payload: bytes, segments: Segments, context: ValueContext) -> float:
        """Return what the inner codec says."""
        return self.inner.bound_bytes(payload, self.factors(segments, context), NOTHING_KNOWN)

    def _matrices(
        self, segments: Segments, context: ValueContext
    ) -> list[tuple[int, int, int] | None]:
        """Return rows, columns and rank of each segment, None where it travels as it is."""
        shapes = context.shapes or (None,) * len(segments)
        return [self._matrix(shape or ()) for shape in shapes]

    def _matrix(self, shape: tuple[int, ...]) -> tuple[int, int, int] | None:
        if len(shape) < 2:
            return None
        rows, columns = shape[0], math.prod(shape[1:])
        if self.rank * (rows + columns) >= rows * columns:
            return None
        return rows, columns, self.rank

    def factors(self, segments: Segments, context: ValueContext) -> list[int]:
        """Return the segments of the inner codec."""
        inside: list[int] = []
        for count, matrix in zip(segments, self._matrices(segments, context), strict=True):
            if matrix is None:
                inside.append(count)
            else:
                rows, columns, rank = matrix
                inside += [rank * rows, rank * columns]
        return inside


def _progress(context: ValueContext) -> ValueContext:
    """Return what the inner codec may know: of factors there are neither classes nor shapes."""
    return replace(NOTHING_KNOWN, progress=context.progress)


def _power_step(
    matrix: Doubles, rank: int, start: Floats | None, rng: Stream
) -> tuple[Doubles, Doubles]:
    """Return the columns of P, one after another, and those of Q.

    Parameters
    ----------
    matrix
        float64[rows, columns].
    start
        float32[rank, columns], the columns of Q to start from; None, or a column of zeros: drawn.
    """
    begin = np.zeros((rank, matrix.shape[1])) if start is None else start.astype(np.float64)
    for column in begin:
        if not column.any():
            if rng is None:
                raise ValueError("rng: the first factors need a stream")
            column[:] = rng.standard_normal(column.size)
    left = np.stack([(matrix * column).sum(axis=1) for column in begin])
    _orthonormalise(left)
    right = np.stack([(matrix * column[:, None]).sum(axis=0) for column in left])
    return left, right


def _orthonormalise(vectors: Doubles) -> None:
    """Make the rows orthonormal by Gram and Schmidt's method; what depends on others becomes 0."""
    for i, vector in enumerate(vectors):
        largest = float(np.abs(vector).max())
        if not largest:
            continue
        vector /= largest  # squares of tiny numbers would vanish
        whole = math.sqrt(np.square(vector).sum())
        for _ in range(2):
            for before in vectors[:i]:
                vector -= (before * vector).sum() * before
        rest = math.sqrt(np.square(vector).sum())
        vector *= 1 / rest if rest > _NEGLIGIBLE * whole else 0.0


def _multiply(left: Floats, right: Floats, out: Floats) -> None:
    """Write the sum of the outer products of rows, row by row of `out`."""
    with np.errstate(over="ignore"):
        for row, weights in zip(out, left.T, strict=True):
            total = np.zeros(row.size)
            for weight, vector in zip(weights.tolist(), right, strict=True):
                total += weight * vector.astype(np.float64)
            row[:] = within_float32(total)
