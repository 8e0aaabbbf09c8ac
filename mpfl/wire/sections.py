"""What the sections of frames say beside masks and values: versions, metrics, contexts.

Both sides start from what needs no message: mask version 0 is the full mask, values version 0
is w0 under the mask. The server raises a version with every new mask or model; a request
carries what leads from the version its client holds to the newest one.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mpfl.mask import Mask
from mpfl.recent import Fixed
from mpfl.wire.errors import WireError
from mpfl.wire.floats import check_floats

SUBSET = 1
"""Flag: the new mask is a subset of the one the client holds."""
SNAPSHOT = 2
"""Flag: the values are float32 and complete, whatever the codec."""

_SYNC = struct.Struct("<BHHHHH")
_LONG_SYNC = struct.Struct("<BIIIII")
_SHORT_LIMIT = 0xFFFF
_METRICS = struct.Struct("<If")
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Sync:
    """The config section of a request.

    Eleven bytes, little-endian: flags u8, then u16 each: mask version the client holds, mask
    version after the request, values version held, values version after, step (the number of
    weight rounds before this one). From 65,536 on, all five are u32: 21 bytes.
    """

    flags: int = 0
    mask_base: int = 0
    mask_version: int = 0
    values_base: int = 0
    values_version: int = 0
    step: int = 0

    def pack(self) -> bytes:
        """Return the 11 or 21 bytes."""
        return (_LONG_SYNC if self._long else _SYNC).pack(self.flags, *self._numbers)

    @property
    def _numbers(self) -> tuple[int, ...]:
        versions = self.mask_base, self.mask_version, self.values_base, self.values_version
        return *versions, self.step

    @property
    def _long(self) -> bool:
        return max(self._numbers) > _SHORT_LIMIT

    @classmethod
    def unpack(cls, blob: bytes) -> Sync:
        """Read what `pack` wrote; WireError on another length or form, or unknown flags."""
        forms = {form.size: form for form in (_SYNC, _LONG_SYNC)}
        if len(blob) not in forms:
            raise WireError("config", f"expected {sorted(forms)} bytes, got {len(blob)}")
        sync = cls(*forms[len(blob)].unpack(blob))
        if sync.flags & ~(SUBSET | SNAPSHOT):
            raise WireError("config", f"unknown flags {sync.flags:#x}")
        if sync._long != (len(blob) == _LONG_SYNC.size):
            raise WireError("config", "not in its shorter form")
        return sync


@dataclass(frozen=True)
class Metrics:
    """The metrics section of a reply: 8 bytes, samples u32 and mean local loss f32."""

    samples: int
    loss: float

    def pack(self) -> bytes:
        """Return the 8 bytes."""
        return _METRICS.pack(self.samples, self.loss + 0.0)  # no -0

    @classmethod
    def unpack(cls, blob: bytes) -> Metrics:
        """Read the 8 bytes; WireError on another length, no samples, or no finite loss."""
        if len(blob) != _METRICS.size:
            raise WireError("metrics", f"expected {_METRICS.size} bytes, got {len(blob)}")
        metrics = cls(*_METRICS.unpack(blob))
        if metrics.samples < 1:
            raise WireError("metrics", "a client without samples cannot reply")
        if not math.isfinite(metrics.loss) or metrics.pack() != blob:
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
    return None, _inside_and_outside(Fixed.of(classes), base)


@lru_cache(maxsize=2)  # all ballots of a round have the same
def _inside_and_outside(classes: Fixed, base: Mask) -> NDArray[np.uint8]:
    refined: NDArray[np.uint8] = classes.vector * np.uint8(2)
    refined += base.bools()
    refined.setflags(write=False)
    return refined


def join_links(links: Iterable[bytes]) -> bytes:
    """Return what leads from version to version, each behind its length (four bytes)."""
    return b"".join(_LENGTH.pack(len(link)) + link for link in links)


def links_of(payload: bytes) -> Iterator[bytes]:
    """Give what leads from version to version, one after another; WireError if it is cut short."""
    start = 0
    while start < len(payload):
        if start + _LENGTH.size > len(payload):
            raise WireError("values", "truncated update length")
        (length,) = _LENGTH.unpack_from(payload, start)
        start += _LENGTH.size
        if start + length > len(payload):
            raise WireError("values", "truncated update")
        yield payload[start : start + length]
        start += length


def split_floats(payload: bytes, count: int) -> tuple[NDArray[np.float32], bytes]:
    """Return `count` float32 from the front of a payload, and the rest; WireError if too short."""
    if len(payload) < 4 * count:
        raise WireError("values", f"got {len(payload)} bytes, too few for {count} buffers")
    values = np.frombuffer(payload[: 4 * count], "<f4").astype(np.float32)
    check_floats(values, "values")
    return values, payload[4 * count :]


def share_classes(levels: NDArray[np.uint8], top: int) -> NDArray[np.uint8]:
    """Return the statistics classes of masks drawn around the shares levels / top: at most 32."""
    if top < 32:
        return levels
    return (levels.astype(np.uint16) * 31 // top).astype(np.uint8)
