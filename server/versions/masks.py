"""The newest mask, and what leads each client from the one it holds to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mpfl.mask import Layout, Mask
from mpfl.recent import Recent
from mpfl.wire.masks import encode_mask, mask_bound_bits
from mpfl.wire.sections import SUBSET, Sync, mask_context

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

    def behind(self, clients: Iterable[int]) -> list[int]:
        """Return those of some clients that do not hold the newest mask."""
        return [client for client in clients if self.held.get(client, 0) != self.version]

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
