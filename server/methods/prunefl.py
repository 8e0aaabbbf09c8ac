"""PruneFL, server half.

Source: Jiang et al. 2019/2022, "Model pruning enables efficient federated learning on edge
devices", arXiv 1909.12326. Faithful: one client prunes at first, alone, and sends mask and
weights; later the mask changes every few rounds: the largest weights stay, and for the others Σ g²,
the clients' mean by samples, decides who comes and goes; regrown weights start from zero.
Differs: the size is that of the experiment's schedule and density (the paper lets it follow from
measured times a weight); Σ g² is that of an epoch over at most ``prune.score_samples`` samples at
the trained weights, not accumulated on the way, and cut at 3.99 for each client and weight; the
share in question decays along a cosine from ``prune.regrow_fraction``; masks change every
``comparator.prunefl_every`` rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mpfl.average import FixedPointMean
from mpfl.errors import InputError
from mpfl.mask import Mask
from mpfl.ranking.selection import units_to_keep
from mpfl.regrow import exchange_share, reconfigure
from mpfl.seeding import numpy_rng
from mpfl.wire.errors import WireError
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.masks import decode_mask, mask_bound_bits
from mpfl.wire.values import decode_values
from mpfl.world import World
from server.methods.averaging import WEIGHTS, WeightMethod
from server.methods.base import Floats, Receipt, claimed_samples


class PruneFl(WeightMethod):
    """One client prunes, then all train, and now and then the mask changes.

    Raises
    ------
    InputError
        At granularity ``filter``: a removed filter gets no gradient, so it could never return.
    """

    reads = (
        "train.*",
        *("prune.density", "prune.granularity", "prune.schedule", "prune.rounds", "prune.epochs"),
        *("prune.regrow_fraction", "prune.score_samples", "prune.min_units", "prune.rescale"),
        "comparator.prunefl_every",
        *("wire.mask_codec", "wire.mask_classes"),
        *WEIGHTS,
    )

    def __init__(self, world: World) -> None:
        if world.experiment.prune.granularity == "filter":
            raise InputError(
                "prune.granularity: got 'filter', but prunefl regrows by gradient and a removed "
                "filter has none; use 'weight' or 'kernel'"
            )
        super().__init__(world, "mask")
        self._first: tuple[Mask, Floats] | None = None
        self._squares = self.unit_mean()

    @property
    def asks(self) -> Kind:
        """A first mask, weights, or weights and squared gradients."""
        if self.phase == "mask":
            return Kind.MASK_REQUEST
        return Kind.SCORE_REQUEST if self._share else Kind.TRAIN_REQUEST

    @property
    def sections(self) -> set[Section]:
        """Values, and a first mask or squared gradients beside them."""
        beside = {Kind.MASK_REQUEST: {Section.MASK}, Kind.SCORE_REQUEST: {Section.SCORES}}
        return {Section.VALUES, *beside.get(self.asks, ())}

    @property
    def _share(self) -> float:
        config, step = self._world.experiment, self.state.step
        if self.phase == "mask" or step == 0 or step % config.comparator.prunefl_every:
            return 0.0
        return exchange_share(config.prune.regrow_fraction, step, config.federation.rounds - 1)

    def choose(self, round_number: int, clients: Sequence[int]) -> list[int]:
        """Return one client while there is no mask, drawn from the seed; then all."""
        if self.phase == "train":
            return list(clients)
        rng = numpy_rng(self._world.experiment.seed, "prunefl", round_number)
        return [int(rng.choice(list(clients)))]

    def begin_round(self, round_number: int, clients: Sequence[int]) -> None:
        """Start empty means."""
        super().begin_round(round_number, clients)
        self._first = None
        self._squares = self.unit_mean()

    def accept(self, client: int, reply: Frame) -> Receipt:
        """Take in what was asked for."""
        if self.phase == "mask":
            return self._accept_first(client, reply)
        if not self._share:
            return super().accept(client, reply)
        samples = claimed_samples(self._world, client, reply, Kind.SCORES, self.sections)
        payload = reply.sections.get(Section.SCORES, b"")
        squares = decode_values(payload, "float32", self._world.layout.units)
        self._squares.check(squares, samples)
        receipt = super().accept(client, reply)
        self._squares.add(squares, samples)
        size = 4.0 * self._world.layout.total
        formula, bound = receipt.formula_bytes + size, receipt.bound_bytes + size
        return replace(receipt, formula_bytes=formula, bound_bytes=bound)

    def _accept_first(self, client: int, reply: Frame) -> Receipt:
        samples = claimed_samples(self._world, client, reply, Kind.BALLOT, self.sections)
        world, config = self._world, self._world.experiment.prune
        payload = reply.sections.get(Section.MASK, b"")
        mask = decode_mask(payload, world.layout, classes=world.classes)
        least = [min(config.min_units, units) for units in world.layout.units]
        count = max(units_to_keep(config.density, world.layout.total), sum(least))
        if mask.count() != count or any(np.less(mask.counts(), least)):
            raise WireError("mask", f"keeps {mask.count()} units, expected {count} in all layers")
        footprint = world.footprint(mask)
        raw = reply.sections.get(Section.VALUES, b"")
        channel, start = world.channel("up", footprint), world.start(mask)[footprint.keep]
        values = channel.arrived(raw, start)
        FixedPointMean(footprint.count, samples, buffers=footprint.buffers).check(values, samples)
        model = np.zeros_like(world.initial)
        model[footprint.keep] = values
        self._first = mask, model
        bound = mask_bound_bits(mask, classes=world.classes) / 8
        bound += channel.bound(raw, start)
        return Receipt(world.layout.total / 8 + channel.formula_bytes, bound, mask)

    def finish_round(self, enough: bool) -> dict[str, Any]:
        """Take over the first mask, or publish the mean under the old mask or a new one."""
        if self.phase == "mask":
            if self._first:
                mask, model = self._first
                self.change_mask(mask)
                self.publish(model)
                self.state.phase = "train"
            return {}
        share = self._share
        if not (enough and share):
            return super().finish_round(enough)
        model, before = self.average(), self.mask()
        values = model[: self._world.structure.parameters.total]
        mask = reconfigure(
            before,
            np.concatenate(self._world.structure.unit_values(values)),
            self._squares.mean(),
            self._world.tie_break,
            before.count(),
            share,
            self._world.experiment.prune.min_units,
        )
        self.state.step += 1
        self.change_mask(mask)
        self.publish(model)
        return {"moved": 1 - before.jaccard(mask)}
