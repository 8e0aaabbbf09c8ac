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
from numpy.typing import NDArray

from mpfl.errors import InputError
from mpfl.mask import Mask
from mpfl.seeding import numpy_rng
from mpfl.training.losses import gradient_named
from mpfl.training.stochastic_mask import frozen_weights
from mpfl.vote import Tally
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.masks import decode_mask, mask_bound_bits
from mpfl.wire.sections import Sync, share_classes
from mpfl.wire.values.levels import encode_levels, levels_bound_bytes
from mpfl.world import World
from server.methods.base import Floats, Receipt, Request, ServerMethod
from server.methods.buffers import BufferRound


@dataclass
class BetaPosterior:
    """How often each weight was kept since the prior was last reset.

    Attributes
    ----------
    kept
        uint32[d], α − λ₀.
    ballots
        Ballots behind it, α + β − 2λ₀.
    rounds
        Rounds behind it.
    """

    kept: NDArray[np.uint32]
    ballots: int = 0
    rounds: int = 0

    def update(self, kept: NDArray[np.uint32], ballots: int, reset: int) -> None:
        """Take in a round's tally; first forget everything after `reset` rounds."""
        if self.rounds >= reset:
            self.kept = np.zeros_like(self.kept)
            self.ballots = self.rounds = 0
        self.kept = self.kept + kept
        self.ballots += ballots
        self.rounds += 1

    def levels(self) -> tuple[NDArray[np.uint8], int]:
        """Return θ, the mode (α − 1) / (α + β − 2) at λ₀ = 1, as levels and their top.

        Without ballots it is a half.
        """
        if not self.ballots:
            return np.ones(self.kept.size, np.uint8), 2
        if self.ballots <= 255:
            return self.kept.astype(np.uint8), self.ballots
        return np.rint(self.kept * (255.0 / self.ballots)).astype(np.uint8), 255


@dataclass
class FedPmState:
    """What a run keeps: θ's posterior, normalisation buffers float32[B], rounds, versions of θ."""

    posterior: BetaPosterior
    buffers: Floats
    step: int = 0
    version: int = 0


class FedPm(ServerMethod):
    """Every round: send θ, tally masks drawn from what clients learned.

    Raises
    ------
    InputError
        At other granularities than single weights.
    """

    reads = (
        *("train.epochs", "train.batch_size", "train.lr_decay", "train.device"),
        *("comparator.fedpm_*", "prune.granularity", "wire.mask_codec"),
    )

    state: FedPmState
    has_ballots = True

    def __init__(self, world: World) -> None:
        granularity = world.experiment.prune.granularity
        if granularity != "weight":
            raise InputError(f"prune.granularity: got {granularity!r}, fedpm masks single weights")
        if gradient_named(world.experiment.train):
            raise InputError("train.gradient: fedpm trains no weights; it takes no gradient hook")
        super().__init__(world)
        self._units = world.layout.units
        self._frozen = frozen_weights(world.structure, world.w0)
        self.begin_round(0, [])
        posterior = BetaPosterior(np.zeros(world.layout.total, np.uint32))
        self.restore(FedPmState(posterior, world.b0))

    def restore(self, state: FedPmState) -> None:
        """Go on from a state."""
        self.state = state
        self._draw()

    def _draw(self) -> None:
        """Write θ down and draw the mask that stands for it."""
        self._levels, self._top = self.state.posterior.levels()
        self._payload = encode_levels(self._levels, self._top, self._units)
        self._bound = levels_bound_bytes(self._levels, self._units)
        rng = numpy_rng(self._world.experiment.seed, "fedpm", self.state.version)
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
        sync = Sync(values_version=min(state.version, 1), step=state.step)
        sections = {Section.CONFIG: sync.pack()}
        if not state.version:
            return Request(Frame(Kind.MASK_REQUEST, self._round, sections))
        sections[Section.VALUES] = self._buffers.prefix(state.buffers) + self._payload
        extra = 4.0 * self._buffers.count
        formula = 4.0 * self._world.layout.total + extra
        frame = Frame(Kind.MASK_REQUEST, self._round, sections)
        return Request(frame, formula, self._bound + extra)

    def accept(self, client: int, reply: Frame) -> Receipt:
        """Count one client's mask."""
        buffers, samples = self._buffers.check(client, reply)
        classes = share_classes(self._levels, self._top)
        payload = reply.sections.get(Section.MASK, b"")
        drawn = decode_mask(payload, self._world.layout, classes=classes)
        self._tally.add(drawn)
        self._buffers.add(buffers, samples)
        extra = 4.0 * self._buffers.count
        bound = mask_bound_bits(drawn, classes=classes) / 8
        return Receipt(self._world.layout.total / 8 + extra, bound + extra, drawn)

    def finish_round(self, enough: bool) -> dict[str, Any]:
        """Update the posterior and draw the round's model from it."""
        state = self.state
        state.step += 1
        if enough:
            reset = self._world.experiment.comparator.fedpm_reset
            state.posterior.update(self._tally.counts(), self._tally.ballots, reset)
            state.buffers = self._buffers.mean(state.buffers)
            state.version += 1
            self._draw()
        return {}

    def model(self) -> Floats:
        """Return the frozen weights under the drawn mask."""
        keep = self._world.structure.parameter_mask(self._mask)
        return np.concatenate([np.where(keep, self._frozen, 0), self.state.buffers])

    def mask(self) -> Mask:
        """Return the mask drawn from θ."""
        return self._mask
