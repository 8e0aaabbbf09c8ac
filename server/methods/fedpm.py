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

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfl.errors import InputError
from mpfl.mask import Mask
from mpfl.seeding import numpy_rng
from mpfl.training.stochastic_mask import frozen_weights
from mpfl.vote import Tally
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.masks import decode_mask, mask_bound_bits
from mpfl.wire.sections import Sync, share_classes
from mpfl.wire.values.levels import decode_levels, encode_levels, levels_bound_bytes
from mpfl.world import World
from server.methods.base import Floats, Receipt, Request, ServerMethod
from server.methods.buffers import BufferRounds


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

    def __init__(self, units: int) -> None:
        self.kept = np.zeros(units, np.uint32)
        self.ballots = self.rounds = 0

    def update(self, kept: NDArray[np.uint32], ballots: int, reset: int) -> None:
        """Take in a round's tally; first forget everything after `reset` rounds."""
        if self.rounds >= reset:
            self.kept = np.zeros_like(self.kept)
            self.ballots = self.rounds = 0
        self.kept = self.kept + kept
        self.ballots += ballots
        self.rounds += 1

    def levels(self) -> tuple[NDArray[np.uint8], int]:
        """Return θ, the mode (α − 1) / (α + β − 2) at λ₀ = 1, as levels and their top."""
        if self.ballots <= 255:
            return self.kept.astype(np.uint8), self.ballots
        return np.rint(self.kept * (255.0 / self.ballots)).astype(np.uint8), 255


class FedPm(ServerMethod):
    """Every round: send θ, tally masks drawn from what clients learned.

    Raises
    ------
    InputError
        At other granularities than single weights.
    """

    has_ballots = True

    def __init__(self, world: World) -> None:
        granularity = world.experiment.prune.granularity
        if granularity != "weight":
            raise InputError(f"prune.granularity: got {granularity!r}, fedpm masks single weights")
        self._world = world
        self._units = world.layout.units
        self._frozen = frozen_weights(world.structure, world.w0)
        self._posterior = BetaPosterior(world.layout.total)
        self._buffers = BufferRounds(world)
        self._tally = Tally(world.layout)
        self._round = self._step = self._version = 0
        self._set(np.ones(world.layout.total, np.uint8), 2)

    def _set(self, levels: NDArray[np.uint8], top: int) -> None:
        self._levels, self._top = levels, top
        self._payload = encode_levels(levels, top, self._units)
        self._bound = levels_bound_bytes(levels, self._units)
        rng = numpy_rng(self._world.experiment.seed, "fedpm", self._version)
        drawn = rng.random(levels.size) * top < levels
        self._mask = Mask.from_bools(self._world.layout, drawn)

    @property
    def phase(self) -> str:
        """Always ``mask``: no weight is ever trained."""
        return "mask"

    def begin_round(self, round_number: int, clients: Sequence[int]) -> None:
        """Start an empty tally."""
        self._round = round_number
        self._tally = Tally(self._world.layout)
        self._buffers.begin_round()

    def request(self, client: int) -> Request:
        """Return θ as a request; it is complete, whatever the client holds."""
        sync = Sync(values_version=min(self._version, 1), step=self._step)
        sections = {Section.CONFIG: sync.pack()}
        if not self._version:
            return Request(Frame(Kind.MASK_REQUEST, self._round, sections))
        sections[Section.VALUES] = self._buffers.prefix() + self._payload
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
        self._step += 1
        if enough:
            reset = self._world.experiment.comparator.fedpm_reset
            self._posterior.update(self._tally.counts(), self._tally.ballots, reset)
            self._buffers.finish_round()
            self._version += 1
            self._set(*self._posterior.levels())
        return {}

    def model(self) -> Floats:
        """Return the frozen weights under the drawn mask."""
        keep = self._world.structure.parameter_mask(self._mask)
        return np.concatenate([np.where(keep, self._frozen, 0), self._buffers.latest])

    def mask(self) -> Mask:
        """Return the mask drawn from θ."""
        return self._mask

    def state(self) -> dict[str, Any]:
        """Return everything `restore` needs."""
        posterior = self._posterior
        numbers = [posterior.ballots, posterior.rounds, self._step, self._version]
        return {
            "kept": posterior.kept,
            "numbers": np.array(numbers, np.int64),
            "theta": np.frombuffer(self._payload, np.uint8),
            "buffers": self._buffers.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        posterior, numbers = self._posterior, (int(n) for n in state["numbers"])
        posterior.kept = state["kept"]
        posterior.ballots, posterior.rounds, self._step, self._version = numbers
        self._buffers.restore(state["buffers"])
        self._set(*decode_levels(state["theta"].tobytes(), self._units))
