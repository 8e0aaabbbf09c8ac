"""Federated probabilistic masks, server half.

Source: Isik et al. 2022, "Sparse random networks for communication-efficient federated learning"
(FedPM), arXiv 2209.15328. Faithful: weights frozen at plus or minus a Kaiming constant, known
from the seed; scores trained with Adam, straight through the draw; one Bernoulli sample per
weight and client up; Beta posterior with λ₀ = 1, θ its mode, prior reset every
``comparator.fedpm_reset`` rounds; the model reported is one drawn mask on the frozen weights.
Differs: θ starts at 1/2 for all weights; θ is sent as the number of ballots that kept each weight
(its exact numerator; beyond 255 ballots rounded to 1/255), entropy coded; samples are coded given
θ, so that they cost less than a bit as θ settles; biases are zero; normalisation scales and
embeddings stay as initialised, running statistics are averaged as float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpfl.errors import InputError
from mpfl.mask import Mask
from mpfl.seeding import numpy_rng
from mpfl.training.losses import gradient_named
from mpfl.training.posterior import BetaPosterior
from mpfl.training.stochastic_mask import frozen_weights
from mpfl.vote import Tally
from mpfl.wire.entropy.levels import encode_levels, levels_bound_bytes
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.masks import decode_mask, mask_bound_bits
from mpfl.wire.sections import Sync, share_classes
from mpfl.world import World
from server.methods.base import Floats, Receipt, Request, ServerMethod
from server.methods.buffers import BufferRound


@dataclass
class FedPmState:
    """What a run keeps: θ's posterior, normalisation buffers float32[B], and rounds."""

    posterior: BetaPosterior
    buffers: Floats
    step: int = 0


class FedPm(ServerMethod):
    """Every round: send θ, tally masks drawn from what clients learned.

    Raises
    ------
    InputError
        At other granularities than single weights.
    """

    reads: tuple[str, ...] = (
        *("train.epochs", "train.batch_size", "train.loss", "train.lr_decay", "train.device"),
        *("comparator.fedpm_*", "prune.granularity", "wire.mask_codec"),
    )

    state: FedPmState
    keeps = FedPmState
    """Class of its state."""
    has_ballots = True

    def __init__(self, world: World) -> None:
        granularity, name = world.experiment.prune.granularity, world.experiment.method
        if granularity != "weight":
            raise InputError(f"prune.granularity: got {granularity!r}, {name} masks single weights")
        if gradient_named(world.experiment.train):
            raise InputError(f"train.gradient: {name} trains no weights; it takes no gradient hook")
        super().__init__(world)
        self._units = world.layout.units
        self._frozen = frozen_weights(world.structure, world.w0)
        self.begin_round(0, [])
        self.restore(self.keeps(BetaPosterior.flat(world.layout.total), world.b0))

    def restore(self, state: FedPmState) -> None:
        """Go on from a state."""
        self.state = state
        self._draw()

    def _draw(self) -> None:
        """Write θ down and draw the mask that stands for it."""
        self._levels, self._top = self.state.posterior.levels()
        self._payload = encode_levels(self._levels, self._top, self._units)
        self._bound = levels_bound_bytes(self._levels, self._units)
        rng = numpy_rng(self._world.experiment.seed, "fedpm", self.state.posterior.updates)
        drawn = rng.random(self._levels.size) * self._top < self._levels
        self._mask = Mask.from_bools(self._world.layout, drawn)

    @property
    def phase(self) -> str:
        """Always ``mask``: no weight is ever trained."""
        return "mask"

    def begin_round(self, round_number: int, clients: Sequence[int]) -> None:
        """Start an empty tally."""
        super().begin_round(round_number, clients)
        self._tally = Tally(self._world.layout)
        self._buffers = BufferRound(self._world)

    def request(self, client: int) -> Request:
        """Return θ as a request; it is complete, whatever the client holds."""
        state = self.state
        version = min(state.posterior.updates, 1)
        sections = {Section.CONFIG: Sync(values_version=version, step=state.step).pack()}
        if not version:
            return Request(Frame(Kind.MASK_REQUEST, self._round, sections))
        sections[Section.VALUES] = self._buffers.prefix(state.buffers) + self._payload
        extra = 4.0 * self._buffers.count
        formula = 4.0 * self._world.layout.total + extra
        frame = Frame(Kind.MASK_REQUEST, self._round, sections)
        return Request(frame, formula, self._bound + extra)

    def accept(self, client: int, reply: Frame) -> Receipt:
        """Count one client's mask."""
        buffers, samples = self._buffers.check(client, reply)
        receipt, drawn = self.read(client, reply.sections.get(Section.MASK, b""))
        self._tally.add(drawn)
        self._buffers.add(buffers, samples)
        extra = 4.0 * self._buffers.count
        return Receipt(receipt.formula_bytes + extra, receipt.bound_bytes + extra, drawn)

    def read(self, client: int, payload: bytes) -> tuple[Receipt, Mask]:
        """Return a client's mask and what to book for it; WireError if it is not legal."""
        classes = share_classes(self._levels, self._top)
        drawn = decode_mask(payload, self._world.layout, classes=classes)
        bound = mask_bound_bits(drawn, classes=classes) / 8
        return Receipt(self._world.layout.total / 8, bound), drawn

    def finish_round(self, enough: bool) -> dict[str, Any]:
        """Update the posterior and draw the round's model from it."""
        state = self.state
        state.step += 1
        if enough:
            reset = self._world.experiment.comparator.fedpm_reset
            counts, ballots = self._tally.counts(), self._tally.ballots
            state.posterior = state.posterior.after(counts, ballots, reset)
            state.buffers = self._buffers.mean(state.buffers)
            self._draw()
        return {}

    def model(self) -> Floats:
        """Return the frozen weights under the drawn mask."""
        keep = self._world.structure.parameter_mask(self._mask)
        return np.concatenate([np.where(keep, self._frozen, 0), self.state.buffers])

    def mask(self) -> Mask:
        """Return the mask drawn from θ."""
        return self._mask
