"""The mean of normalisation buffers, for methods whose weights do not travel as values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpfl.average import FixedPointMean
from mpfl.wire.errors import WireError
from mpfl.wire.floats import float32_bytes
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.sections import split_floats
from mpfl.world import World
from server.methods.base import claimed_samples


class BufferRound:
    """Checks a round's replies and averages their running statistics, weighted by samples.

    As float32 they stand alone in the VALUES section of a reply and at its front in a request;
    networks without such buffers send nothing.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.count = world.travelling_buffers
        self._mean = FixedPointMean(self.count, world.round_samples, buffers=self.count)

    def prefix(self, buffers: NDArray[np.float32]) -> bytes:
        """Return the newest buffers as the front of a request's values."""
        return float32_bytes(buffers[self._world.exchanged])

    def check(self, client: int, reply: Frame) -> tuple[NDArray[np.float32], int]:
        """Return a reply's buffers and its number of samples.

        Raises
        ------
        WireError
            If kind, samples or buffers cannot be right; nothing has changed then.
        """
        reads = {Section.MASK, Section.VALUES} if self.count else {Section.MASK}
        samples = claimed_samples(self._world, client, reply, Kind.UPDATE, reads)
        values, rest = split_floats(reply.sections.get(Section.VALUES, b""), self.count)
        if rest:
            raise WireError("values", f"{len(rest)} bytes too many")
        self._mean.check(values, samples)
        return values, samples

    def add(self, values: NDArray[np.float32], samples: int) -> None:
        """Add what `check` returned."""
        self._mean.add(values, samples)

    def mean(self, before: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mean; buffers that do not travel are those from before the round."""
        if not self.count:
            return before
        after = before.copy()
        after[self._world.exchanged] = self._mean.mean()
        return after
