"""Federated averaging, and the server prunes the average by magnitude.

Source: the federated baseline of Gez & Cohen (arXiv 2312.03889); magnitude pruning of Han et al.
2015, arXiv 1506.02626. Faithful: weights travel from the first round, dense until pruned; the
smallest go, the survivors train on without rewinding. Differs: the path is the experiment's
schedule and ranking; with ``one_shot`` the average stays dense for ``prune.rounds`` rounds and is
pruned once, as in the baseline; with the others it is pruned after each of these rounds.
``coverage``, which needs other scores than |w|, is taken as ``layer``.
"""

from __future__ import annotations

from typing import Any

from mpfl.ballot import target_density
from mpfl.ranking.rankings import rank
from mpfl.registry import parse_spec
from server.methods.averaging import WEIGHTS, WeightMethod
from server.methods.base import Floats


class FedAvgPrune(WeightMethod):
    """Broadcast, average, prune."""

    reads = (
        "train.*",
        *("prune.density", "prune.granularity", "prune.schedule", "prune.rounds"),
        *("prune.ranking", "prune.min_units", "prune.rescale"),
        *("wire.mask_codec", "wire.mask_classes"),
        *WEIGHTS,
    )

    def finish_round(self, enough: bool) -> dict[str, Any]:
        """Average, and prune if this round is to."""
        self.state.step += 1
        if enough:
            model = self.average()
            self._prune(model)
            self.publish(model)
        return {}

    def _prune(self, model: Floats) -> None:
        world, config = self._world, self._world.experiment.prune
        if parse_spec(config.schedule)[0] == "one_shot" and self._round < config.rounds:
            return
        density = target_density(world, self._round)
        values = model[: world.structure.parameters.total]
        mask = rank(
            world.structure.unit_values(values),
            world.layout,
            density,
            self.mask(),
            "layer" if config.by_coverage else config.ranking,
            config.min_units,
            widths=world.widths,
        )
        if mask != self.mask():
            self.change_mask(mask)
