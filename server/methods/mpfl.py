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

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfl.ballot import vote_density
from mpfl.errors import InputError
from mpfl.mask import Mask
from mpfl.regrow import regrowth
from mpfl.seeding import numpy_rng
from mpfl.vote import Tally, VoteContext, decide, needs_ballots, trim, vote_statistics
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.masks import decode_mask, mask_bound_bits
from mpfl.wire.sections import mask_context
from mpfl.world import World
from server.methods.averaging import WeightMethod
from server.methods.base import Receipt, claimed_samples


class Consensus:
    """One round's vote on the mask after `before`: ballots in, a mask out.

    Parameters
    ----------
    regrow
        Whether ballots may keep units that the mask before has not.
    """

    def __init__(self, world: World, before: Mask, round_number: int, regrow: bool = False) -> None:
        self._world, self._before = world, before
        self._round, self._regrow = round_number, regrow
        self._config = world.experiment.prune
        self._tally = Tally(world.layout)
        self._kept: dict[int, Mask] = {}

    def read(self, client: int, reply: Frame, reads: Collection[Section]) -> tuple[Mask, Receipt]:
        """Decode a ballot; nothing has changed yet. WireError if it is unusable.

        `reads` are the sections that the reply must have beside its metrics.
        """
        claimed_samples(self._world, client, reply, Kind.BALLOT, reads)
        within, classes = mask_context(self._world.classes, self._before, subset=not self._regrow)
        payload = reply.sections.get(Section.MASK, b"")
        mask = decode_mask(payload, self._world.layout, within=within, classes=classes)
        bound = mask_bound_bits(mask, within=within, classes=classes) / 8
        return mask, Receipt(self._world.layout.total / 8, bound, mask)

    def count(self, client: int, ballot: Mask) -> None:
        """Add one ballot to the tally and forget it (unless the rule must compare ballots)."""
        if needs_ballots(self._config.vote):
            self._kept[client] = ballot
        else:
            self._tally.add(ballot, self._weight(client))

    def _weight(self, client: int) -> int:
        return len(self._world.parts[client]) if self._config.weighted else 1

    def close(self) -> bool:
        """End the vote; returns whether there is any ballot that the rule counts."""
        clients = sorted(self._kept)
        try:
            kept = [self._kept[client] for client in clients]
            chosen = trim(kept, self._config.vote) if kept else []
        except InputError:  # the rule leaves out more ballots than came
            return False
        for place in chosen:
            client = clients[place]
            self._tally.add(self._kept[client], self._weight(client))
        return self._tally.ballots > 0

    def decide(self) -> tuple[Mask, dict[str, Any]]:
        """Return the mask of the ballots, at least one, and columns for the round's record.

        `close` comes before.
        """
        counts, total = self._tally.counts(), self._tally.weight
        context = VoteContext(
            layout=self._world.layout,
            density=self._density(counts, total),
            previous=self._before,
            tie_break=self._world.tie_break,
            tie=self._config.tie,
            min_units=self._config.min_units,
            allow_regrow=self._regrow,
        )
        mask = decide(self._config.vote, counts, total, context)
        statistics = vote_statistics(counts, total, context, used=self._config.vote)
        return mask, {"vote": statistics, "moved": 1 - self._before.jaccard(mask)}

    def _density(self, counts: NDArray[np.uint32], total: int) -> float:
        if self._regrow:
            return max(self._before.count(), 1) / self._world.layout.total
        return vote_density(self._world, self._round, counts, total)


class Mpfl(WeightMethod):
    """Mask consensus, then weight averaging under the mask."""

    reads = ("train.*", "prune.*", "wire.*")

    has_ballots = True

    def __init__(self, world: World) -> None:
        super().__init__(world, "mask")
        self._consensus: Consensus | None = None
        self._values = False

    @property
    def _voting(self) -> bool:
        return self.phase == "mask"

    @property
    def asks(self) -> Kind:
        """A ballot, weights, or both; the reply to a mask request holds what `begin_round` says."""
        return Kind.MASK_REQUEST if self._consensus else Kind.TRAIN_REQUEST

    @property
    def sections(self) -> set[Section]:
        """A ballot, values, or both."""
        ballot = {Section.MASK} if self._consensus else set()
        return ballot | ({Section.VALUES} if self._values else set())

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
        super().begin_round(round_number, clients)
        experiment = self._world.experiment
        regrow = not self._voting and regrowth(experiment, round_number, self.state.step) > 0
        self._values = not self._voting or experiment.prune.recovery == "finetune"
        self._consensus = None
        if self._voting or regrow:
            self._consensus = Consensus(self._world, self.mask(), round_number, regrow)

    def accept(self, client: int, reply: Frame) -> Receipt:
        """Take in a ballot, weights, or both."""
        if self._consensus is None:
            return super().accept(client, reply)
        ballot, receipt = self._consensus.read(client, reply, self.sections)
        if self._values:
            values = super().accept(client, reply)
            receipt = replace(
                receipt,
                formula_bytes=receipt.formula_bytes + values.formula_bytes,
                bound_bytes=receipt.bound_bytes + values.bound_bytes,
            )
        self._consensus.count(client, ballot)
        self.state.masks.confirm(client)
        return receipt

    def finish_round(self, enough: bool) -> dict[str, Any]:
        """Decide the mask and publish the mean; move on to phase 2 when it is time."""
        if self._consensus is None:
            return super().finish_round(enough)
        enough = enough and self._consensus.close()
        average = self.average() if self._values and enough else None
        mask, columns = self.mask(), {"counted": False}
        if enough:
            mask, columns = self._consensus.decide()
        if self._voting:
            config = self._world.experiment.prune
            rests = bool(config.gate) and columns.get("moved") == 0  # nobody was ready to prune
            converged = enough and not rests and columns["moved"] < config.converged
            if converged or self._round >= config.rounds:
                self.state.phase = "train"
        else:
            self.state.step += 1
        if mask != self.mask():
            self.change_mask(mask)
        if average is not None:
            self.publish(average)
        return columns
