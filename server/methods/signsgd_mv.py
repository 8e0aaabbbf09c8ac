"""Sign descent with majority vote, server half.

Source: Bernstein et al. 2018, arXiv 1802.04434, and "signSGD with majority vote", arXiv
1810.05291. Faithful: one bit per parameter up, the majority's bit down, the model moves by a
fixed step along it; every client has one vote. Differs: the sign is that of the change over a
round's local training, not of one gradient; the step decays with the learning rate; ties, and
parameters that did not change at a client, are settled by a seeded coin, because one bit cannot
say zero. A client that missed rounds gets the votes it missed, or all weights where that is
shorter. Running statistics of normalisation, which have no sign, are averaged as float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfl.mask import Mask
from mpfl.network.footprint import Footprint
from mpfl.seeding import numpy_rng
from mpfl.training.local import learning_rate
from mpfl.vote import Tally
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.masks import decode_mask, mask_bound_bits
from mpfl.wire.sections import Sync
from mpfl.wire.values import encode_values
from mpfl.world import World
from server.methods.base import Floats, Receipt, Request, ServerMethod
from server.methods.buffers import BufferRounds
from server.versions import Broadcaster


def majority_signs(
    positive: NDArray[np.uint32], voters: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Return, for every parameter, whether most of the voters said plus; ties by a coin."""
    twice = positive.astype(np.int64) * 2
    coin = rng.random(positive.size) < 0.5
    return np.where(twice == voters, coin, twice > voters)


class SignSgd(ServerMethod):
    """Every round: collect signs, send the majority's."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._layout = world.parameter_layout
        footprint = Footprint.of(world.structure, Mask.full(world.layout), with_buffers=False)
        seed = world.experiment.seed
        self._broadcaster = Broadcaster("sign", seed, world.initial, footprint)
        self._buffers = BufferRounds(world)
        self._tally = Tally(self._layout)
        self._round = self._step = 0

    @property
    def phase(self) -> str:
        """Always ``train``."""
        return "train"

    def begin_round(self, round_number: int, clients: Sequence[int]) -> None:
        """Start an empty tally."""
        self._round = round_number
        self._tally = Tally(self._layout)
        self._buffers.begin_round()

    def request(self, client: int) -> Request:
        """Return the votes this client has missed."""
        sync, votes, bound = self._broadcaster.offer(client, Sync())
        sections = {Section.CONFIG: replace(sync, step=self._step).pack()}
        if votes or (self._buffers.count and self._broadcaster.version):
            sections[Section.VALUES] = self._buffers.prefix() + votes
            bound += 4.0 * self._buffers.count
        formula = (self._layout.total / 8 + 4 * self._buffers.count) * bool(votes)
        return Request(Frame(Kind.TRAIN_REQUEST, self._round, sections), formula, bound)

    def accept(self, client: int, reply: Frame) -> Receipt:
        """Count one client's signs."""
        buffers, samples = self._buffers.check(client, reply)
        signs = decode_mask(reply.sections.get(Section.MASK, b""), self._layout)
        self._tally.add(signs)
        self._buffers.add(buffers, samples)
        self._broadcaster.confirm(client, self._broadcaster.version)
        extra = 4.0 * self._buffers.count
        return Receipt(self._layout.total / 8 + extra, mask_bound_bits(signs) / 8 + extra)

    def finish_round(self, enough: bool) -> dict[str, Any]:
        """Move the model one step along the majority's signs."""
        config = self._world.experiment
        decay = learning_rate(config.train, self._step, config.federation.rounds) / config.train.lr
        self._step += 1
        if enough:
            step = np.float32(config.comparator.sign_step * decay)
            rng = numpy_rng(config.seed, "ties", self._round)
            plus = majority_signs(self._tally.counts(), self._tally.weight, rng)
            move = np.where(plus, step, -step).astype(np.float32)
            segments = self._broadcaster.footprint.segments
            self._broadcaster.append(encode_values(move, "sign", segments))
            self._buffers.finish_round()
        return {}

    def model(self) -> Floats:
        """Return the model."""
        return np.concatenate(
            [self._broadcaster.public[: self._layout.total], self._buffers.latest]
        )

    def mask(self) -> Mask:
        """Return the full mask."""
        return Mask.full(self._world.layout)

    def forget(self, client: int) -> None:
        """Serve this client all weights again."""
        self._broadcaster.forget(client)

    def state(self) -> dict[str, Any]:
        """Return everything `restore` needs."""
        return {
            "broadcaster": self._broadcaster.state(),
            "buffers": self._buffers.state(),
            "step": np.array([self._step], np.int64),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        self._broadcaster.restore(state["broadcaster"], self._broadcaster.footprint)
        self._buffers.restore(state["buffers"])
        self._step = int(state["step"][0])
