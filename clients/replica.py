"""What a client holds of the common mask and model, and how a request moves it on."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfl.mask import Mask
from mpfl.network.footprint import Footprint
from mpfl.wire.errors import WireError
from mpfl.wire.frame import Frame, Section
from mpfl.wire.masks import decode_mask
from mpfl.wire.sections import SNAPSHOT, SUBSET, Sync, mask_context
from mpfl.wire.values import decode_values, value_codec
from mpfl.world import World

Floats = NDArray[np.float32]
State = dict[str, NDArray[np.generic]]


class Uninformed(Exception):  # noqa: N818 - an answer to the server, not a fault
    """The client does not hold the version that a request builds on."""


@dataclass(frozen=True)
class Replica:
    """The mask and, where a method exchanges weights, the public model after a request.

    Attributes
    ----------
    public
        float32[P + B]; outside the footprint parameters are zero and buffers those of w0.
    """

    sync: Sync
    mask: Mask
    footprint: Footprint
    public: Floats


def follow_mask(world: World, state: State, frame: Frame, sync: Sync) -> Mask:
    """Return the mask after a request and remember it in `state`.

    Raises
    ------
    Uninformed
        If the request builds on a mask that this client does not hold.
    WireError
        If the payload is damaged.
    """
    held, version = _held_mask(world, state)
    if sync.mask_version == version:
        return held
    held = _base_mask(world, state, sync.mask_base)
    if Section.MASK not in frame.sections:
        if sync.mask_version:
            raise WireError("mask", f"missing; needed for version {sync.mask_version}")
        return held
    mask = _decoded(world, held, bool(sync.flags & SUBSET), frame.sections[Section.MASK])
    for key, value in (("mask_before", held.packed()), ("mask", mask.packed())):
        state[key] = np.frombuffer(value, np.uint8)
    state["version_before"] = np.array([sync.mask_base], np.int64)
    if sync.mask_base == 0:
        del state["mask_before"], state["version_before"]  # everybody knows the full mask
    state["mask_version"] = np.array([sync.mask_version], np.int64)
    return mask


def follow(
    world: World, state: State, frame: Frame, codec: str, with_buffers: bool = True
) -> Replica:
    """Return mask and public model after a request; see `follow_mask` for errors.

    Parameters
    ----------
    with_buffers
        Whether buffers that are averaged travel among the values.
    """
    sync = Sync.unpack(frame.sections.get(Section.CONFIG, b""))
    before, _ = _held_mask(world, state)
    mask = follow_mask(world, state, frame, sync)
    with_buffers = with_buffers and world.travelling_buffers > 0
    footprint = Footprint.of(world.structure, mask, with_buffers)
    if mask != before:
        _refit(state, Footprint.of(world.structure, before, with_buffers), footprint)
    payload = frame.sections.get(Section.VALUES, b"")
    start = world.start(mask)[footprint.keep]
    public = _public(world, start, state, sync, payload, codec, footprint)
    full = np.zeros(footprint.keep.size, np.float32)
    full[world.structure.parameters.total :] = world.b0  # unless they travel
    full[footprint.keep] = public
    return Replica(sync, mask, footprint, full)


def _decoded(world: World, held: Mask, subset: bool, payload: bytes) -> Mask:
    """Decode a mask; all clients of a round are sent the same."""

    def decode() -> Mask:
        within, classes = mask_context(world.classes, held, subset)
        return decode_mask(payload, world.layout, within=within, classes=classes)

    return world.decoded.get((subset, held, payload), decode)


def _held_mask(world: World, state: State) -> tuple[Mask, int]:
    if "mask" not in state:
        return Mask.full(world.layout), 0
    return Mask.from_packed(world.layout, state["mask"].tobytes()), int(state["mask_version"][0])


def _base_mask(world: World, state: State, base: int) -> Mask:
    """Return the mask that a request builds on: the newest here, or the one it replaced.

    A reply may have been lost; then the server still builds on the mask before.
    """
    if base == 0:
        return Mask.full(world.layout)
    for mask, version in (("mask", "mask_version"), ("mask_before", "version_before")):
        if mask in state and int(state[version][0]) == base:
            return Mask.from_packed(world.layout, state[mask].tobytes())
    raise Uninformed(f"does not hold mask {base}, which the request builds on")


def _refit(state: State, old: Footprint, new: Footprint) -> None:
    for key in ("values", "residual"):
        if key in state:
            full = np.zeros(old.keep.size, np.float32)
            full[old.keep] = state[key]
            state[key] = full[new.keep]


def _public(
    world: World,
    start: Floats,
    state: State,
    sync: Sync,
    payload: bytes,
    codec: str,
    footprint: Footprint,
) -> Floats:
    if sync.values_version == 0:
        return start
    if sync.flags & SNAPSHOT:
        values = decode_values(payload, "float32", footprint.segments)
    elif not value_codec(codec).relative:
        return decode_values(payload, codec, footprint.segments)
    else:
        values = _apply_links(world, state, start, sync, payload, codec, footprint)
    state["values"] = values
    state["values_version"] = np.array([sync.values_version], np.int64)
    return values


def _apply_links(
    world: World,
    state: State,
    start: Floats,
    sync: Sync,
    payload: bytes,
    codec: str,
    footprint: Footprint,
) -> Floats:
    held = int(state["values_version"][0]) if "values_version" in state else 0
    if not sync.values_base <= held <= sync.values_version:
        held = 0
    if held < sync.values_base:
        raise Uninformed(f"holds values {held}, the request builds on {sync.values_base}")
    values = start if held == 0 else state["values"]
    links = list(_links(payload))
    if len(links) != sync.values_version - sync.values_base:
        raise WireError("values", f"{len(links)} updates do not lead to the announced version")
    for link in links[held - sync.values_base :]:
        values = values + _update(world, link, codec, footprint.segments)
    return values


def _update(world: World, link: bytes, codec: str, segments: tuple[int, ...]) -> Floats:
    """Decode an update; many clients are sent the same."""
    key = link, codec, segments
    return world.updates.get(key, lambda: decode_values(link, codec, segments))


def _links(payload: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(payload):
        if start + 4 > len(payload):
            raise WireError("values", "truncated update length")
        (length,) = struct.unpack_from("<I", payload, start)
        start += 4
        if start + length > len(payload):
            raise WireError("values", "truncated update")
        yield payload[start : start + length]
        start += length
