"""A weighted mean of vectors in fixed point: exact integer sums, so that no order matters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LIMIT = 2.0**8  # largest magnitude of a value


class FixedPointMean:
    """Streaming Σ wₖ·xₖ / Σ wₖ with memory independent of the number of vectors.

    Every value is rounded to a multiple of 2^-shift and summed as int64. Integer sums are
    associative: the result is the same bits whatever the order of arrival.

    Parameters
    ----------
    length
        Length of the vectors.
    max_weight
        Upper bound of the sum of weights (e.g. all training samples); decides the resolution,
        2^-(54 - ⌈log2 max_weight⌉), finer than float32 for values above 10^-4.
    """

    def __init__(self, length: int, max_weight: int) -> None:
        self._sum = np.zeros(length, np.int64)
        self._max_weight = max_weight
        self._scale = 2.0 ** (62 - 8 - max(max_weight - 1, 1).bit_length())
        self.weight = 0

    def check(self, values: NDArray[np.float32], weight: int) -> None:
        """Raise ValueError for a wrong shape, a non-finite or huge value, or a bad weight."""
        if values.shape != self._sum.shape:
            raise ValueError(f"expected {self._sum.size} values, got shape {values.shape}")
        if weight < 1 or self.weight + weight > self._max_weight:
            raise ValueError(f"weight {weight} does not fit a total of {self._max_weight}")
        if values.size and not float(np.abs(values).max()) < _LIMIT:  # also catches NaN
            raise ValueError(f"a value is not finite or not below {_LIMIT:g} in magnitude")

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
