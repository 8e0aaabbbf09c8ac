"""A weighted mean of vectors in fixed point: exact integer sums, so that no order matters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpfl.wire.errors import WireError

_BUFFER_LIMIT_LOG2 = 16


class FixedPointMean:
    """Streaming Σ wₖ·xₖ / Σ wₖ with memory independent of the number of vectors.

    Every value is rounded to a multiple of 2^-shift and summed as int64. Integer sums are
    associative: the result is the same bits whatever the order of arrival.

    Parameters
    ----------
    length
        Length of the vectors.
    max_weight
        Upper bound of the sum of weights (e.g. all training samples).
    limit_log2
        Values must be below 2^limit_log2 in magnitude. The resolution is 2^(limit_log2 - 62)
        times the next power of two of max_weight: by default, for a million samples, finer than
        float32 for values above 10^-3.
    buffers
        How many entries at the end are running statistics of normalisation layers: variances of
        deep networks may be in the thousands, so that their limit is 2^16.
    """

    def __init__(self, length: int, max_weight: int, limit_log2: int = 8, buffers: int = 0) -> None:
        self._sum = np.zeros(length, np.int64)
        self._max_weight = max_weight
        bits = 62 - max(max_weight - 1, 1).bit_length()
        first = length - buffers
        self._parts = tuple(
            (place, 2.0**limit, 2.0 ** (bits - limit))
            for place, limit in (
                (slice(0, first), limit_log2),
                (slice(first, length), _BUFFER_LIMIT_LOG2),
            )
            if place.stop > place.start
        )
        self.weight = 0

    def check(self, values: NDArray[np.float32], weight: int) -> None:
        """Raise WireError for a wrong shape, a non-finite or huge value, or a bad weight."""
        if values.shape != self._sum.shape:
            raise WireError("values", f"expected {self._sum.size}, got shape {values.shape}")
        if weight < 1 or self.weight + weight > self._max_weight:
            raise WireError("metrics", f"weight {weight} of a total of {self._max_weight}")
        for place, limit, _ in self._parts:
            if not float(np.abs(values[place]).max()) < limit:  # also catches NaN
                text = f"one is not finite or not below {limit:g} in magnitude"
                raise WireError("values", text)

    def add(self, values: NDArray[np.float32], weight: int) -> None:
        """Add a vector; see `check` for errors. Nothing changes when it raises."""
        self.check(values, weight)
        for place, _, scale in self._parts:
            scaled = np.rint(values[place].astype(np.float64) * scale).astype(np.int64)
            scaled *= weight
            self._sum[place] += scaled
        self.weight += weight

    def mean(self) -> NDArray[np.float32]:
        """Return the mean as float32. ValueError if nothing was added."""
        if not self.weight:
            raise ValueError("the mean of no vectors is not defined")
        return (self._sums() / self.weight).astype(np.float32)

    def mean_by(
        self, weights: NDArray[np.int64], otherwise: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the sum divided by a weight an entry; where that is 0, `otherwise`."""
        mean = self._sums() / np.maximum(weights, 1)
        return np.where(weights > 0, mean, otherwise).astype(np.float32)

    def _sums(self) -> NDArray[np.float64]:
        """Return Σ wₖ·xₖ; scales are powers of two, so that dividing by them rounds nothing."""
        sums = self._sum.astype(np.float64)
        for place, _, scale in self._parts:
            sums[place] /= scale
        return sums


class OverlapMean:
    """For each entry the weighted mean of those vectors that have it; in fixed point, as above.

    Parameters
    ----------
    length, max_weight, buffers
        As in `FixedPointMean`.
    """

    def __init__(self, length: int, max_weight: int, buffers: int = 0) -> None:
        self._dense = FixedPointMean(length, max_weight, buffers=buffers)
        self._weights = np.zeros(length, np.int64)

    def add(self, values: NDArray[np.float32], has: NDArray[np.bool_], weight: int) -> None:
        """Add a vector float32[length] where bool[length] `has` is set; errors as above."""
        self._dense.add(np.where(has, values, np.float32(0)), weight)
        self._weights[has] += weight

    def mean(self, otherwise: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the means; entries that no vector had are taken from `otherwise`."""
        return self._dense.mean_by(self._weights, otherwise)
