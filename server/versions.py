"""The newest mask and model, and what leads each client from the version it holds to them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mpfl.mask import Layout, Mask
from mpfl.network.footprint import Footprint
from mpfl.recent import Recent
from mpfl.seeding import numpy_rng
from mpfl.wire.floats import float32_bytes
from mpfl.wire.masks import encode_mask, mask_bound_bits
from mpfl.wire.sections import SNAPSHOT, SUBSET, Sync, join_links, mask_context
from mpfl.wire.values import encode_values
from mpfl.wire.values.channel import Channel, Memory

Floats = NDArray[np.float32]
Offer = tuple[Sync, bytes, float]
"""Versions, payload (empty where the client is up to date), entropy bound in bytes."""
_BASES = 64  # masks that clients of one round may hold before any is coded twice


class MaskCoder:
    """Writes masks for those who hold another one; many clients hold the same.

    Parameters
    ----------
    classes
        uint8[d]: statistics class of every unit, known to all.
    codec
        Mask codec.
    widths
        Units per row of each layer's weight matrix; codecs may use them.
    """

    def __init__(
        self, classes: NDArray[np.uint8], codec: str, widths: tuple[int, ...] | None = None
    ) -> None:
        self._classes, self._codec, self._widths = classes, codec, widths
        self._written: Recent[tuple[Mask, Mask], tuple[bool, bytes, float]] = Recent(_BASES)

    def write(self, mask: Mask, held: Mask) -> tuple[bool, bytes, float]:
        """Return whether the mask is a subset of the one held, payload and bound in bytes."""
        return self._written.get((mask, held), lambda: self._write(mask, held))

    def _write(self, mask: Mask, held: Mask) -> tuple[bool, bytes, float]:
        subset = mask.issubset(held)
        within, classes = mask_context(self._classes, held, subset)
        payload = encode_mask(
            mask, within=within, classes=classes, codec=self._codec, widths=self._widths
        )
        return subset, payload, mask_bound_bits(mask, within=within, classes=classes) / 8


@dataclass
class MaskLog:
    """The newest mask, the version each client holds, and the masks that some client holds.

    Attributes
    ----------
    masks
        By version; 0 is the full mask, which needs no message.
    held
        The version that each client holds, where that is not 0.
    """

    masks: dict[int, Mask]
    held: dict[int, int] = field(default_factory=dict)

    @classmethod
    def start(cls, layout: Layout) -> MaskLog:
        """Return the log of a run that begins."""
        return cls({0: Mask.full(layout)})

    @property
    def version(self) -> int:
        """Version of the newest mask."""
        return max(self.masks)

    @property
    def current(self) -> Mask:
        """The newest mask."""
        return self.masks[self.version]

    def advance(self, mask: Mask) -> None:
        """Make `mask` the newest; an equal mask is no new version."""
        if mask != self.current:
            version, needed = self.version + 1, {0, *self.held.values()}
            self.masks = {v: m for v, m in self.masks.items() if v in needed} | {version: mask}

    def offer(self, client: int, coder: MaskCoder) -> Offer:
        """Return what brings `client` to the newest mask."""
        base, version = self.held.get(client, 0), self.version
        if base == version:
            return Sync(mask_base=base, mask_version=base), b"", 0.0
        subset, payload, bound = coder.write(self.current, self.masks[base])
        return Sync(SUBSET if subset else 0, mask_base=base, mask_version=version), payload, bound

    def confirm(self, client: int) -> None:
        """Record that the client holds the newest mask."""
        self.held[client] = self.version

    def forget(self, client: int) -> None:
        """Record that the client lost its state."""
        self.held.pop(client, None)


@dataclass
class Broadcaster:
    """The model that clients know, version by version.

    With an absolute codec a request carries the newest values. With a relative codec it
    carries the differences since the version the client holds or, where those are out of
    reach or longer, a float32 snapshot. What a biased codec loses is added to the next
    difference (`mpfl.wire.values.channel.Channel`).

    Attributes
    ----------
    public
        float32[P + B]: what a client at the newest version holds. That of version 0 needs no
        message.
    links, bounds
        Payloads that led to the last versions, and their entropy bounds in bytes; only the last
        one with an absolute codec.
    held
        The version that each client holds, where the codec is relative.
    memory
        What was lost on the way to the newest version, and what led there.
    """

    public: Floats
    version: int = 0
    links: list[bytes] = field(default_factory=list)
    bounds: list[float] = field(default_factory=list)
    held: dict[int, int] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)

    def refit(self, channel: Channel, start: Floats, before: Footprint | None = None) -> None:
        """Follow a new mask: dropped values become zero, regrown ones start from zero.

        Before the first version clients start from `start`.

        Parameters
        ----------
        before
            What travelled under the mask before.
        """
        keep = channel.footprint.keep
        self.public = np.where(keep, self.public if self.version else start, np.float32(0))
        self.links, self.bounds = [], []
        if before is not None:
            self.memory.refit(before, channel.footprint)
        if self.version and not channel.relative:
            values = self.public[keep]
            payload = encode_values(values, channel.codec, channel.footprint.segments)
            self.links, self.bounds = [payload], [channel.bound(payload, values)]

    def publish(self, model: Floats, channel: Channel, seed: int, progress: float = 0.0) -> None:
        """Make `model` (float32[P + B]) the newest version, as far as the codec can say it."""
        keep, version = channel.footprint.keep, self.version + 1
        rng = numpy_rng(seed, "downlink", version)
        reference = self.public[keep]
        self.append(channel.write(model[keep], reference, rng, self.memory, progress), channel)

    def append(self, payload: bytes, channel: Channel) -> None:
        """Make what `payload` leads to the newest version; it is what clients will decode."""
        keep = channel.footprint.keep
        reference = self.public[keep]
        bound = channel.bound(payload, reference)
        self.public = self.public.copy()
        self.public[keep] = channel.arrived(payload, reference)
        self.version += 1
        chain = channel.relative
        self.links = [*self.links, payload] if chain else [payload]
        self.bounds = [*self.bounds, bound] if chain else [bound]
        while chain and sum(map(len, self.links)) >= 4 * channel.footprint.count:
            self.links.pop(0)  # a snapshot is shorter, for whoever would need it
            self.bounds.pop(0)

    def offer(self, client: int, sync: Sync, channel: Channel) -> Offer:
        """Return what brings `client` to the newest values, its versions added to `sync`."""
        base = self.held.get(client, 0)
        sync = replace(sync, values_base=base, values_version=self.version)
        if base == self.version:
            return sync, b"", 0.0
        if not channel.relative:
            return sync, self.links[-1], self.bounds[-1]
        snapshot_bytes, missing = 4 * channel.footprint.count, self.version - base
        links = self.links[-missing:] if missing <= len(self.links) else []
        if links and sum(map(len, links)) < snapshot_bytes:
            payload = join_links(links)
            return sync, payload, sum(self.bounds[-missing:])
        sync = replace(sync, flags=sync.flags | SNAPSHOT)
        return sync, float32_bytes(self.public[channel.footprint.keep]), snapshot_bytes

    def confirm(self, client: int, channel: Channel) -> None:
        """Record that a client holds the newest version (only relative codecs leave any there)."""
        if channel.relative:
            self.held[client] = self.version

    def forget(self, client: int) -> None:
        """Record that the client lost its state."""
        self.held.pop(client, None)
