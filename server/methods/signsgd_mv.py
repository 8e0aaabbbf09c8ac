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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfl.mask import Mask
from mpfl.seeding import numpy_rng
from mpfl.training.decay import learning_rate
from mpfl.vote import Tally
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.masks import decode_mask, mask_bound_bits
from mpfl.wire.sections import Sync
from mpfl.wire.values import encode_values
from mpfl.wire.values.channel import Channel
from mpfl.world import World
from server.methods.base import Floats, Receipt, Request, ServerMethod
from server.methods.buffers import BufferRound
from server.versions import Broadcaster


def majority_signs(
    positive: NDArray[np.uint32], voters: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Return, for every parameter, whether most of the voters said plus; ties by a coin."""
    twice = positive.astype(np.int64) * 2
    coin = rng.random(positive.size) < 0.5
    return np.where(twice == voters, coin, twice > voters)


@dataclass
class SignState:
    """What a run keeps: model, normalisation buffers float32[B], and steps so far."""

    model: Broadcaster
    buffers: Floats
    step: int = 0


class SignSgd(ServerMethod):
    """Every round: collect signs, send the majority's."""

    reads = (
        "train.*",
        *("comparator.sign_step", "wire.mask_codec"),
    )

    state: SignState

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._layout = world.parameter_layout
        footprint = world.footprint(Mask.full(world.layout), with_buffers=False)
        self._channel = Channel("sign", footprint)
        start = world.start(Mask.full(world.layout))  # which clients start from
        self.state = SignState(Broadcaster(start), world.b0)
        self.begin_round(0, [])

    def begin_round(self, round_number: int, clients: Sequence[int]) -> None:
        """Start an empty tally."""
        super().begin_round(round_number, clients)
        self._tally = Tally(self._layout)
        self._buffers = BufferRound(self._world)

    def request(self, client: int) -> Request:
        """Return the votes this client has missed."""
        state, sync = self.state, Sync(step=self.state.step)
        sync, votes, bound = state.model.offer(client, sync, self._channel)
        sections, formula = {Section.CONFIG: sync.pack()}, self._layout.total / 8 * bool(votes)
        if votes or (self._buffers.count and state.model.version):
            sections[Section.VALUES] = self._buffers.prefix(state.buffers) + votes
            formula += 4.0 * self._buffers.count
            bound += 4.0 * self._buffers.count
        return Request(Frame(Kind.TRAIN_REQUEST, self._round, sections), formula, bound)

    def accept(self, client: int, reply: Frame) -> Receipt:
        """Count one client's signs."""
        buffers, samples = self._buffers.check(client, reply)
        signs = decode_mask(reply.sections.get(Section.MASK, b""), self._layout)
        self._tally.add(signs)
        self._buffers.add(buffers, samples)
        self.state.model.confirm(client, self._channel)
        extra = 4.0 * self._buffers.count
        return Receipt(self._layout.total / 8 + extra, mask_bound_bits(signs) / 8 + extra)

    def finish_round(self, enough: bool) -> dict[str, Any]:
        """Move the model one step along the majority's signs."""
        config = self._world.experiment
        rate = learning_rate(config.train, self.state.step, config.federation.rounds)
        self.state.step += 1
        if enough:
            step = np.float32(config.comparator.sign_step * (rate / config.train.lr))
            rng = numpy_rng(config.seed, "ties", self._round)
            plus = majority_signs(self._tally.counts(), self._tally.weight, rng)
            move = np.where(plus, step, -step).astype(np.float32)
            payload = encode_values(move, "sign", self._channel.footprint.segments)
            self.state.model.append(payload, self._channel)
            self.state.buffers = self._buffers.mean(self.state.buffers)
        return {}

    def model(self) -> Floats:
        """Return the model."""
        values = self.state.model.public[: self._world.w0.size]
        return np.concatenate([values, self.state.buffers])

    def forget(self, client: int) -> None:
        """Serve this client all weights again."""
        self.state.model.forget(client)
