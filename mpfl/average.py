"""A weighted mean of vectors in fixed point: exact integer sums, so that no order matters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
    """

    def __init__(self, length: int, max_weight: int, limit_log2: int = 8) -> None:
        self._sum = np.zeros(length, np.int64)
        self._max_weight = max_weight
        self._limit = 2.0**limit_log2
        self._scale = 2.0 ** (62 - limit_log2 - max(max_weight - 1, 1).bit_length())
        self.weight = 0

    def check(self, values: NDArray[np.float32], weight: int) -> None:
        """Raise ValueError for a wrong shape, a non-finite or huge value, or a bad weight."""
        if values.shape != self._sum.shape:
            raise ValueError(f"expected {self._sum.size} values, got shape {values.shape}")
        if weight < 1 or self.weight + weight > self._max_weight:
            raise ValueError(f"weight {weight} does not fit a total of {self._max_weight}")
        if values.size and not float(np.abs(values).max()) < self._limit:  # also catches NaN
            raise ValueError(f"a value is not finite or not below {self._limit:g} in magnitude")

    def add(self, values: NDArray[np.float32], weight: int) -> None:
        """Add a vector; see `check` for errors. Nothing changes when it raises."""
        self.check(values, weight)
        scaled = np.rint(values.astype(np.float64) * self._scale).astype(np.int64)
        scaled *= weight
        self._sum += scaled
        self.weight += weight

    def mean(self) -> NDArray[np.float32]:
        """Return the mean as float32. ValueError if nothing was added."""
        if not self.weight:
            raise ValueError("the mean of no vectors is not defined")
        return (self._sum / (self.weight * self._scale)).astype(np.float32)

    def mean_by(
        self, weights: NDArray[np.int64], otherwise: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the sum divided by a weight an entry; where that is 0, `otherwise`."""
        mean = self._sum / (np.maximum(weights, 1) * self._scale)
        return np.where(weights > 0, mean, otherwise).astype(np.float32)


class OverlapMean:
    """For each entry the weighted mean of those vectors that have it; in fixed point, as above.

    Parameters
    ----------
    length, max_weight
        As in `FixedPointMean`.
    """

    def __init__(self, length: int, max_weight: int) -> None:
        self._dense = FixedPointMean(length, max_weight)
        self._weights = np.zeros(length, np.int64)

    def add(self, values: NDArray[np.float32], has: NDArray[np.bool_], weight: int) -> None:
        """Add a vector float32[length] where bool[length] `has` is set; errors as above."""
        self._dense.add(np.where(has, values, np.float32(0)), weight)
        self._weights[has] += weight

    def mean(self, otherwise: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the means; entries that no vector had are taken from `otherwise`."""
        return self._dense.mean_by(self._weights, otherwise)
