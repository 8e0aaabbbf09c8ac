"""Rounds of weight averaging under a mask: the part that weight-exchanging methods share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mpfl.average import FixedPointMean
from mpfl.codecs import Codecs, formula_bytes
from mpfl.mask import Mask
from mpfl.wire.errors import WireError
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.sections import Metrics
from mpfl.wire.values import decode_values, value_codec, values_bound_bytes
from mpfl.world import World
from server.methods.base import Floats, Receipt, Request, ServerMethod
from server.versions import Broadcaster, MaskLog


class WeightRounds:
    """Sends the public model, averages what comes back (McMahan et al. 2017, Algorithm 1).

    The mean is weighted by samples and computed in fixed point, so that the order of the
    replies does not matter.

    Parameters
    ----------
    codecs
        How weights are written, the same as on the clients.
    """

    def __init__(self, world: World, masks: MaskLog, codecs: Codecs) -> None:
        self._world, self._masks = world, masks
        config = world.experiment
        self._uplink = codecs.uplink
        self._relative = value_codec(self._uplink).relative
        self._samples = sum(len(part) for part in world.parts)
        self.initial = world.start(masks.current)
        footprint = world.footprint(masks.current)
        self.broadcaster = Broadcaster(codecs.downlink, config.seed, self.initial, footprint)
        self.latest = self.broadcaster.public
        self.step = 0
        self._mean = self._empty_mean()

    def refit(self, mask: Mask) -> None:
        """Follow a new mask."""
        footprint = self._world.footprint(mask)
        if self.broadcaster.version == 0:
            self.broadcaster.public = self._world.start(mask)
        self.broadcaster.refit(footprint)
        self.latest = self._serve()

    def begin_round(self) -> None:
        """Start a round with an empty mean."""
        self._mean = self._empty_mean()

    def _empty_mean(self) -> FixedPointMean:
        footprint = self.broadcaster.footprint
        return FixedPointMean(footprint.count, self._samples, buffers=footprint.buffers)

    def request(self, round_number: int, client: int, kind: Kind = Kind.TRAIN_REQUEST) -> Request:
        """Return a request of this kind that brings `client` to the newest mask and model."""
        sync, mask_payload, mask_bound = self._masks.offer(client)
        sync, values, bound = self.broadcaster.offer(client, sync)
        sections = {Section.CONFIG: replace(sync, step=self.step).pack()}
        if mask_payload:
            sections[Section.MASK] = mask_payload
        if values:
            sections[Section.VALUES] = values
        count = self.broadcaster.footprint.count if values else 0
        formula = formula_bytes(self.broadcaster.codec, count)
        formula += self._masks.current.layout.total / 8 * bool(mask_payload)
        frame = Frame(kind, round_number, sections)
        return Request(frame, formula, bound + mask_bound)

    def accept(self, client: int, reply: Frame, kind: Kind = Kind.UPDATE) -> Receipt:
        """Add one client's values, in a reply of this kind, to the mean."""
        if reply.kind is not kind:
            raise WireError("kind", f"expected {kind.name}, got {reply.kind.name}")
        samples = claimed_samples(self._world, client, reply)
        payload = reply.sections.get(Section.VALUES, b"")
        segments = self.broadcaster.footprint.segments
        values = decode_values(payload, self._uplink, segments)
        self._mean.add(values, samples)
        self._masks.confirm(client, self._masks.version)
        self.broadcaster.confirm(client, self.broadcaster.version)
        bound = values_bound_bytes(payload, self._uplink, segments)
        return Receipt(formula_bytes(self._uplink, values.size), bound)

    def finish_round(self, enough: bool) -> dict[str, Any]:
        """Publish the new mean as the next version of the model."""
        self.step += 1
        if enough and self._mean.weight:
            self.publish(self.average())
        return {}

    def average(self) -> Floats:
        """Return the mean of this round's models, float32[P + B]. InputError without replies."""
        keep = self.broadcaster.footprint.keep
        mean = self._mean.mean()
        model = np.zeros_like(self.initial)
        model[keep] = self.broadcaster.public[keep] + mean if self._relative else mean
        return model

    def publish(self, model: Floats) -> None:
        """Make `model` the newest version, as far as mask and codec can say it."""
        self.broadcaster.publish(model)
        self.latest = self._serve()

    def _serve(self) -> Floats:
        keep = self.broadcaster.footprint.keep
        return np.where(keep, self.broadcaster.public, self._untravelled()).astype(np.float32)

    def _untravelled(self) -> Floats:
        return np.concatenate([np.zeros_like(self._world.w0), self._world.b0])

    def state(self) -> dict[str, Any]:
        """Return everything `restore` needs."""
        return {
            "broadcaster": self.broadcaster.state(),
            "latest": self.latest,
            "step": np.array([self.step], np.int64),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned; the mask log must have been restored before."""
        footprint = self._world.footprint(self._masks.current)
        self.broadcaster.restore(state["broadcaster"], footprint)
        self.latest = state["latest"]
        self.step = int(state["step"][0])


class WeightMethod(ServerMethod):
    """Broadcasts a model under a mask and averages what comes back; methods change the rest.

    Parameters
    ----------
    codecs
        How weights are written.
    """

    def __init__(self, world: World, codecs: Codecs) -> None:
        self._world = world
        codec = world.experiment.wire.mask_codec
        self._masks = MaskLog(world.layout, world.classes, codec, world.widths)
        self._weights = WeightRounds(world, self._masks, codecs)
        self._round = 0

    @property
    def phase(self) -> str:
        """``train``."""
        return "train"

    def begin_round(self, round_number: int, clients: Sequence[int]) -> None:
        """Start an empty mean."""
        self._round = round_number
        self._weights.begin_round()

    def request(self, client: int) -> Request:
        """Return a request with mask and model."""
        return self._weights.request(self._round, client)

    def accept(self, client: int, reply: Frame) -> Receipt:
        """Add one client's weights to the mean."""
        return self._weights.accept(client, reply)

    def finish_round(self, enough: bool) -> dict[str, Any]:
        """Publish the mean."""
        return self._weights.finish_round(enough)

    def model(self) -> Floats:
        """Return the averaged model; w0 under the mask before the first average."""
        return self._weights.latest

    def mask(self) -> Mask:
        """Return the common mask."""
        return self._masks.current

    def forget(self, client: int) -> None:
        """Serve this client from the full mask and w0 again."""
        self._masks.forget(client)
        self._weights.broadcaster.forget(client)

    def state(self) -> dict[str, Any]:
        """Return everything `restore` needs."""
        return {"masks": self._masks.state(), "weights": self._weights.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        self._masks.restore(state["masks"])
        self._weights.restore(state["weights"])


def claimed_samples(world: World, client: int, reply: Frame) -> int:
    """Return the number of samples that a reply claims; WireError if the client has another."""
    claimed = Metrics.unpack(reply.sections.get(Section.METRICS, b"")).samples
    expected = len(world.parts[client])
    if claimed != expected:
        raise WireError("metrics", f"client claims {claimed} samples, has {expected}")
    return claimed
