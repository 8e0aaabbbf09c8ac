"""Rounds of weight averaging under a mask: the part that weight-exchanging methods share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mpfl.average import FixedPointMean
from mpfl.mask import Mask
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.values.channel import Channel
from mpfl.world import World
from server.methods.base import Floats, Receipt, Request, ServerMethod, claimed_samples
from server.versions import Broadcaster, MaskCoder, MaskLog
from server.versions.catch_up import CatchUp

WEIGHTS = ("wire.up", "wire.down", "wire.error_feedback", "wire.value_classes")
"""Keys that matter wherever weights travel; see `ServerMethod.reads`."""
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

    What a method usually changes is `finish_round`, with `average`, `publish` and `change_mask`.

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
        self._catch_up = CatchUp()
        self.state = WeightState(MaskLog.start(world.layout), Broadcaster(world.initial), phase)
        self.change_mask(self.mask())
        self.mean = self.empty_mean()

    @property
    def phase(self) -> str:
        """The phase of the state."""
        return self.state.phase

    @property
    def asks(self) -> Kind:
        """What clients are asked this round."""
        return Kind.TRAIN_REQUEST

    @property
    def sections(self) -> set[Section]:
        """What replies hold this round beside their metrics."""
        return {Section.VALUES}

    @property
    def channel(self) -> Channel:
        """How the model is written to clients now, and what of it travels."""
        return self._world.channel("down", self._world.footprint(self.mask()))

    @property
    def up(self) -> Channel:
        """How clients write what they have trained."""
        return self._world.channel("up", self._world.footprint(self.mask()))

    def change_mask(self, mask: Mask) -> None:
        """Make `mask` the common one; the model follows."""
        before, start = self.channel, self._world.start(self.mask())
        if not mask.issubset(self.mask()):  # what comes back is zero, save for who never lost it
            for client in self.state.masks.behind(self.state.model.held):
                self.state.model.forget(client)
        self.state.masks.advance(mask)
        self.state.model.refit(self.channel, self._world.start(mask), before, start)

    def empty_mean(self) -> FixedPointMean:
        """Return an empty mean of what travels."""
        footprint = self.channel.footprint
        count = self._world.round_samples
        return FixedPointMean(footprint.count, count, buffers=footprint.buffers)

    def unit_mean(self) -> FixedPointMean:
        """Return an empty mean of scores, one for each unit."""
        return FixedPointMean(
            self._world.layout.total, self._world.round_samples, _SCORE_LIMIT_LOG2
        )

    def begin_round(self, round_number: int, clients: Sequence[int]) -> None:
        """Start an empty mean."""
        super().begin_round(round_number, clients)
        self.mean = self.empty_mean()

    def request(self, client: int) -> Request:
        """Return a request that brings `client` to the newest mask and model."""
        state, channel = self.state, self.channel
        sync, mask, mask_bound = state.masks.offer(client, self._coder)
        sync, values, bound = state.model.offer(client, sync, channel, self._catch_up)
        sections = {Section.CONFIG: replace(sync, step=state.step).pack()}
        formula = 0.0
        if mask:
            sections[Section.MASK] = mask
            formula += self._world.layout.total / 8
        if values:
            sections[Section.VALUES] = values
            formula += channel.formula_bytes
        return Request(Frame(self.asks, self._round, sections), formula, bound + mask_bound)

    def accept(self, client: int, reply: Frame) -> Receipt:
        """Add one client's weights to the mean."""
        kind = _ANSWERS[self.asks]
        samples = claimed_samples(self._world, client, reply, kind, self.sections)
        payload = reply.sections.get(Section.VALUES, b"")
        channel = self.up
        reference = self.state.model.public[channel.footprint.keep]
        self.mean.add(channel.read(payload, reference), samples)
        self.confirm(client)
        return Receipt(channel.formula_bytes, channel.bound(payload, reference))

    def confirm(self, client: int) -> None:
        """Record that a client holds mask and model of this round."""
        self.state.masks.confirm(client)
        self.state.model.confirm(client, self.channel)

    def finish_round(self, enough: bool) -> dict[str, Any]:
        """Publish the mean as the next version of the model."""
        self.state.step += 1
        if enough and self.mean.weight:
            self.publish(self.average())
        return {}

    def publish(self, model: Floats) -> None:
        """Make float32[P + B] the common model, as far as it travels and its codec writes it."""
        model, expected = np.asarray(model, np.float32), self._world.initial.shape
        if model.shape != expected:
            raise ValueError(f"publish: got float32{list(model.shape)}, expected {list(expected)}")
        experiment = self._world.experiment
        progress = min(1.0, self.state.step / experiment.federation.rounds)
        self.state.model.publish(model, self.channel, experiment.seed, progress)

    def average(self) -> Floats:
        """Return the mean of this round's models, float32[P + B]. ValueError without replies."""
        keep, public = self.channel.footprint.keep, self.state.model.public
        model = np.zeros_like(public)
        model[keep] = self.mean.mean()
        return public + model if self.up.relative else model

    def model(self) -> Floats:
        """Return the averaged model; w0 under the mask before the first average."""
        untravelled = self._world.untravelled(self.mask())
        return np.where(self.channel.footprint.keep, self.state.model.public, untravelled)

    def mask(self) -> Mask:
        """Return the common mask."""
        return self.state.masks.current

    def forget(self, client: int) -> None:
        """Serve this client from the full mask and w0 again."""
        self.state.masks.forget(client)
        self.state.model.forget(client)
