"""The newest mask and model, and what leads each client from the version it holds to them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfl.mask import Layout, Mask
from mpfl.network.footprint import Footprint
from mpfl.seeding import numpy_rng
from mpfl.wire.masks import encode_mask, mask_bound_bits
from mpfl.wire.sections import SNAPSHOT, SUBSET, Sync, mask_context
from mpfl.wire.values import decode_values, encode_values, value_codec, values_bound_bytes

Floats = NDArray[np.float32]
Offer = tuple[Sync, bytes, float]
"""Versions, payload (empty where the client is up to date), entropy bound in bytes."""


class MaskLog:
    """The newest mask, the version each client holds, and the masks that some client holds.

    Parameters
    ----------
    classes
        uint8[d]: statistics class of every unit, known to all.
    codec
        Mask codec.
    widths
        Units per row of each layer's weight matrix; codecs may use them.

    Attributes
    ----------
    version
        Version of the newest mask (0: the full mask, which needs no message).
    """

    def __init__(
        self,
        layout: Layout,
        classes: NDArray[np.uint8],
        codec: str,
        widths: tuple[int, ...] | None = None,
    ) -> None:
        self._classes, self._codec, self._widths = classes, codec, widths
        self._masks = {0: Mask.full(layout)}
        self.version = 0
        self.held: dict[int, int] = {}
        self._cache: dict[tuple[int, int], Offer] = {}

    @property
    def current(self) -> Mask:
        """The newest mask."""
        return self._masks[self.version]

    @property
    def versions(self) -> list[int]:
        """Versions whose masks are kept: what clients hold, and the newest."""
        return sorted(self._masks)

    def advance(self, mask: Mask) -> None:
        """Make `mask` the newest; an equal mask is no new version."""
        if mask != self.current:
            needed = {0, *self.held.values()}
            self._masks = {v: m for v, m in self._masks.items() if v in needed}
            self.version += 1
            self._masks[self.version] = mask
            self._cache.clear()

    def offer(self, client: int) -> Offer:
        """Return what brings `client` to the newest mask."""
        base = self.held.get(client, 0)
        if base == self.version:
            return Sync(mask_base=base, mask_version=base), b"", 0.0
        key = base, self.version
        if key not in self._cache:
            self._cache[key] = self._encode(base)
        return self._cache[key]

    def _encode(self, base: int) -> Offer:
        held = self._masks[base]
        subset = self.current.issubset(held)
        within, classes = mask_context(self._classes, held, subset)
        payload = encode_mask(
            self.current, within=within, classes=classes, codec=self._codec, widths=self._widths
        )
        bound = mask_bound_bits(self.current, within=within, classes=classes) / 8
        sync = Sync(SUBSET if subset else 0, mask_base=base, mask_version=self.version)
        return sync, payload, bound

    def confirm(self, client: int, version: int) -> None:
        """Record that the client holds `version`."""
        self.held[client] = version

    def forget(self, client: int) -> None:
        """Record that the client lost its state."""
        self.held.pop(client, None)

    def state(self) -> dict[str, Any]:
        """Return everything `restore` needs, as arrays."""
        packed = [np.frombuffer(self._masks[v].packed(), np.uint8) for v in self.versions]
        return {
            "masks": np.stack(packed),
            "versions": np.array(self.versions, np.int64),
            "held": _pairs(self.held),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        layout = self.current.layout
        rows = zip(state["versions"], state["masks"], strict=True)
        self._masks = {int(v): Mask.from_packed(layout, row.tobytes()) for v, row in rows}
        self.version = max(self._masks)
        self.held = _unpairs(state["held"])
        self._cache.clear()


class Broadcaster:
    """The model that clients know, version by version.

    With an absolute codec a request carries the newest values. With a relative codec it
    carries the differences since the version the client holds or, where those are out of
    reach or longer, a float32 snapshot. What a lossy codec loses stays in the difference of
    the next version: nothing is ever dropped.

    Parameters
    ----------
    public
        float32[P + B] of version 0, which needs no message.

    Attributes
    ----------
    public
        What a client at the newest version holds.
    """

    def __init__(self, codec: str, seed: int, public: Floats, footprint: Footprint) -> None:
        self.codec, self._seed = codec, seed
        self.relative = value_codec(codec).relative
        self.public = np.where(footprint.keep, public, np.float32(0))
        self.footprint = footprint
        self.version = 0
        self._chain_start = 0
        self._chain: list[bytes] = []
        self.held: dict[int, int] = {}

    def refit(self, footprint: Footprint) -> None:
        """Follow a new mask: dropped values become zero, regrown ones start from zero."""
        self.public = np.where(footprint.keep, self.public, np.float32(0))
        self.footprint = footprint
        self._chain_start, self._chain = self.version, []
        if self.version and not self.relative:
            survivors = self.public[footprint.keep]
            self._chain = [encode_values(survivors, self.codec, footprint.segments)]

    def publish(self, model: Floats) -> None:
        """Make `model` (float32[P + B]) the newest version, as far as the codec can say it."""
        keep, segments = self.footprint.keep, self.footprint.segments
        reference = self.public[keep] if self.relative else np.float32(0)
        rng = numpy_rng(self._seed, "downlink", self.version + 1)
        payload = encode_values(model[keep] - reference, self.codec, segments, rng)
        self.append(payload)

    def append(self, payload: bytes) -> None:
        """Make what `payload` leads to the newest version; it is what clients will decode."""
        keep, segments = self.footprint.keep, self.footprint.segments
        reference = self.public[keep] if self.relative else np.float32(0)
        self.public = self.public.copy()
        self.public[keep] = reference + decode_values(payload, self.codec, segments)
        self.version += 1
        if not self.relative:
            self._chain = []
        self._chain.append(payload)
        while self.relative and sum(map(len, self._chain)) >= 4 * self.footprint.count:
            self._chain.pop(0)  # a snapshot is shorter, for whoever would need it
            self._chain_start += 1

    def offer(self, client: int, sync: Sync) -> Offer:
        """Return what brings `client` to the newest values, its versions added to `sync`."""
        base = self.held.get(client, 0) if self.relative else min(self.version, 1) - 1
        sync = replace(sync, values_base=max(base, 0), values_version=self.version)
        if self.version in (0, base):
            return sync, b"", 0.0
        if not self.relative:
            return sync, self._chain[-1], self._bound(self._chain[-1])
        snapshot_bytes = 4 * self.footprint.count
        links = self._chain[base - self._chain_start :] if base >= self._chain_start else []
        if links and sum(map(len, links)) < snapshot_bytes:
            payload = b"".join(struct.pack("<I", len(link)) + link for link in links)
            return sync, payload, sum(map(self._bound, links))
        sync = replace(sync, flags=sync.flags | SNAPSHOT)
        return sync, self.public[self.footprint.keep].astype("<f4").tobytes(), snapshot_bytes

    def _bound(self, payload: bytes) -> float:
        return values_bound_bytes(payload, self.codec, self.footprint.segments)

    def confirm(self, client: int, version: int) -> None:
        """Record that a client holds `version` (only relative codecs leave anything there)."""
        if self.relative:
            self.held[client] = version

    def forget(self, client: int) -> None:
        """Record that the client lost its state."""
        self.held.pop(client, None)

    def state(self) -> dict[str, Any]:
        """Return everything `restore` needs, as arrays; the footprint follows from the mask."""
        lengths = np.array([len(link) for link in self._chain], np.int64)
        return {
            "public": self.public,
            "version": np.array([self.version, self._chain_start], np.int64),
            "chain": np.frombuffer(b"".join(self._chain), np.uint8),
            "chain_lengths": lengths,
            "held": _pairs(self.held),
        }

    def restore(self, state: Mapping[str, Any], footprint: Footprint) -> None:
        """Take over what `state` returned."""
        self.public, self.footprint = state["public"], footprint
        self.version, self._chain_start = (int(v) for v in state["version"])
        edges = np.cumsum(state["chain_lengths"])[:-1]
        parts = np.split(state["chain"], edges) if len(state["chain_lengths"]) else []
        self._chain = [part.tobytes() for part in parts]
        self.held = _unpairs(state["held"])


def _pairs(held: Mapping[int, int]) -> NDArray[np.int64]:
    return np.array(sorted(held.items()), np.int64).reshape(-1, 2)


def _unpairs(pairs: NDArray[np.int64]) -> dict[int, int]:
    return {int(client): int(version) for client, version in pairs}
