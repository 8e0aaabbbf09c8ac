"""PruneFL, server half.

Source: Jiang et al. 2019/2022, "Model pruning enables efficient federated learning on edge
devices", arXiv 1909.12326. Faithful: one client prunes at first, alone, and sends mask and
weights; later the mask changes every few rounds: the largest weights stay, and for the others Σ g²,
summed over clients at the server, decides who comes and goes; regrown weights start from zero.
Differs: the size is that of the experiment's schedule and density (the paper lets it follow from
measured times a weight); Σ g² is that of an epoch over at most ``prune.score_samples`` samples at
the trained weights, not accumulated on the way; the share in question decays along a cosine from
``prune.regrow_fraction``; masks change every ``comparator.prunefl_every`` rounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mpfl.average import FixedPointMean
from mpfl.codecs import FLOAT32
from mpfl.errors import InputError
from mpfl.mask import Mask
from mpfl.regrow import exchange_share, reconfigure
from mpfl.seeding import numpy_rng
from mpfl.wire.errors import WireError
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.masks import decode_mask, mask_bound_bits
from mpfl.wire.sections import Sync
from mpfl.wire.values import decode_values
from mpfl.world import World
from server.methods.averaging import WeightMethod, claimed_samples
from server.methods.base import Floats, Receipt, Request

SQUARE_LIMIT_LOG2 = 2


class PruneFl(WeightMethod):
    """One client prunes, then all train, and now and then the mask changes.

    Raises
    ------
    InputError
        At granularity ``filter``: a removed filter gets no gradient, so it could never return.
    """

    def __init__(self, world: World) -> None:
        if world.experiment.prune.granularity == "filter":
            raise InputError(
                "prune.granularity: got 'filter', but prunefl regrows by gradient and a removed "
                "filter has none; use 'weight' or 'kernel'"
            )
        super().__init__(world, FLOAT32)
        self._first: tuple[Mask, Floats] | None = None
        self._squares = self._empty()
        self._started = False

    def _empty(self) -> FixedPointMean:
        samples = sum(len(part) for part in self._world.parts)
        return FixedPointMean(self._world.layout.total, samples, SQUARE_LIMIT_LOG2)

    @property
    def phase(self) -> str:
        """``mask`` until one client has pruned, then ``train``."""
        return "train" if self._started else "mask"

    @property
    def _share(self) -> float:
        config, step = self._world.experiment, self._weights.step
        if not self._started or step == 0 or step % config.comparator.prunefl_every:
            return 0.0
        return exchange_share(config.prune.regrow_fraction, step, config.federation.rounds - 1)

    def choose(self, round_number: int, clients: Sequence[int]) -> list[int]:
        """Return one client while there is no mask, drawn from the seed; then all."""
        if self._started:
            return list(clients)
        rng = numpy_rng(self._world.experiment.seed, "prunefl", round_number)
        return [int(rng.choice(list(clients)))]

    def begin_round(self, round_number: int, clients: Sequence[int]) -> None:
        """Start empty means."""
        self._round, self._first = round_number, None
        self._weights.begin_round()
        self._squares = self._empty()

    def request(self, client: int) -> Request:
        """Ask for a first mask, for weights, or for weights and squared gradients."""
        if not self._started:
            sections = {Section.CONFIG: Sync().pack()}
            return Request(Frame(Kind.MASK_REQUEST, self._round, sections))
        kind = Kind.SCORE_REQUEST if self._share else Kind.TRAIN_REQUEST
        return self._weights.request(self._round, client, kind)

    def accept(self, client: int, reply: Frame) -> Receipt:
        """Take in what was asked for."""
        if not self._started:
            return self._accept_first(client, reply)
        if not self._share:
            return self._weights.accept(client, reply)
        samples = claimed_samples(self._world, client, reply)
        payload = reply.sections.get(Section.SCORES, b"")
        squares = decode_values(payload, "float32", self._world.layout.units)
        self._squares.check(squares, samples)
        receipt = self._weights.accept(client, reply, Kind.SCORES)
        self._squares.add(squares, samples)
        size = 4.0 * self._world.layout.total
        formula, bound = receipt.formula_bytes + size, receipt.bound_bytes + size
        return replace(receipt, formula_bytes=formula, bound_bytes=bound)

    def _accept_first(self, client: int, reply: Frame) -> Receipt:
        if reply.kind is not Kind.BALLOT:
            raise WireError("kind", f"expected BALLOT, got {reply.kind.name}")
        claimed_samples(self._world, client, reply)
        world = self._world
        payload = reply.sections.get(Section.MASK, b"")
        mask = decode_mask(payload, world.layout, classes=world.classes)
        footprint = world.footprint(mask)
        raw = reply.sections.get(Section.VALUES, b"")
        model = np.zeros_like(self._weights.initial)
        model[footprint.keep] = decode_values(raw, "float32", footprint.segments)
        self._first = mask, model
        bound = mask_bound_bits(mask, classes=world.classes) / 8 + len(raw)
        return Receipt(world.layout.total / 8 + 4.0 * footprint.count, bound, mask)

    def finish_round(self, enough: bool) -> dict[str, Any]:
        """Take over the first mask, or publish the mean under the old mask or a new one."""
        if not self._started:
            if self._first:
                self._change(*self._first)
                self._started = True
            return {}
        share = self._share
        if not (enough and share):
            return self._weights.finish_round(enough)
        model, before = self._weights.average(), self._masks.current
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
        self._weights.step += 1
        self._change(mask, model)
        return {"moved": 1 - before.jaccard(mask)}

    def _change(self, mask: Mask, model: Floats) -> None:
        self._masks.advance(mask)
        self._weights.refit(mask)
        self._weights.publish(model)

    def state(self) -> dict[str, Any]:
        """Return everything `restore` needs."""
        return {**super().state(), "started": np.array([self._started], np.uint8)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        super().restore(state)
        self._started = bool(state["started"][0])
