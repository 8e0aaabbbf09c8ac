"""MPFL, server half (Gez & Cohen, "Masked Pruning over FL", arXiv 2312.03889).

Phase 1 lets masks vote, phase 2 averages the surviving weights. Faithful: the two phases,
ballots as bits, rewinding to w0, one global mask. Differs: the result is the federated sparse
model; the authors' code retrains a pretrained network centrally under the mask instead.

Beyond the paper: with ``recovery = "finetune"`` a reply of phase 1 holds the ballot and the
trained values of everything the mask so far keeps; the next round starts from their mean under
the new mask. With ``regrow`` some rounds of phase 2 do the same, and there ballots may vote for
units outside the mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfl.ballot import vote_density
from mpfl.codecs import Codecs
from mpfl.errors import InputError
from mpfl.mask import Mask
from mpfl.regrow import regrowth
from mpfl.seeding import numpy_rng
from mpfl.vote import Tally, VoteContext, decide, needs_ballots, trim, vote_statistics
from mpfl.wire.errors import WireError
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.masks import decode_mask, mask_bound_bits
from mpfl.wire.sections import Metrics, mask_context
from mpfl.world import World
from server.methods.averaging import WeightMethod
from server.methods.base import Receipt, Request
from server.versions import MaskLog


@dataclass(frozen=True)
class Ballot:
    """One decoded reply: the vote, its weight, and what the ledger books."""

    mask: Mask
    weight: int
    receipt: Receipt


class Consensus:
    """Ballots in, masks out: tallies what clients vote for and decides the next mask."""

    def __init__(self, world: World, masks: MaskLog) -> None:
        self._world, self._masks = world, masks
        self._config = world.experiment.prune
        self._tally = Tally(world.layout)
        self._kept: list[tuple[int, Mask, int]] = []
        self._round = 0
        self._regrow = False

    def begin_round(self, round_number: int, regrow: bool = False) -> None:
        """Start an empty tally; with `regrow` ballots may keep units that the mask has not."""
        self._round, self._regrow = round_number, regrow
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

    def read(self, client: int, reply: Frame) -> Ballot:
        """Decode a ballot; nothing has changed yet. WireError if it is unusable."""
        if reply.kind is not Kind.BALLOT:
            raise WireError("kind", f"expected BALLOT, got {reply.kind.name}")
        metrics = Metrics.unpack(reply.sections.get(Section.METRICS, b""))
        expected = len(self._world.parts[client])
        if metrics.samples != expected:
            raise WireError("metrics", f"client claims {metrics.samples} samples, has {expected}")
        within, classes = mask_context(
            self._world.classes, self._masks.current, subset=not self._regrow
        )
        payload = reply.sections.get(Section.MASK, b"")
        mask = decode_mask(payload, self._world.layout, within=within, classes=classes)
        bound = mask_bound_bits(mask, within=within, classes=classes) / 8
        weight = metrics.samples if self._config.weighted else 1
        return Ballot(mask, weight, Receipt(self._world.layout.total / 8, bound, mask))

    def count(self, client: int, ballot: Ballot) -> None:
        """Add one ballot to the tally and forget it (unless the rule must compare ballots)."""
        if needs_ballots(self._config.vote):
            self._kept.append((client, ballot.mask, ballot.weight))
        else:
            self._tally.add(ballot.mask, ballot.weight)
        self._masks.confirm(client, self._masks.version)

    def close(self) -> bool:
        """End the vote; returns whether there is any ballot that the rule counts."""
        try:
            self._tally_kept()
        except InputError:  # the rule leaves out more ballots than came
            return False
        return self._tally.ballots > 0

    def finish_round(self) -> dict[str, Any]:
        """Let the ballots, at least one, decide the next mask; `close` comes before."""
        counts, total = self._tally.counts(), self._tally.weight
        before = self._masks.current
        context = VoteContext(
            layout=self._world.layout,
            density=self._density(counts, total),
            previous=before,
            tie_break=self._world.tie_break,
            tie=self._config.tie,
            min_units=self._config.min_units,
            allow_regrow=self._regrow,
        )
        self._masks.advance(decide(self._config.vote, counts, total, context))
        statistics = vote_statistics(counts, total, context)
        return {"vote": statistics, "moved": 1 - before.jaccard(self._masks.current)}

    def _density(self, counts: NDArray[np.uint32], total: int) -> float:
        if self._regrow:
            return self._masks.current.density()
        return vote_density(self._world, self._round, counts, total)

    def _tally_kept(self) -> None:
        """Tally ballots that had to wait for each other, in client order."""
        if not self._kept:
            return
        self._kept.sort(key=lambda item: item[0])
        chosen = trim([ballot for _, ballot, _ in self._kept], self._config.vote)
        for i in chosen:
            self._tally.add(self._kept[i][1], self._kept[i][2])
        self._kept = []


class Mpfl(WeightMethod):
    """Mask consensus, then weight averaging under the mask."""

    has_ballots = True

    def __init__(self, world: World) -> None:
        super().__init__(world, Codecs.of(world.experiment.wire))
        self._consensus = Consensus(world, self._masks)
        self._voting = True
        self._ballots = self._values = False

    @property
    def phase(self) -> str:
        """``mask`` in phase 1, ``train`` in phase 2."""
        return "mask" if self._voting else "train"

    def choose(self, round_number: int, clients: Sequence[int]) -> list[int]:
        """Return the voters of a round of phase 1, drawn from the seed; else everybody."""
        experiment = self._world.experiment
        voters = experiment.prune.voters
        if not self._voting or not 0 < voters < len(clients):
            return list(clients)
        rng = numpy_rng(experiment.seed, "voters", round_number)
        return [int(client) for client in rng.choice(clients, voters, replace=False)]

    def begin_round(self, round_number: int, clients: Sequence[int]) -> None:
        """Decide what replies hold this round: ballots, values or both."""
        self._round = round_number
        experiment = self._world.experiment
        regrow = not self._voting and regrowth(experiment, round_number, self._weights.step) > 0
        self._ballots = self._voting or regrow
        self._values = not self._voting or experiment.prune.recovery == "finetune"
        if self._ballots:
            self._consensus.begin_round(round_number, regrow)
        if self._values:
            self._weights.begin_round()

    def request(self, client: int) -> Request:
        """Ask for a ballot, for weights, or for both."""
        if not self._values:
            return self._consensus.request(client)
        kind = Kind.MASK_REQUEST if self._ballots else Kind.TRAIN_REQUEST
        return self._weights.request(self._round, client, kind)

    def accept(self, client: int, reply: Frame) -> Receipt:
        """Take in a ballot, weights, or both."""
        if not self._ballots:
            return self._weights.accept(client, reply)
        ballot = self._consensus.read(client, reply)
        receipt = ballot.receipt
        if self._values:
            values = self._weights.accept(client, reply, Kind.BALLOT)
            receipt = replace(
                receipt,
                formula_bytes=receipt.formula_bytes + values.formula_bytes,
                bound_bytes=receipt.bound_bytes + values.bound_bytes,
            )
        self._consensus.count(client, ballot)
        return receipt

    def finish_round(self, enough: bool) -> dict[str, Any]:
        """Decide the mask and publish the mean; move on to phase 2 when it is time."""
        if not self._ballots:
            return self._weights.finish_round(enough)
        enough = enough and self._consensus.close()
        average = self._weights.average() if self._values and enough else None
        columns = self._consensus.finish_round() if enough else {"counted": False}
        if self._voting:
            config = self._world.experiment.prune
            converged = enough and columns["moved"] < config.converged
            self._voting = self._round < config.rounds and not converged
        else:
            self._weights.step += 1
        self._weights.refit(self._masks.current)
        if average is not None:
            self._weights.publish(average)
        return columns

    def state(self) -> dict[str, Any]:
        """Return everything `restore` needs."""
        return {**super().state(), "voting": np.array([self._voting], np.uint8)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        super().restore(state)
        self._voting = bool(state["voting"][0])
