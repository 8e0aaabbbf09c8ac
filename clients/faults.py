"""Faults that happen to a client's reply on its way out; `mpfl.faults.replies` says which."""

from __future__ import annotations

import struct
from dataclasses import replace

from clients.client import Client
from mpfl.faults.replies import LOSSES, fault_rng
from mpfl.methods import Codecs
from mpfl.wire.frame import Frame, Section, encode_frame
from mpfl.wire.sections import Metrics
from mpfl.wire.values import value_codec


class Lost(Exception):  # noqa: N818 - what happened to a reply, not an error of ours
    """The reply never reaches the server; the arguments are those of Flower's error."""


def spoil_reply(client: Client, fault: str, reply: Frame, earlier: bytes | None) -> bytes:
    """Return the bytes that reach the server instead of a reply.

    Parameters
    ----------
    fault
        One of `mpfl.faults.replies.FAULTS`; empty for none.
    earlier
        The client's reply of an earlier round; without one nothing can be replayed.

    Raises
    ------
    Lost
        If no bytes do.
    """
    if fault in LOSSES:
        raise Lost(*LOSSES[fault])
    if fault == "replay" and earlier is not None:
        return earlier
    rng = fault_rng(client.world.experiment, fault, reply.round, client.partition)
    rng.random()  # the draw that decided
    if fault == "wrong_round":
        step = 1 if rng.random() < 0.5 else -1
        reply = replace(reply, round=max(0, reply.round + step))
    elif fault == "not_finite":
        codec = value_codec(Codecs.of(client.world.experiment).up)
        reply = _not_finite(reply, codec.relative)
    blob = encode_frame(reply)
    if fault == "truncate":
        return blob[: int(rng.integers(len(blob)))]
    if fault == "corrupt":
        return flip(blob, int(rng.integers(8 * len(blob))))
    return blob


def flip(blob: bytes, bit: int) -> bytes:
    """Return `blob` with one bit flipped."""
    damaged = bytearray(blob)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def _not_finite(reply: Frame, quantised: bool) -> Frame:
    """Turn all floats into NaN (all ones, in any float format), or else the loss.

    Parameters
    ----------
    quantised
        Whether the values of this method's replies are differences in a codec, not floats.
    """
    sections = dict(reply.sections)
    kinds = (Section.SCORES,) if quantised else (Section.VALUES, Section.SCORES)
    floats = [section for section in kinds if sections.get(section)]
    for section in floats:
        sections[section] = b"\xff" * len(sections[section])
    if not floats and Section.METRICS in sections:
        samples = Metrics.unpack(sections[Section.METRICS]).samples
        sections[Section.METRICS] = struct.pack("<If", samples, float("nan"))
    return replace(reply, sections=sections)
