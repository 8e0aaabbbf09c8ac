"""Static distributions over bytes, as integer frequencies that are equal on every machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

PRECISION = 15
"""The frequencies of a distribution add up to 2 to this power."""


@dataclass(frozen=True)
class Tables:
    """Static distributions over bytes.

    Attributes
    ----------
    frequencies
        int64[contexts, alphabet], each row adding up to 2 ** `PRECISION`; an impossible symbol
        has 0.
    starts
        Sum of the frequencies of all lower symbols, same shape.
    """

    frequencies: Ints
    starts: Ints

    @classmethod
    def from_weights(cls, weights: NDArray[np.float64]) -> Tables:
        """Round non-negative weights[contexts, alphabet] to frequencies.

        A weight above 0 gets a frequency above 0. The result is the same on every machine:
        nothing but sums, products and quotients of doubles in a fixed order.
        """
        total = np.zeros(weights.shape[0])
        for column in range(weights.shape[1]):
            total = total + weights[:, column]
        whole = 1 << PRECISION
        share = np.floor(weights / total[:, None] * whole + 0.5).astype(np.int64)
        share = np.maximum(share, weights > 0)
        excess = share.sum(axis=1) - whole
        rows = np.arange(len(share))
        share[rows, share.argmax(axis=1)] -= excess
        return cls.from_frequencies(share)

    @classmethod
    def from_frequencies(cls, frequencies: Ints) -> Tables:
        """Take frequencies as they are."""
        return cls(frequencies, np.cumsum(frequencies, axis=1) - frequencies)

    def slots(self) -> NDArray[np.uint8]:
        """Return, for every context and every number below 2 ** `PRECISION`, its symbol."""
        contexts, alphabet = self.frequencies.shape
        symbols = np.tile(np.arange(alphabet, dtype=np.uint8), contexts)
        return np.repeat(symbols, self.frequencies.ravel())

    def packed(self) -> Ints:
        """Return start · 2^16 + frequency of every symbol, contexts one after another."""
        return (self.starts << 16 | self.frequencies).ravel()
