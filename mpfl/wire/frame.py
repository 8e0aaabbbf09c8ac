"""The frame around every message: kind, round, sections, checksum. See docs/wire-format.md."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from mpfl.wire.errors import WireError
from mpfl.wire.sections import Sync
from mpfl.wire.varint import decode_varint, encode_varint

MAGIC = b"\xb5M"
VERSION = 1
MAX_BYTES = 1 << 30
"""Frames longer than this are refused unless the caller says otherwise."""
MAX_ROUND = 2**32 - 1
RECORD = BLOB = "m"
"""A Flower message carries a frame as one bytes value under this key of a record of this name."""

_CHECKSUM_BYTES = 4
_SHORTEST = len(MAGIC) + 4 + _CHECKSUM_BYTES  # version, kind, round, section count


class Kind(IntEnum):
    """What a message is."""

    MASK_REQUEST = 1
    """Server to client: the global mask; asks for a ballot."""
    BALLOT = 2
    """Client to server: the client's mask."""
    TRAIN_REQUEST = 3
    """Server to client: values to start from; asks for an update."""
    UPDATE = 4
    """Client to server: what a round of training came to, as values or as a mask."""
    SCORE_REQUEST = 5
    """Server to client: asks for importance scores."""
    SCORES = 6
    """Client to server: importance scores."""
    REFUSAL = 7
    """Client to server: it does not hold what the request builds on; no section."""


class Section(IntEnum):
    """What a part of a message holds; a message has at most one of each."""

    MASK = 1
    VALUES = 2
    SCORES = 3
    METRICS = 4
    CONFIG = 5


@dataclass(frozen=True)
class Frame:
    """One message.

    Attributes
    ----------
    kind
        What the message is.
    round
        Round number, 0 to 2^32 - 1.
    sections
        Payload of each section that is present; an empty payload is not an absent one.
    """

    kind: Kind
    round: int
    sections: Mapping[Section, bytes]

    @cached_property
    def sync(self) -> Sync:
        """What the CONFIG section of a request says; WireError if it cannot be read."""
        return Sync.unpack(self.sections.get(Section.CONFIG, b""))

    def check_sections(self, needed: Collection[Section], also: Collection[Section] = ()) -> None:
        """Raise WireError unless the sections are the needed ones, and perhaps some of `also`."""
        missing = set(needed) - set(self.sections)
        if missing:
            raise WireError("sections", f"{self.kind.name} without {_names(missing)}")
        others = set(self.sections) - {*needed, *also}
        if others:
            raise WireError("sections", f"{self.kind.name} with {_names(others)}: nobody asked")


def encode_frame(frame: Frame) -> bytes:
    """Return the bytes of a message.

    They are 10 bytes more than its payloads, and 2 to 6 for each section, and 0 to 4 for a round
    above 127. ValueError if the round is out of range.
    """
    if not 0 <= frame.round <= MAX_ROUND:
        raise ValueError(f"round: got {frame.round}, expected 0 to {MAX_ROUND}")
    sections = sorted((Section(key), bytes(body)) for key, body in frame.sections.items())
    parts = [MAGIC, bytes((VERSION, Kind(frame.kind)))]
    parts += [encode_varint(frame.round), bytes((len(sections),))]
    parts += [bytes((key,)) + encode_varint(len(body)) for key, body in sections]
    parts += [body for _, body in sections]
    blob = b"".join(parts)
    return blob + zlib.crc32(blob).to_bytes(_CHECKSUM_BYTES, "little")


def decode_frame(blob: bytes, *, max_bytes: int = MAX_BYTES) -> Frame:
    """Read what `encode_frame` wrote, and nothing else.

    Every message has exactly one encoding: ``encode_frame(decode_frame(b)) == b``.

    Raises
    ------
    WireError
        If the frame is longer than `max_bytes`, truncated, damaged, of another version, or not
        in its one legal form.
    """
    _check_envelope(blob, max_bytes)
    end = len(blob) - _CHECKSUM_BYTES
    body = blob[:end]
    if body[3] not in _KINDS:
        raise WireError("kind", f"unknown kind {body[3]}")
    round_, position = decode_varint(body, 4, "round", MAX_ROUND)
    table, position = _read_table(body, position)
    if position + sum(length for _, length in table) != end:
        raise WireError("sections", "their lengths do not add up to the length of the frame")
    sections = {}
    for key, length in table:
        sections[key] = body[position : position + length]
        position += length
    return Frame(Kind(body[3]), round_, sections)


def section_bytes(frame: Frame) -> dict[str, int]:
    """Return the bytes of each section by lower-case name, and ``framing`` for the rest.

    They add up to the length of the encoded frame.
    """
    sizes = {Section(key).name.lower(): len(body) for key, body in frame.sections.items()}
    table = sum(1 + len(encode_varint(size)) for size in sizes.values())
    sizes["framing"] = _SHORTEST - 1 + len(encode_varint(frame.round)) + table
    return sizes


def _names(sections: Collection[Section]) -> str:
    return ", ".join(section.name for section in sorted(sections))


_KINDS = frozenset(Kind)
_SECTIONS = frozenset(Section)


def _check_envelope(blob: bytes, max_bytes: int) -> None:
    if len(blob) > max_bytes:
        raise WireError("length", f"{len(blob)} bytes are above the limit of {max_bytes}")
    if len(blob) < _SHORTEST:
        raise WireError("length", f"{len(blob)} bytes are too few for a frame")
    if blob[:2] != MAGIC:
        raise WireError("magic", f"got {bytes(blob[:2]).hex()}, expected {MAGIC.hex()}")
    if blob[2] != VERSION:
        raise WireError("version", f"got {blob[2]}, expected {VERSION}")
    checksum = int.from_bytes(blob[-_CHECKSUM_BYTES:], "little")
    if zlib.crc32(memoryview(blob)[:-_CHECKSUM_BYTES]) != checksum:
        raise WireError("checksum", "the frame is truncated or damaged")


def _read_table(body: bytes, position: int) -> tuple[list[tuple[Section, int]], int]:
    if position >= len(body):
        raise WireError("sections", "the frame ends before their count")
    count, position = body[position], position + 1
    table: list[tuple[Section, int]] = []
    for _ in range(count):
        if position >= len(body):
            raise WireError("sections", "the frame ends inside their table")
        key = body[position]
        if key not in _SECTIONS:
            raise WireError("sections", f"unknown section {key}")
        if table and key <= table[-1][0]:
            raise WireError("sections", f"section {key} is repeated or out of order")
        field = f"sections.{Section(key).name.lower()}"
        length, position = decode_varint(body, position + 1, field, len(body))
        table.append((Section(key), length))
    return table, position
