"""Rounds of weight averaging under a mask: the part that weight-exchanging methods share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mpfl.average import FixedPointMean
from mpfl.codecs import Channel
from mpfl.mask import Mask
from mpfl.network.footprint import Footprint
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.world import World
from server.methods.base import Floats, Receipt, Request, ServerMethod, claimed_samples
from server.versions import Broadcaster, MaskCoder, MaskLog

_ANSWERS = {
    Kind.TRAIN_REQUEST: Kind.UPDATE,
    Kind.MASK_REQUEST: Kind.BALLOT,
    Kind.SCORE_REQUEST: Kind.SCORES,
}

_SCORE_LIMIT_LOG2 = 2  # sums of tiny numbers: a lower limit gives the mean a finer resolution


@dataclass
class WeightState:
    """What a run keeps of a mask and of weights under it.

    Attributes
    ----------
    phase
        Name of the phase, for the records.
    step
        Rounds of weight training so far.
    """

    masks: MaskLog
    model: Broadcaster
    phase: str = "train"
    step: int = 0


class WeightMethod(ServerMethod):
    """Broadcasts a model under a mask and averages what comes back; methods change the rest.

    That is Algorithm 1 of McMahan et al. 2017. The mean is weighted by samples and computed in
    fixed point, so that the order of the replies does not matter.

    Parameters
    ----------
    phase
        The first one.
    """

    state: WeightState

    def __init__(self, world: World, phase: str = "train") -> None:
        super().__init__(world)
        self._coder = MaskCoder(world.classes, world.experiment.wire.mask_codec, world.widths)
        self.state = WeightState(MaskLog.start(world.layout), Broadcaster(world.initial), phase)
        self.state.model.refit(self._down, world.start(self.mask()))
        self._mean = self._empty_mean()

    @property
    def phase(self) -> str:
        """The phase of the state."""
        return self.state.phase

    @property
    def _asks(self) -> Kind:
        """What clients are asked this round."""
        return Kind.TRAIN_REQUEST

    @property
    def _footprint(self) -> Footprint:
        """What travels under the mask."""
        return self._world.footprint(self.mask())

    @property
    def _up(self) -> Channel:
        return self._world.channel("up", self._footprint)

    @property
    def _down(self) -> Channel:
        return self._world.channel("down", self._footprint)

    def _change(self, mask: Mask) -> None:
        """Make `mask` the common one; the model follows."""
        before = self._footprint
        self.state.masks.advance(mask)
        self.state.model.refit(self._down, self._world.start(mask), before)

    def _publish(self, model: Floats) -> None:
        """Make a model, float32[P + B], the newest version."""
        experiment = self._world.experiment
        progress = min(1.0, self.state.step / experiment.federation.rounds)
        self.state.model.publish(model, self._down, experiment.seed, progress)

    def _empty_mean(self) -> FixedPointMean:
        footprint = self._footprint
        count = self._world.sample_count
        return FixedPointMean(footprint.count, count, buffers=footprint.buffers)

    def _unit_mean(self) -> FixedPointMean:
        """Return an empty mean of scores, one for each unit."""
        return FixedPointMean(self._world.layout.total, self._world.sample_count, _SCORE_LIMIT_LOG2)

    def begin_round(self, round_number: int, clients: Sequence[int]) -> None:
        """Start an empty mean."""
        super().begin_round(round_number, clients)
        self._mean = self._empty_mean()

    def request(self, client: int) -> Request:
        """Return a request that brings `client` to the newest mask and model."""
        state, channel = self.state, self._down
        sync, mask, mask_bound = state.masks.offer(client, self._coder)
        sync, values, bound = state.model.offer(client, sync, channel)
        sections = {Section.CONFIG: replace(sync, step=state.step).pack()}
        formula = 0.0
        if mask:
            sections[Section.MASK] = mask
            formula += self._world.layout.total / 8
        if values:
            sections[Section.VALUES] = values
            formula += channel.formula_bytes
        return Request(Frame(self._asks, self._round, sections), formula, bound + mask_bound)

    def accept(self, client: int, reply: Frame) -> Receipt:
        """Add one client's weights to the mean."""
        samples = claimed_samples(self._world, client, reply, _ANSWERS[self._asks])
        payload = reply.sections.get(Section.VALUES, b"")
        channel, reference = self._up, self.state.model.public[self._footprint.keep]
        self._mean.add(channel.read(payload, reference), samples)
        self._confirm(client)
        return Receipt(channel.formula_bytes, channel.bound(payload, reference))

    def _confirm(self, client: int) -> None:
        """Record that a client holds mask and model of this round."""
        self.state.masks.confirm(client)
        self.state.model.confirm(client, self._down)

    def finish_round(self, enough: bool) -> dict[str, Any]:
        """Publish the mean as the next version of the model."""
        self.state.step += 1
        if enough and self._mean.weight:
            self._publish(self._average())
        return {}

    def _average(self) -> Floats:
        """Return the mean of this round's models, float32[P + B]. ValueError without replies."""
        keep, public = self._footprint.keep, self.state.model.public
        model = np.zeros_like(public)
        model[keep] = self._mean.mean()
        return public + model if self._up.relative else model

    def model(self) -> Floats:
        """Return the averaged model; w0 under the mask before the first average."""
        untravelled = np.concatenate([np.zeros_like(self._world.w0), self._world.b0])
        return np.where(self._footprint.keep, self.state.model.public, untravelled)

    def mask(self) -> Mask:
        """Return the common mask."""
        return self.state.masks.current

    def forget(self, client: int) -> None:
        """Serve this client from the full mask and w0 again."""
        self.state.masks.forget(client)
        self.state.model.forget(client)
