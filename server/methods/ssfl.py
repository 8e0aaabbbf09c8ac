"""One exchange of saliencies, then training under a fixed mask, server half.

Source: Ohib et al. 2024, "SSFL: Discovering sparse unified subnetworks at initialization for
efficient federated learning", arXiv 2405.09037. Faithful: saliency |g · w| at w0, sent once as
float32 and averaged by samples; the best of all layers together survive; then FedAvg of the
survivors. Differs: the saliency is the mean over batches of at most ``prune.score_samples``
samples; only the clients sampled in the first round have a say; equal saliencies (dead inputs)
go by |w0|; every layer keeps ``prune.min_units``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mpfl.mask import Mask
from mpfl.ranking.selection import best_overall, units_to_keep
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.values import decode_values
from mpfl.world import World
from server.methods.averaging import WEIGHTS, WeightMethod
from server.methods.base import Receipt, Request, claimed_samples


class Ssfl(WeightMethod):
    """Round 1 scores, the others average under the mask."""

    reads = (
        "train.*",
        *("prune.density", "prune.granularity", "prune.min_units", "prune.score_samples"),
        "prune.rescale",
        *("wire.mask_codec", "wire.mask_classes"),
        *WEIGHTS,
    )

    def __init__(self, world: World) -> None:
        super().__init__(world, "score")
        self._scores = self.unit_mean()

    def begin_round(self, round_number: int, clients: Sequence[int]) -> None:
        """Start empty means, of scores and of weights."""
        super().begin_round(round_number, clients)
        self._scores = self.unit_mean()

    def request(self, client: int) -> Request:
        """Ask for scores at w0, which needs no values, or for training."""
        if self.phase == "score":
            return Request(Frame(Kind.SCORE_REQUEST, self._round, {}))
        return super().request(client)

    def accept(self, client: int, reply: Frame) -> Receipt:
        """Add scores or weights to the mean."""
        if self.phase == "train":
            return super().accept(client, reply)
        samples = claimed_samples(self._world, client, reply, Kind.SCORES, {Section.SCORES})
        payload = reply.sections.get(Section.SCORES, b"")
        self._scores.add(decode_values(payload, "float32", self._world.layout.units), samples)
        return Receipt(4.0 * self._world.layout.total, len(payload))

    def finish_round(self, enough: bool) -> dict[str, Any]:
        """Fix the mask, or publish the mean."""
        if self.phase == "train":
            return super().finish_round(enough)
        if enough:
            layout, config = self._world.layout, self._world.experiment.prune
            keep = best_overall(
                [self._scores.mean(), self._world.tie_break],
                layout,
                np.ones(layout.total, np.bool_),
                units_to_keep(config.density, layout.total),
                config.min_units,
            )
            self.change_mask(Mask.from_bools(layout, keep))
            self.state.phase = "train"
        return {}
