"""What masks drawn at random have told of θ: a Beta posterior, and the prior of the next draws.

Isik et al. 2022, arXiv 2209.15328 (FedPM): θ is the posterior's mode. Where masks travel as numbers
of draws (`mpfl.wire.values.draws`), θ before a round is the prior of its draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfl.seeding import numpy_rng
from mpfl.training.stochastic_mask import EDGE

_ONE = 1 << 16


@dataclass
class BetaPosterior:
    """How often each weight was kept since the prior was last reset.

    Attributes
    ----------
    kept
        uint32[d], α − λ₀.
    ballots
        Ballots behind it, α + β − 2λ₀.
    updates
        Rounds that counted so far, those before the last reset too.
    """

    kept: NDArray[np.uint32]
    ballots: int = 0
    updates: int = 0

    @classmethod
    def flat(cls, units: int) -> BetaPosterior:
        """Return that of no ballots."""
        return cls(np.zeros(units, np.uint32))

    def after(self, kept: NDArray[np.uint32], ballots: int, reset: int) -> BetaPosterior:
        """Return it after a round's tally; every `reset` rounds all before is forgotten."""
        if self.updates % reset:
            kept, ballots = self.kept + kept, self.ballots + ballots
        return BetaPosterior(kept, ballots, self.updates + 1)

    def levels(self) -> tuple[NDArray[np.uint8], int]:
        """Return θ, the mode (α − 1) / (α + β − 2) at λ₀ = 1, as levels and their top.

        Without ballots it is a half.
        """
        if not self.ballots:
            return np.ones(self.kept.size, np.uint8), 2
        if self.ballots <= 255:
            return self.kept.astype(np.uint8), self.ballots
        return np.rint(self.kept * (255.0 / self.ballots)).astype(np.uint8), 255


def prior_of(levels: NDArray[np.uint8], top: int) -> NDArray[np.uint16]:
    """Return the shares levels / top as chances, none further out than where scores start.

    Examples
    --------
    >>> prior_of(np.array([0, 1, 2], np.uint8), 2).tolist()
    [1311, 32768, 64225]
    """
    edge = round(EDGE * _ONE)
    shares = (levels.astype(np.int64) * (2 * _ONE) + top) // (2 * top)
    return np.clip(shares, edge, _ONE - edge).astype(np.uint16)


def shared_draws(seed: int, round_number: int, client: int) -> np.random.Generator:
    """Return the stream that a client's candidates of a round are drawn from, known to all."""
    return numpy_rng(seed, "draws", round_number, client)
