"""LotteryFL, server half.

Source: Li et al. 2020, "LotteryFL: Personalized and communication-efficient federated learning
with lottery ticket hypothesis on non-IID datasets", arXiv 2008.03371. Faithful: every client has
a mask of its own; it prunes what it received by magnitude where its local accuracy reaches
``prune.gate`` and the target density is not reached, rewinds to w0 and trains; only its surviving
weights travel, both ways; every weight is averaged over the clients that have it. Differs: the
path of densities is the experiment's schedule; the mean is weighted by samples; local accuracy is
on the client's training samples; nobody prunes before the first average. The server keeps one
packed mask per client, which no server of this method can do without. Reported as the federated
model is the server's, under the union of all masks; the accuracy per client is that of its own
ticket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mpfl.average import OverlapMean
from mpfl.mask import Mask
from mpfl.seeding import numpy_rng
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.masks import decode_mask, mask_bound_bits
from mpfl.wire.sections import Sync
from mpfl.world import World
from server.methods.base import Floats, Receipt, Request, ServerMethod, claimed_samples


@dataclass
class LotteryState:
    """What a run keeps.

    Attributes
    ----------
    model
        float32[P + B].
    masks, versions
        Every client's own mask and how often it has changed, where it has.
    lost
        Clients that no longer hold their mask.
    step
        Rounds so far.
    version
        1 once anything was averaged.
    """

    model: Floats
    masks: dict[int, Mask] = field(default_factory=dict)
    versions: dict[int, int] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    step: int = 0
    version: int = 0


class LotteryFl(ServerMethod):
    """Serve every client its own part of the model; average what overlaps."""

    reads = (
        "train.*",
        *("prune.density", "prune.granularity", "prune.schedule", "prune.rounds", "prune.gate"),
        *("prune.ranking", "prune.min_units"),
        *("wire.mask_codec", "wire.mask_classes", "wire.up", "wire.down", "wire.value_classes"),
    )

    state: LotteryState
    personalises = True

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.state = LotteryState(world.initial)
        self.begin_round(0, [])

    def begin_round(self, round_number: int, clients: Sequence[int]) -> None:
        """Start an empty mean."""
        super().begin_round(round_number, clients)
        world = self._world
        self._mean = OverlapMean(world.initial.size, world.round_samples, world.b0.size)

    def request(self, client: int) -> Request:
        """Return the part of the model that the client's mask keeps."""
        state, mask = self.state, self._held(client)
        version = state.versions.get(client, 0)
        sync = Sync(mask_version=version, values_version=state.version, step=state.step)
        sections = {Section.CONFIG: sync.pack()}
        formula = bound = 0.0
        if client in state.lost and version:
            sections[Section.MASK] = self._world.encode_mask(mask)
            formula += self._world.layout.total / 8
            bound += mask_bound_bits(mask, classes=self._world.classes) / 8
        if state.version:
            channel = self._world.channel("down", self._world.footprint(mask))
            keep, seed = channel.footprint.keep, self._world.experiment.seed
            rng, known = numpy_rng(seed, "downlink", self._round, client), self._world.initial[keep]
            progress = state.step / self._world.experiment.federation.rounds
            values = channel.write(state.model[keep], known, rng, progress=progress)
            sections[Section.VALUES] = values
            formula, bound = formula + channel.formula_bytes, bound + channel.bound(values, known)
        return Request(Frame(Kind.TRAIN_REQUEST, self._round, sections), formula, bound)

    def accept(self, client: int, reply: Frame) -> Receipt:
        """Add a client's weights where it has any, and remember its mask."""
        samples = claimed_samples(
            self._world, client, reply, Kind.UPDATE, {Section.VALUES}, {Section.MASK}
        )
        world, mask, formula, bound = self._world, self._held(client), 0.0, 0.0
        if Section.MASK in reply.sections:
            payload, held, classes = reply.sections[Section.MASK], mask, world.classes
            mask = decode_mask(payload, world.layout, within=held, classes=classes)
            formula = world.layout.total / 8
            bound = mask_bound_bits(mask, within=held, classes=classes) / 8
        channel = world.channel("up", world.footprint(mask))
        keep, payload = channel.footprint.keep, reply.sections.get(Section.VALUES, b"")
        known = world.initial[keep]
        full = np.zeros_like(self.state.model)
        full[keep] = channel.arrived(payload, known)
        self._mean.add(full, keep, samples)
        if Section.MASK in reply.sections:
            self.state.masks[client] = mask
            self.state.versions[client] = self.state.versions.get(client, 0) + 1
        self.state.lost.discard(client)
        return Receipt(formula + channel.formula_bytes, bound + channel.bound(payload, known))

    def finish_round(self, enough: bool) -> dict[str, Any]:
        """Average; what no client had stays as it was."""
        self.state.step += 1
        if enough:
            self.state.model = self._mean.mean(self.state.model)
            self.state.version = 1
        clients, masks = len(self._world.parts), self.state.masks.values()
        dense = clients - len(masks)  # those never heard of keep everything
        return {"client_density": (dense + sum(mask.density() for mask in masks)) / clients}

    def _held(self, client: int) -> Mask:
        return self.state.masks.get(client) or Mask.full(self._world.layout)

    def _under(self, mask: Mask) -> Floats:
        keep, model = self._world.structure.parameter_mask(mask), self.state.model
        return np.concatenate([np.where(keep, model[: keep.size], 0), model[keep.size :]])

    def model(self) -> Floats:
        """Return the server's model."""
        return self._under(self.mask())

    def mask(self) -> Mask:
        """Return the union of all clients' masks (a client never heard of has them all)."""
        if len(self.state.masks) < len(self._world.parts):
            return Mask.full(self._world.layout)
        union = Mask.empty(self._world.layout)
        for mask in self.state.masks.values():
            union = union | mask
        return union

    def client_model(self, client: int) -> Floats:
        """Return the client's own ticket."""
        return self._under(self._held(client))

    def forget(self, client: int) -> None:
        """Send this client its mask along next time."""
        self.state.lost.add(client)
