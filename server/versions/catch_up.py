"""What several versions of a model changed, as one message: for codecs whose updates add up."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mpfl.mask import Mask
from mpfl.recent import Recent
from mpfl.wire.values import decode_values
from mpfl.wire.values.base import NOTHING_KNOWN
from mpfl.wire.values.channel import Channel, refitted
from mpfl.wire.values.grid import EXACT_BELOW

Floats = NDArray[np.float32]
Place = tuple[int, Mask, int]
"""Newest version, mask, and how many of the last updates."""
Sum = tuple[Floats, Floats]
"""Of updates, and of the magnitudes on the way."""
Written = tuple[list[bytes], float]
_BASES = 64  # versions that clients of one round may hold before any sum is written twice
_VALUES = 1 << 24  # 64 MiB of sums


def lasting(update: Floats, channel: Channel) -> bytes:
    """Return an update in a form that is read without knowing what it was an update of.

    Empty where the codec does not add up, or float32 may round its sums.
    """
    if channel.grid is None or np.abs(update).max(initial=0.0) >= EXACT_BELOW:
        return b""
    (payload,) = channel.grid.exact(update, channel.footprint.segments, NOTHING_KNOWN)
    return payload


def carried_over(updates: Sequence[bytes], before: Channel, after: Channel) -> list[bytes]:
    """Return what lasting updates under one mask change under the next, which must be part of it.

    None where it is not, or the codec does not add up.
    """
    old, new = before.footprint, after.footprint
    if after.grid is None or not (old.keep >= new.keep).all():
        return []
    moves = [refitted(_read(one, before), old, new) if one else None for one in updates]
    return [b"" if move is None else lasting(move, after) for move in moves]


class CatchUp:
    """Adds updates up for those who missed them; many clients missed the same, or nearly."""

    def __init__(self) -> None:
        self._sums: Recent[Place, Sum] = Recent(_VALUES, lambda pair: 2 * pair[0].size)
        self._written: Recent[Place, Written] = Recent(_BASES)

    def write(
        self, updates: Sequence[bytes], channel: Channel, arrived: Floats, version: int
    ) -> Written:
        """Return payloads that say at once what lasting updates did, and their bound in bytes.

        A receiver reads all of them against what it holds, and adds their sum. There are none
        where float32 may round a sum on the way.

        Parameters
        ----------
        updates
            The last ones, up to the newest version.
        arrived
            float32[n], where they led: the newest version.
        """
        if channel.grid is None or not updates or not all(updates):
            return [], 0.0
        place = version, channel.footprint.mask, len(updates)
        return self._written.get(place, lambda: self._write(updates, channel, arrived, version))

    def _write(
        self, updates: Sequence[bytes], channel: Channel, arrived: Floats, version: int
    ) -> Written:
        total, reach = np.zeros_like(arrived), np.abs(arrived)
        for count, update in enumerate(reversed(updates), 1):
            place = version, channel.footprint.mask, count
            total, reach = self._sums.get(place, partial(_added, total, reach, update, channel))
        if channel.grid is None or reach.max(initial=0.0) >= EXACT_BELOW:
            return [], 0.0
        held = arrived - total
        payloads = channel.grid.exact(total, channel.footprint.segments, channel.context(held))
        return payloads, sum(channel.bound(payload, held) for payload in payloads)


def _added(total: Floats, reach: Floats, update: bytes, channel: Channel) -> Sum:
    move = _read(update, channel)
    return total + move, reach + np.abs(move)


def _read(update: bytes, channel: Channel) -> Floats:
    return decode_values(update, channel.codec, channel.footprint.segments)
