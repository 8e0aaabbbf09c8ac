"""What a client holds of the common mask and model, and how a request moves it on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfl.mask import Mask
from mpfl.network.footprint import Footprint
from mpfl.training.posterior import BetaPosterior
from mpfl.wire.errors import WireError
from mpfl.wire.frame import Frame, Section
from mpfl.wire.masks import decode_mask
from mpfl.wire.sections import SNAPSHOT, SUBSET, Sync, links_of, mask_context
from mpfl.wire.values import decode_values
from mpfl.wire.values.channel import Channel, Memory, refitted
from mpfl.world import World

Floats = NDArray[np.float32]


@dataclass(slots=True)
class ClientState:
    """What a client keeps from one message to the next; a new one holds nothing.

    It has these fields and no others: what else a method sets is an AttributeError, not lost.

    Attributes
    ----------
    masks
        By version: the newest and the one it replaced, because the server builds on that one
        where a reply was lost. Version 0, the full mask, is known to all.
    values
        By version: what travelled of the newest public model, where only differences do, and of the
        one it was built on, where a sum of differences does.
    sent
        What its updates have lost so far, and the last of them.
    buffers
        Its own running statistics, float32[B].
    posterior
        Of masks drawn at random, where clients work it out themselves.
    own
        What else a method keeps: arrays by name, such as control variates.
    """

    masks: dict[int, Mask] = field(default_factory=dict)
    values: dict[int, Floats] = field(default_factory=dict)
    sent: Memory = field(default_factory=Memory)
    buffers: Floats | None = None
    posterior: BetaPosterior | None = None
    own: dict[str, NDArray[Any]] = field(default_factory=dict)


class Uninformed(Exception):  # noqa: N818 - an answer to the server, not a fault
    """The client does not hold the version that a request builds on."""


@dataclass(frozen=True)
class Replica:
    """The mask and, where a method exchanges weights, the public model after a request.

    Attributes
    ----------
    step
        Rounds of weight training before this one.
    public
        float32[P + B]; outside the footprint see `World.untravelled`.
    """

    step: int
    mask: Mask
    footprint: Footprint
    public: Floats


def follow_mask(world: World, state: ClientState, frame: Frame) -> Mask:
    """Return the mask after a request and remember it in `state`.

    Raises
    ------
    Uninformed
        If the request builds on a mask that this client does not hold.
    WireError
        If the payload is damaged, or there where none is due.
    """
    masks, sync = _held_masks(world, state), frame.sync
    base, version = sync.mask_base, sync.mask_version
    if base == version:
        frame.check_sections((), set(Section) - {Section.MASK})
    if sync.flags & SUBSET and Section.MASK not in frame.sections:
        raise WireError("config", "a subset without a mask")
    if version == max(masks):
        return masks[version]
    if base not in masks:
        raise Uninformed(f"does not hold mask {base}, which the request builds on")
    if Section.MASK not in frame.sections:
        if version:
            raise WireError("mask", f"missing; needed for version {version}")
        return masks[base]
    mask = _decoded(world, masks[base], bool(sync.flags & SUBSET), frame.sections[Section.MASK])
    state.masks = {base: masks[base], version: mask} if base else {version: mask}
    return mask


def follow(
    world: World,
    state: ClientState,
    frame: Frame,
    with_buffers: bool = True,
    codec: str | None = None,
) -> Replica:
    """Return mask and public model after a request; see `follow_mask` for errors.

    Parameters
    ----------
    with_buffers
        Whether buffers that are averaged travel among the values.
    codec
        How the values are written, where that is not ``wire.down``.
    """
    frame.check_sections({Section.CONFIG}, {Section.MASK, Section.VALUES})
    masks = _held_masks(world, state)
    before = masks[max(masks)]
    mask = follow_mask(world, state, frame)
    footprint = world.footprint(mask, with_buffers)
    if mask != before:
        _refit(state, world.footprint(before, with_buffers), footprint)
    channel = world.channel("down", footprint) if codec is None else Channel(codec, footprint)
    public = _public(state, world, world.start(mask)[footprint.keep], frame, channel)
    full = world.untravelled(mask)
    full[footprint.keep] = public
    return Replica(frame.sync.step, mask, footprint, full)


def _held_masks(world: World, state: ClientState) -> dict[int, Mask]:
    return {0: Mask.full(world.layout), **state.masks}


def _decoded(world: World, held: Mask, subset: bool, payload: bytes) -> Mask:
    """Decode a mask; all clients of a round are sent the same."""

    def decode() -> Mask:
        within, classes = mask_context(world.classes, held, subset)
        mask = decode_mask(payload, world.layout, within=within, classes=classes)
        if not subset and mask.issubset(held):
            raise WireError("config", "a subset that is not said to be one")
        return mask

    return world.decoded.get((subset, held, payload), decode)


def _refit(state: ClientState, old: Footprint, new: Footprint) -> None:
    state.values = {version: refitted(values, old, new) for version, values in state.values.items()}
    state.sent.refit(old, new)


def _public(
    state: ClientState, world: World, start: Floats, frame: Frame, channel: Channel
) -> Floats:
    """Return what travels of the public model; differences are remembered in `state`."""
    sync, payload = frame.sync, values_of(frame)
    if payload and sync.values_version == sync.values_base:
        raise WireError("values", "there, but the version is the one before")
    if sync.flags & SNAPSHOT and not (payload and channel.relative):
        raise WireError("config", "a snapshot without values, or of a codec that knows no other")
    if sync.values_version == 0:
        return start
    if not channel.relative:
        return channel.read(payload, start)
    kept = {n: v for n, v in state.values.items() if channel.grid and n == sync.values_base}
    if sync.flags & SNAPSHOT:
        newest = decode_values(payload, "float32", channel.footprint.segments)
    else:
        follow_values = _by_sum if channel.grid else _by_links
        newest = follow_values(state, world, start, frame, channel)
    state.values = {**kept, sync.values_version: newest}
    return newest


def _by_links(
    state: ClientState, world: World, start: Floats, frame: Frame, channel: Channel
) -> Floats:
    """Return the newest values, one update after another; some of them may be there already."""
    sync, links = frame.sync, list(links_of(values_of(frame)))
    version, values = _base(state, sync, start)
    if len(links) != sync.values_version - sync.values_base:
        raise WireError("values", f"{len(links)} updates do not lead to the announced version")
    for number, link in enumerate(links[version - sync.values_base :], version):
        values = values + _update(world, link, channel, number, values)
    return values


def _by_sum(
    state: ClientState, world: World, start: Floats, frame: Frame, channel: Channel
) -> Floats:
    """Return the newest values: those of the base and the sum of all updates, if not there yet."""
    base, version = frame.sync.values_base, frame.sync.values_version
    links = list(links_of(values_of(frame)))
    if bool(links) != (base != version):
        raise WireError("values", f"{len(links)} updates do not lead to the announced version")
    if version in state.values:
        return state.values[version]
    if base and base not in state.values:
        raise Uninformed(f"does not hold version {base} of the values")
    held = state.values.get(base, start)
    total = np.zeros_like(held)
    for link in links:
        total += _update(world, link, channel, base, held)
    return held + total


def values_of(frame: Frame) -> bytes:
    """Return the VALUES of a request, empty where there are none; WireError if they are, too."""
    payload = frame.sections.get(Section.VALUES)
    if payload == b"":
        raise WireError("values", "there, but empty")
    return payload or b""


def _base(state: ClientState, sync: Sync, start: Floats) -> tuple[int, Floats]:
    """Return version and values to go on from; a client may already hold some of the links."""
    for version, values in state.values.items():
        if sync.values_base <= version <= sync.values_version:
            return version, values
    if sync.values_base:
        raise Uninformed(f"holds no values that lead on from version {sync.values_base}")
    return 0, start


def _update(world: World, link: bytes, channel: Channel, version: int, held: Floats) -> Floats:
    """Decode an update of what everybody holds at a version; many clients are sent the same."""
    key = link, version, channel.footprint.segments
    return world.updates.get(key, lambda: channel.read(link, held))
