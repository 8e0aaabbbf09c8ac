"""FedPM whose masks travel as numbers of draws, server half.

Source: Isik et al. 2023, "Adaptive compression in federated learning via side information" (KLMS),
arXiv 2306.12625, over FedPM (`server.methods.fedpm`). Faithful: the common θ is the prior; block by
block both ends draw 2ᵇ masks from it, and the client sends the number of one that is drawn with
probability ∝ posterior / prior; blocks have at most 256 weights and follow the divergence.
Differs: both ends really draw, from one seeded stream, and what travels is counted (the released
code draws unseeded and works its rate out); blocks are cut in halves, and every reply says where,
at about a bit a block, so that nobody has to remember any; no prior is beyond 0.02 and 0.98, where
scores start as well.
"""

from __future__ import annotations

from mpfl.errors import keyed
from mpfl.mask import Mask
from mpfl.training.posterior import prior_of, shared_draws
from mpfl.wire.values.draws import DrawCodec
from mpfl.world import World
from server.methods.base import Receipt
from server.methods.fedpm import FedPm


class Klms(FedPm):
    """FedPM whose clients send numbers of masks that both ends draw."""

    reads = (
        *("train.epochs", "train.batch_size", "train.loss", "train.lr_decay", "train.device"),
        *("comparator.fedpm_*", "prune.granularity"),
    )

    def __init__(self, world: World) -> None:
        with keyed("method"):
            self._codec: DrawCodec = world.options
        super().__init__(world)

    def read(self, client: int, payload: bytes) -> tuple[Receipt, Mask]:
        """Draw a client's mask anew."""
        layout, prior = self._world.layout, prior_of(self._levels, self._top)
        shared = shared_draws(self._world.experiment.seed, self._round, client)
        drawn = self._codec.decode(payload, prior, layout, shared)
        formula, bound = self._codec.cost_bits(payload, layout.units)
        return Receipt(formula / 8, bound / 8), drawn
