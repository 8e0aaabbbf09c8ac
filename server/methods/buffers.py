"""The mean of normalisation buffers, for methods whose weights do not travel as values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfl.average import FixedPointMean
from mpfl.wire.errors import WireError
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.sections import split_floats
from mpfl.world import World
from server.methods.averaging import claimed_samples


class BufferRounds:
    """Checks replies and averages their running statistics, weighted by samples, in float32.

    They stand alone in the VALUES section of a reply and at its front in a request; networks
    without such buffers send nothing.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.count = world.travelling_buffers
        self._samples = sum(len(part) for part in world.parts)
        self.latest: NDArray[np.float32] = world.b0
        self._mean = FixedPointMean(self.count, self._samples, buffers=self.count)

    def begin_round(self) -> None:
        """Start an empty mean."""
        self._mean = FixedPointMean(self.count, self._samples, buffers=self.count)

    def prefix(self) -> bytes:
        """Return the newest buffers as the front of a request's values."""
        return self.latest[: self.count].astype("<f4").tobytes()

    def check(self, client: int, reply: Frame) -> tuple[NDArray[np.float32], int]:
        """Return a reply's buffers and its number of samples.

        Raises
        ------
        WireError
            If kind, samples or buffers cannot be right; nothing has changed then.
        """
        if reply.kind is not Kind.UPDATE:
            raise WireError("kind", f"expected UPDATE, got {reply.kind.name}")
        samples = claimed_samples(self._world, client, reply)
        values, rest = split_floats(reply.sections.get(Section.VALUES, b""), self.count)
        if rest:
            raise WireError("values", f"{len(rest)} bytes too many")
        self._mean.check(values, samples)
        return values, samples

    def add(self, values: NDArray[np.float32], samples: int) -> None:
        """Add what `check` returned."""
        self._mean.add(values, samples)

    def finish_round(self) -> None:
        """Make the mean the newest buffers."""
        if self.count:
            self.latest = self._mean.mean()

    def state(self) -> dict[str, Any]:
        """Return everything `restore` needs."""
        return {"latest": self.latest}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        self.latest = state["latest"]
