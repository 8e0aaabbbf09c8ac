"""MPFL, server half (Gez & Cohen, "Masked Pruning over FL", arXiv 2312.03889).

Phase 1 lets masks vote, phase 2 averages the surviving weights. Faithful: the two phases,
ballots as bits, rewinding to w0, one global mask. Differs: the result is the federated sparse
model; the authors' code retrains a pretrained network centrally under the mask instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mpfl.ballot import target_density
from mpfl.exchange import Codecs, Metrics, mask_context
from mpfl.mask import Mask
from mpfl.vote import Tally, VoteContext, decide, needs_ballots, trim, vote_statistics
from mpfl.wire.errors import WireError
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.masks import decode_mask, mask_bound_bits
from mpfl.world import World
from server.methods.averaging import WeightRounds
from server.methods.base import Floats, Receipt, Request, ServerMethod
from server.sync import MaskLog


class Consensus:
    """Phase 1: requests ballots, tallies them, decides the next mask."""

    def __init__(self, world: World, masks: MaskLog) -> None:
        self._world, self._masks = world, masks
        self._config = world.experiment.prune
        self._tally = Tally(world.layout)
        self._kept: list[tuple[int, Mask, int]] = []
        self._round = 0

    def begin_round(self, round_number: int) -> None:
        """Start an empty tally."""
        self._round = round_number
        self._tally = Tally(self._world.layout)
        self._kept = []

    def request(self, client: int) -> Request:
        """Return a request for a ballot; it carries the newest mask and no weights."""
        sync, payload, bound = self._masks.offer(client)
        sections = {Section.CONFIG: sync.pack()}
        if payload:
            sections[Section.MASK] = payload
        formula = self._world.layout.total / 8 * bool(payload)
        return Request(Frame(Kind.MASK_REQUEST, self._round, sections), formula, bound)

    def accept(self, client: int, reply: Frame) -> Receipt:
        """Add one ballot to the tally and forget it (unless the rule must compare ballots)."""
        if reply.kind is not Kind.BALLOT:
            raise WireError("kind", f"expected BALLOT, got {reply.kind.name}")
        metrics = Metrics.unpack(reply.sections.get(Section.METRICS, b""))
        expected = len(self._world.parts[client])
        if metrics.samples != expected:
            raise WireError("metrics", f"client claims {metrics.samples} samples, has {expected}")
        current = self._masks.current
        within, classes = mask_context(self._world.classes, current, subset=not self._config.regrow)
        payload = reply.sections.get(Section.MASK, b"")
        ballot = decode_mask(payload, self._world.layout, within=within, classes=classes)
        weight = metrics.samples if self._config.weighted else 1
        if needs_ballots(self._config.vote):
            self._kept.append((client, ballot, weight))
        else:
            self._tally.add(ballot, weight)
        self._masks.confirm(client, self._masks.version)
        bound = mask_bound_bits(ballot, within=within, classes=classes) / 8
        return Receipt(self._world.layout.total / 8, bound, ballot)

    def finish_round(self, enough: bool) -> dict[str, Any]:
        """Let the ballots decide the next mask."""
        if not enough:
            return {}
        self._tally_kept()
        context = VoteContext(
            layout=self._world.layout,
            density=target_density(self._world, self._round),
            previous=self._masks.current,
            tie_break=self._world.tie_break,
            tie=self._config.tie,
            min_units=self._config.min_units,
        )
        counts, total = self._tally.counts(), self._tally.weight
        before = self._masks.current
        self._masks.advance(decide(self._config.vote, counts, total, context))
        statistics = vote_statistics(counts, total, context)
        return {"vote": statistics, "moved": 1 - before.jaccard(self._masks.current)}

    def _tally_kept(self) -> None:
        """Tally ballots that had to wait for each other, in client order."""
        if not self._kept:
            return
        self._kept.sort(key=lambda item: item[0])
        chosen = trim([ballot for _, ballot, _ in self._kept], self._config.vote)
        for i in chosen:
            self._tally.add(self._kept[i][1], self._kept[i][2])
        self._kept = []


class Mpfl(ServerMethod):
    """Mask consensus, then weight averaging under the mask."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._masks = MaskLog(world.layout, world.classes, world.experiment.wire.mask_codec)
        self._consensus = Consensus(world, self._masks)
        codecs = Codecs.of(world.experiment.wire)
        self._weights = WeightRounds(world, self._masks, codecs)
        self._voting = True
        self._round = 0

    @property
    def phase(self) -> str:
        """``mask`` in phase 1, ``train`` in phase 2."""
        return "mask" if self._voting else "train"

    def begin_round(self, round_number: int, clients: Sequence[int]) -> None:
        """Start an empty tally or an empty mean."""
        self._round = round_number
        if self._voting:
            self._consensus.begin_round(round_number)
        else:
            self._weights.begin_round()

    def request(self, client: int) -> Request:
        """Ask for a ballot or for weights."""
        if self._voting:
            return self._consensus.request(client)
        return self._weights.request(self._round, client)

    def accept(self, client: int, reply: Frame) -> Receipt:
        """Take in a ballot or weights."""
        if self._voting:
            return self._consensus.accept(client, reply)
        return self._weights.accept(client, reply)

    def finish_round(self, enough: bool) -> dict[str, Any]:
        """Decide the mask, or publish the mean; move on to phase 2 when it is time."""
        if not self._voting:
            return self._weights.finish_round(enough)
        config = self._world.experiment.prune
        columns = self._consensus.finish_round(enough)
        converged = bool(columns) and columns["moved"] < config.converged
        if self._round >= config.rounds or converged:
            self._voting = False
        self._weights.refit(self._masks.current)
        return columns

    def model(self) -> Floats:
        """Return the sparse model: w0 under the mask until phase 2 has averaged."""
        return self._weights.latest

    def mask(self) -> Mask:
        """Return C_t."""
        return self._masks.current

    def forget(self, client: int) -> None:
        """Serve this client from the full mask and w0 again."""
        self._masks.forget(client)
        self._weights.broadcaster.forget(client)

    def state(self) -> dict[str, Any]:
        """Return everything `restore` needs."""
        return {
            "masks": self._masks.state(),
            "weights": self._weights.state(),
            "voting": np.array([self._voting], np.uint8),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        self._masks.restore(state["masks"])
        self._weights.restore(state["weights"])
        self._voting = bool(state["voting"][0])
