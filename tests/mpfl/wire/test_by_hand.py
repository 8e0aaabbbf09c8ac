"""Golden files against a second writer: docs/wire-format.md in plain Python, no line of `mpfl`.

Tables are those of the second reader (``reader.py``, which knows the page alone as well). What a
sender may choose (parameters of segments, tables, steps) is read from the file; everything that
follows from the choice is written anew, and the whole must be the file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pytest

from tests.mpfl.wire.reader import byte_table, integer_weights, table_of

FOLDER = Path(__file__).parents[2] / "golden" / "wire"

Table = tuple[list[int], list[int]]
"""Frequency and start of every symbol."""

# The fixed example of every file, as in cases.py.
LAYERS = (range(300), range(300, 377))
WITHIN = [(i * i * 3 + 7 * i) % 1009 % 2 == 0 for i in range(377)]
MASK = [keep and (i * i * 5 + 7 * i) % 1009 % 3 == 0 for i, keep in enumerate(WITHIN)]
CLASSES = [i * 31 % 101 % 3 for i in range(377)]
VALUES = [((i * 37) % 101 - 50) ** 3 / 2.0**20 for i in range(100)]
SEGMENTS = (range(60), range(0), range(60, 65), range(65, 100))
CONTEXTS = {"alone": (), "within": ("within",), "classes": ("classes",)}
CONTEXTS["both"] = ("within", "classes")


def golden(name: str) -> bytes:
    return bytes.fromhex((FOLDER / f"{name}.hex").read_text())


# --------------------------------------------------------------------------------------- frame


def varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes((low | 128,)) + varint(rest) if rest else bytes((low,))


def frame(kind: int, number: int, sections: dict[int, bytes]) -> bytes:
    table = b"".join(bytes((n,)) + varint(len(sections[n])) for n in sorted(sections))
    payloads = b"".join(sections[n] for n in sorted(sections))
    head = b"\xb5\x4d\x01" + bytes((kind,)) + varint(number) + bytes((len(sections),))
    whole = head + table + payloads
    return whole + struct.pack("<I", zlib.crc32(whole))


def test_a_frame_of_two_sections() -> None:
    sections = {2: golden("values-int4"), 1: golden("mask-rans-both")}
    assert frame(4, 70_000, sections) == golden("frame")


# --------------------------------------------------------------------------------------- masks


def mask_segments(context: str) -> list[list[bool]]:
    """Return the bits that are coded: by layer, then class, then position; none is empty."""
    known = CONTEXTS[context]
    found = []
    for layer in LAYERS:
        coded = [i for i in layer if WITHIN[i] or "within" not in known]
        for number in range(3) if "classes" in known else [None]:
            part = [MASK[i] for i in coded if number in (None, CLASSES[i])]
            found += [part] if part else []
    return found


def packed(bits: Sequence[bool]) -> bytes:
    return bytes(
        sum(bit << place for place, bit in enumerate(bits[start : start + 8]))
        for start in range(0, len(bits), 8)
    )


@pytest.mark.parametrize(
    ("context", "first", "segments"),
    [("alone", 0, "alone"), ("within", 0, "within"), ("classes", 128, "alone"),
     ("both", 128, "within")],
)  # fmt: skip
def test_a_raw_mask_sets_classes_aside(context: str, first: int, segments: str) -> None:
    bits = list(chain(*mask_segments(segments)))
    assert golden(f"mask-raw-{context}") == bytes((first,)) + packed(bits)


# ---------------------------------------------------------------------------------- rANS stream


def stream(sent: Sequence[tuple[int, Table]]) -> bytes:
    """Write symbols, each with its table, by a single lane: the receiver's steps undone."""
    state, words = 1, b""
    for symbol, (frequencies, starts) in reversed(sent):
        share, start = frequencies[symbol], starts[symbol]
        if state >= share << 17:  # the receiver will be below 2**16 and take a word
            state, words = state >> 16, struct.pack("<H", state & 0xFFFF) + words
        state = (state // share << 15) + start + state % share
    return b"\0" + state.to_bytes((state.bit_length() + 7) // 8, "little") + words


def levels(bits: Sequence[bool], q: int) -> list[list[tuple[int, Table]]]:
    """Return a segment's symbols with their tables, one list a level, from level 1 up."""
    if q >= 254:
        return []
    place, level, found = q // 2, [bit != bool(q % 2) for bit in bits], []
    depth = 1 + (place >= 20) + (place >= 44) + (place >= 68)
    for number in range(1, depth + 1):
        blocks, top = [level[i : i + 8] for i in range(0, len(level), 8)], number == depth
        level = [any(block) for block in blocks]
        sent = [block for block in blocks if top or any(block)]
        found.append([(packed(b)[0], byte_table(place, number, len(b), top)) for b in sent])
    return found


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_rans_mask(context: str) -> None:
    segments = mask_segments(context)
    parameters = golden(f"mask-rans-{context}")[1 : 1 + len(segments)]
    parts = [levels(bits, q) for bits, q in zip(segments, parameters, strict=True)]
    sent = [pair for top in (3, 2, 1, 0) for part in parts for pair in chain(*part[top : top + 1])]
    assert len(sent) > 20
    assert golden(f"mask-rans-{context}") == b"\2" + parameters + stream(sent)


# -------------------------------------------------------------------------------------- values


def upper_half(value: float) -> bytes:
    """Return a float32's upper half, rounded to nearest, ties to even."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    return struct.pack("<H", bits + 0x7FFF + (bits >> 16 & 1) >> 16)


def test_values_as_they_are() -> None:
    assert golden("values-float32") == struct.pack("<100f", *VALUES)
    assert golden("values-float16") == struct.pack("<100e", *VALUES)
    assert golden("values-bfloat16") == b"".join(map(upper_half, VALUES))


def read_tables(payload: bytes, parts: int) -> tuple[list[Table], int]:
    """Return the table of every part, and how many bytes say them."""
    known: list[Table] = []
    found, at = [], 0
    for _ in range(parts):
        number, at = payload[at], at + 1
        if number == 255:
            known.append(table_of(integer_weights(payload[at + 1 : at + 1 + payload[at]])))
            number, at = len(known) - 1, at + 1 + payload[at]
        found.append(known[number])
    return found, at


@pytest.mark.parametrize(("name", "largest"), [("int8", 127), ("int4", 7), ("ternary", 1)])
def test_integers_by_steps_tables_and_stream(name: str, largest: int) -> None:
    payload = golden(f"values-{name}-nearest-")
    steps = [struct.unpack("<f", b"\0\0" + payload[i : i + 2])[0] for i in range(0, 8, 2)]
    parts = [(part, step) for part, step in zip(SEGMENTS, steps, strict=True) if step]
    assert [len(part) for part, _ in parts] == [60, 5, 35]
    tables, length = read_tables(payload[8:], len(parts))
    sent = []
    for (part, step), of in zip(parts, tables, strict=True):
        nearest = [max(-largest, min(largest, round(VALUES[i] / step))) for i in part]
        sent += [(integer + 127, of) for integer in nearest]
    assert payload == payload[: 8 + length] + stream(sent)
