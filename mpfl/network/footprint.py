"""Which entries of a model travel under a mask, and how they are cut into tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfl.mask import Mask
from mpfl.network.layers import Structure


@dataclass(frozen=True)
class Footprint:
    """Which entries of parameters and buffers travel, and how they are cut into tensors.

    Attributes
    ----------
    mask
        What it is the footprint of.
    keep
        bool[P + B] over parameters and then buffers.
    segments
        Surviving entries per tensor, zero-length ones left out (codecs scale per segment).
    shapes
        The shape of each such tensor, () where only part of it travels.
    tensors
        The shapes of all tensors, whether anything of them travels or not.
    buffers
        How many entries of buffers travel, after all others.
    """

    mask: Mask
    keep: NDArray[np.bool_]
    segments: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    tensors: tuple[tuple[int, ...], ...]
    buffers: int = 0

    @classmethod
    def of(cls, structure: Structure, mask: Mask, with_buffers: bool) -> Footprint:
        """Return what survives `mask` and may have changed; buffers travel only if asked."""
        parameters = structure.parameter_mask(mask) & structure.moving_parameters
        buffers = structure.buffer_mask(mask) & structure.moving_buffers & with_buffers
        parts = [
            (int(part[where].sum()), where.stop - where.start, shape)
            for part, tensors in (
                (parameters, structure.parameters),
                (buffers, structure.buffers),
            )
            for where, shape in map(tensors.place, tensors.names)
        ]
        segments = tuple(count for count, _, _ in parts if count)
        shapes = tuple(shape if count == size else () for count, size, shape in parts if count)
        keep = np.concatenate([parameters, buffers])
        tensors = tuple(shape for _, _, shape in parts)
        return cls(mask, keep, segments, shapes, tensors, int(buffers.sum()))

    @property
    def count(self) -> int:
        """Entries that travel."""
        return sum(self.segments)
