"""The newest model, and what leads each client from the version it holds to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mpfl.seeding import numpy_rng
from mpfl.wire.floats import float32_bytes
from mpfl.wire.sections import SNAPSHOT, Sync, join_links
from mpfl.wire.values import encode_values
from mpfl.wire.values.channel import Channel, Memory
from server.versions.catch_up import CatchUp, carried_over, lasting
from server.versions.masks import Offer

Floats = NDArray[np.float32]
_SNAPSHOTS = 4  # as long as these, updates that add up may be: their sum is far shorter


@dataclass
class Broadcaster:
    """The model that clients know, version by version.

    With an absolute codec a request carries the newest values. With a relative codec it
    carries the differences since the version the client holds (their sum, where they add up) or,
    where those are out of reach or longer, a float32 snapshot. What a biased codec loses is added
    to the next difference (`mpfl.wire.values.channel.Channel`).

    Attributes
    ----------
    public
        float32[P + B]: what a client at the newest version holds. That of version 0 needs no
        message.
    links, bounds
        Payloads that led to the last versions, and their entropy bounds in bytes; only the last
        one with an absolute codec, or one whose updates add up.
    updates
        Of the last versions, where they add up; see `server.versions.catch_up`.
    held
        The version that each client holds, where the codec is relative.
    memory
        What was lost on the way to the newest version, and what led there.
    """

    public: Floats
    version: int = 0
    links: list[bytes] = field(default_factory=list)
    bounds: list[float] = field(default_factory=list)
    updates: list[bytes] = field(default_factory=list)
    held: dict[int, int] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)

    def refit(self, channel: Channel, start: Floats, before: Channel, before_start: Floats) -> None:
        """Follow a new mask: dropped values become zero, regrown ones start from zero.

        Before the first version clients start from `start`.

        Parameters
        ----------
        before, before_start
            What travelled under the mask before, and where it started.
        """
        keep = channel.footprint.keep
        self.public = np.where(keep, self.public if self.version else start, np.float32(0))
        self.links, self.bounds = [], []
        from_start = len(self.updates) == self.version
        self.updates = carried_over(self.updates, before, channel)
        if self.updates and from_start and not np.array_equal(start[keep], before_start[keep]):
            self.updates.pop(0)  # it led on from another start
        self.memory.refit(before.footprint, channel.footprint)
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
        values = channel.read(payload, reference)
        self.public = self.public.copy()
        self.public[keep] = reference + values if channel.relative else values
        self.version += 1
        chain = channel.relative and channel.grid is None
        self.links = [*self.links, payload] if chain else [payload]
        self.bounds = [*self.bounds, bound] if chain else [bound]
        if channel.grid:
            self.updates.append(lasting(values, channel))
        snapshot_bytes = 4 * channel.footprint.count
        while chain and sum(map(len, self.links)) >= snapshot_bytes:
            self.links.pop(0)  # a snapshot is shorter, for whoever would need it
            self.bounds.pop(0)
        while sum(map(len, self.updates)) >= _SNAPSHOTS * snapshot_bytes:
            self.updates.pop(0)

    def offer(
        self, client: int, sync: Sync, channel: Channel, catch_up: CatchUp | None = None
    ) -> Offer:
        """Return what brings `client` to the newest values, its versions added to `sync`."""
        base = self.held.get(client, 0)
        sync = replace(sync, values_base=base, values_version=self.version)
        if base == self.version:
            return sync, b"", 0.0
        if not channel.relative:
            return sync, self.links[-1], self.bounds[-1]
        snapshot_bytes, missing = 4 * channel.footprint.count, self.version - base
        links, bound = _last(missing, self.links), sum(self.bounds[-missing:])
        if catch_up and not links:
            updates, public = _last(missing, self.updates), self.public[channel.footprint.keep]
            links, bound = catch_up.write(updates, channel, public, self.version)
        if links and sum(map(len, links)) < snapshot_bytes:
            return sync, join_links(links), bound
        sync = replace(sync, flags=sync.flags | SNAPSHOT)
        return sync, float32_bytes(self.public[channel.footprint.keep]), snapshot_bytes

    def confirm(self, client: int, channel: Channel) -> None:
        """Record that a client holds the newest version (only relative codecs leave any there)."""
        if channel.relative:
            self.held[client] = self.version

    def forget(self, client: int) -> None:
        """Record that the client lost its state."""
        self.held.pop(client, None)


def _last(count: int, payloads: list[bytes]) -> list[bytes]:
    """Return as many of the last payloads; none if there are fewer."""
    return payloads[-count:] if count <= len(payloads) else []
