"""What a request says about versions, and which values travel: shared by clients and server.

Both sides start from what needs no message: mask version 0 is the full mask, values version 0
is w0 under the mask. The server raises a version with every new mask or model; a request
carries what leads from the version its client holds to the newest one.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfl.config import Experiment, WireConfig
from mpfl.mask import Layout, Mask
from mpfl.network.layers import Structure
from mpfl.registry import parse_spec
from mpfl.wire.errors import WireError
from mpfl.world import World

SUBSET = 1
"""Flag: the new mask is a subset of the one the client holds."""
SNAPSHOT = 2
"""Flag: the values are float32 and complete, whatever the codec."""


@dataclass(frozen=True)
class Codecs:
    """How a method writes weights; both of its halves must name the same.

    Attributes
    ----------
    uplink, downlink
        Value codecs, as in `mpfl.wire.values`.
    feedback
        Whether a client adds what a lossy uplink lost to its next update.
    """

    uplink: str = "float32"
    downlink: str = "float32"
    feedback: bool = False

    @classmethod
    def of(cls, wire: WireConfig) -> Codecs:
        """Return what the configuration asks for."""
        return cls(wire.uplink_values, wire.downlink_values, wire.error_feedback)


FLOAT32 = Codecs()
"""32 bits per value, both ways."""
INT8 = Codecs("int8", "int8")
"""Eight bits per difference, rounded stochastically, both ways; unbiased, so no feedback."""


def topk_codecs(experiment: Experiment) -> Codecs:
    """Return those of ``topk``: the largest entries up, with feedback; all that changed down."""
    return Codecs(f"sparse({experiment.comparator.topk_fraction})", "sparse", feedback=True)


def split_floats(payload: bytes, count: int) -> tuple[NDArray[np.float32], bytes]:
    """Return `count` float32 from the front of a payload, and the rest; WireError if too short."""
    if len(payload) < 4 * count:
        raise WireError("values", f"got {len(payload)} bytes, too few for {count} buffers")
    values = np.frombuffer(payload[: 4 * count], "<f4").astype(np.float32)
    if not np.isfinite(values).all():
        raise WireError("values", "a buffer is not finite")
    return values, payload[4 * count :]


_BITS = {"float32": 32, "float16": 16, "bfloat16": 16, "int8": 8, "int4": 4, "int3": 3,
         "ternary": 2, "step": 8, "sign": 1}  # fmt: skip


def formula_bytes(codec: str, count: int) -> float:
    """Return what a paper would say that `count` values cost: nominal bits, nothing coded.

    A sparse value counts with a 32-bit index, but never more than a dense vector.
    """
    name, arguments = parse_spec(codec)
    if name == "sparse":
        return min(8.0 * float(arguments[0]) if arguments else 4.0, 4.0) * count
    return _BITS.get(name, 32) / 8 * count


_SYNC = struct.Struct("<BHHHHH")
_METRICS = struct.Struct("<If")


@dataclass(frozen=True)
class Sync:
    """The config section of a request.

    Eleven bytes, little-endian: flags u8, then u16 each: mask version the client holds, mask
    version after the request, values version held, values version after, step (the number of
    weight rounds before this one).
    """

    flags: int = 0
    mask_base: int = 0
    mask_version: int = 0
    values_base: int = 0
    values_version: int = 0
    step: int = 0

    def pack(self) -> bytes:
        """Return the 11 bytes."""
        return _SYNC.pack(
            self.flags,
            self.mask_base,
            self.mask_version,
            self.values_base,
            self.values_version,
            self.step,
        )

    @classmethod
    def unpack(cls, blob: bytes) -> Sync:
        """Read the 11 bytes; WireError on any other length or unknown flags."""
        if len(blob) != _SYNC.size:
            raise WireError("config", f"expected {_SYNC.size} bytes, got {len(blob)}")
        sync = cls(*_SYNC.unpack(blob))
        if sync.flags & ~(SUBSET | SNAPSHOT):
            raise WireError("config", f"unknown flags {sync.flags:#x}")
        return sync


@dataclass(frozen=True)
class Metrics:
    """The metrics section of a reply: 8 bytes, samples u32 and mean local loss f32."""

    samples: int
    loss: float

    def pack(self) -> bytes:
        """Return the 8 bytes."""
        return _METRICS.pack(self.samples, self.loss)

    @classmethod
    def unpack(cls, blob: bytes) -> Metrics:
        """Read the 8 bytes; WireError on another length, no samples, or no finite loss."""
        if len(blob) != _METRICS.size:
            raise WireError("metrics", f"expected {_METRICS.size} bytes, got {len(blob)}")
        metrics = cls(*_METRICS.unpack(blob))
        if metrics.samples < 1:
            raise WireError("metrics", "a client without samples cannot reply")
        if not math.isfinite(metrics.loss):
            raise WireError("metrics", f"the loss is {metrics.loss}")
        return metrics


def mask_context(
    classes: NDArray[np.uint8], base: Mask, subset: bool
) -> tuple[Mask | None, NDArray[np.uint8]]:
    """Return (within, classes) to code a mask with, given the mask the receiver holds.

    A subset is coded over the surviving units only; otherwise all units are coded and those
    inside and outside `base` have separate statistics.
    """
    if subset:
        return base, classes
    return None, (classes * 2 + base.bools()).astype(np.uint8)


@dataclass(frozen=True)
class Footprint:
    """Which entries of parameters and buffers travel, and how they are cut into tensors.

    Attributes
    ----------
    keep
        bool[P + B] over parameters and then buffers.
    segments
        Surviving entries per tensor, zero-length ones left out (codecs scale per segment).
    buffers
        How many entries of buffers travel, after all others.
    """

    keep: NDArray[np.bool_]
    segments: tuple[int, ...]
    buffers: int = 0

    @classmethod
    def of(cls, structure: Structure, mask: Mask, with_buffers: bool) -> Footprint:
        """Return what survives `mask`; buffers travel only if asked."""
        parameters = structure.parameter_mask(mask)
        buffers = structure.buffer_mask(mask) & with_buffers
        counts = [
            int(part[tensors.place(name)[0]].sum())
            for part, tensors in (
                (parameters, structure.parameters),
                (buffers, structure.buffers),
            )
            for name in tensors.names
        ]
        segments = tuple(c for c in counts if c)
        return cls(np.concatenate([parameters, buffers]), segments, int(buffers.sum()))

    @property
    def count(self) -> int:
        """Entries that travel."""
        return sum(self.segments)


def parameter_layout(world: World) -> Layout:
    """Return the layout of masks that have one bit for every parameter, tensor after tensor."""
    tensors = world.structure.parameters
    sizes = tuple(tensors.place(name)[0] for name in tensors.names)
    return Layout(tensors.names, tuple(part.stop - part.start for part in sizes))


def travelling_buffers(world: World) -> int:
    """Return how many buffer entries the clients and the server exchange."""
    aggregate = world.experiment.model.batch_norm == "aggregate"
    return world.structure.buffers.total if aggregate else 0


def share_classes(levels: NDArray[np.uint8], top: int) -> NDArray[np.uint8]:
    """Return the statistics classes of masks drawn around the shares levels / top: at most 32."""
    if top < 32:
        return levels
    return (levels.astype(np.uint16) * 31 // top).astype(np.uint8)
