"""Golden files against a second writer: docs/wire-format.md in plain Python, no line of `mpfl`.

Tables are those of the second reader (``reader.py``, which knows the page alone as well). What a
sender may choose (parameters of segments, tables, steps) is read from the file; everything that
follows from the choice is written anew, and the whole must be the file.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.mpfl.wire.reader import best_levels, byte_table, integer_weights, read_bits, table_of

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


# ------------------------------------------------------------- one magnitude a segment: stc, sbc


def rans_mask(parts: Sequence[list[bool]], parameters: bytes) -> bytes:
    """Return the payload of a rANS mask of these segments; their parameters are the sender's."""
    each = [levels(bits, q) for bits, q in zip(parts, parameters, strict=True)]
    sent = [pair for top in (3, 2, 1, 0) for part in each for pair in chain(*part[top : top + 1])]
    return b"\2" + parameters + stream(sent)


def places(chosen: Sequence[tuple[float, set[int]]], payload: bytes) -> bytes:
    """Return a magnitude a segment and the mask over those that are not 0."""
    scales = struct.pack(f"<{len(chosen)}f", *(scale for scale, _ in chosen))
    bits = [[i in some for i in part] for part, (scale, some) in zip(SEGMENTS, chosen, strict=True)
            if scale]  # fmt: skip
    return scales + rans_mask(bits, payload[len(scales) + 1 : len(scales) + 1 + len(bits)])


def largest(part: range, sizes: dict[int, float]) -> set[int]:
    """Return the tenth of a segment that is largest, rounded up, without zeros; ties by index."""
    count = -(-len(part) // 10)
    return set(sorted((i for i in part if sizes[i] > 0), key=lambda i: (-sizes[i], i))[:count])


def mean(sizes: dict[int, float], some: set[int]) -> float:
    return sum(sizes[i] for i in some) / len(some) if some else 0.0


def test_stc_keeps_the_largest_of_each_segment() -> None:
    sizes = {i: abs(value) for i, value in enumerate(VALUES)}
    chosen = [(mean(sizes, some), some) for some in (largest(part, sizes) for part in SEGMENTS)]
    payload = golden("values-stc-0-1-")
    written = places(chosen, payload[1:])
    kept = sorted(i for _, some in chosen for i in some)
    assert len(kept) == 6 + 1 + 4
    signs = packed([VALUES[i] > 0 for i in kept])
    assert payload == varint(len(written)) + written + signs


def test_sbc_keeps_the_largest_of_the_heavier_sign() -> None:
    chosen = []
    for part in SEGMENTS:
        plus, minus = (
            {i: max(sign * value, 0.0) for i, value in enumerate(VALUES)} for sign in (1, -1)
        )
        up, down = largest(part, plus), largest(part, minus)
        heavier = mean(minus, down) > mean(plus, up)
        chosen.append((-mean(minus, down), down) if heavier else (mean(plus, up), up))
    assert {scale > 0 for scale, some in chosen if some} == {True, False}
    payload = golden("values-sbc-0-1-")
    assert payload == places(chosen, payload)


# ----------------------------------------------------------------------------------------- eden


def hadamard(values: list[float]) -> list[float]:
    """Return the transform by its definition: signs are the parity of what indices share."""
    return [
        sum(-x if (i & j).bit_count() % 2 else x for j, x in enumerate(values))
        for i in range(len(values))
    ]


def nearest_share(share: float) -> int:
    """Return the number of the share nearest to this one, of two the greater share."""
    shares = [(16 - s % 8) / 2 ** (4 + s // 8) for s in range(255)]
    return min(range(255), key=lambda s: (abs(shares[s] - share), s))


def level_payload(sent: Sequence[int], top: int) -> bytes:
    counts = [sent.count(level) for level in range(top + 1)]
    shares = [nearest_share(count / len(sent)) if count else 255 for count in counts]
    weights = [0.0 if s == 255 else (16 - s % 8) / 2 ** (4 + s // 8) for s in shares]
    table = table_of(weights)
    return bytes((top, *shares)) + stream([(level, table) for level in sent])


@pytest.mark.parametrize("bits", [0.5, 1, 2])
def test_eden_rounds_what_it_has_rotated(bits: float) -> None:
    payload = golden(f"values-eden-{str(bits).replace('.', '-')}-")
    (seed,) = struct.unpack_from("<I", payload)
    best = best_levels(round(2 ** max(bits, 1)))
    edges = [(low + high) / 2 for low, high in pairwise(best)]
    size, scales, sent = 128, [], list[int]()
    for number, part in enumerate(part for part in SEGMENTS if part):  # a block each, filled up
        data = hashlib.shake_128(struct.pack("<II", seed, number)).digest(size // 4 + 2 * size)
        signs = [1 - 2 * bit for bit in read_bits(data, 2 * size)]
        block = [VALUES[i] for i in part] + [0.0] * (size - len(part))
        turned = hadamard([x * sign for x, sign in zip(block, signs[:size], strict=True)])
        turned = hadamard([x * sign for x, sign in zip(turned, signs[size:], strict=True)])
        rotated = [x / size for x in turned]
        norm = math.sqrt(sum(x * x for x in block))
        chosen = [sum(x / norm * math.sqrt(size) > edge for edge in edges) for x in rotated]
        product = sum(x * best[level] for x, level in zip(rotated, chosen, strict=True))
        scales.append(norm**2 / product / min(bits, 1))
        draws = struct.unpack(f"<{size}H", data[size // 4 :])
        sent += [level for level, draw in zip(chosen, draws, strict=True)
                 if bits >= 1 or draw < round(65536 * bits)]  # fmt: skip
    assert struct.unpack("<3f", payload[4:16]) == pytest.approx(scales, rel=1e-6)
    assert payload == payload[:16] + level_payload(sent, len(best) - 1)


# -------------------------------------------------------------------------------------- lowrank


def test_low_rank_is_one_step_of_the_power_iteration() -> None:
    draws = np.random.Generator(np.random.PCG64(5))  # the sender's, and so what it starts from
    numbers = list[float]()
    for part, rows in zip(SEGMENTS, (12, 0, 0, 7), strict=True):
        if not rows:
            numbers += [VALUES[i] for i in part]
            continue
        columns = len(part) // rows
        matrix = [[VALUES[part[i * columns + j]] for j in range(columns)] for i in range(rows)]
        start = draws.standard_normal(columns).tolist()
        left = [sum(x * y for x, y in zip(row, start, strict=True)) for row in matrix]
        norm = math.sqrt(sum(x * x for x in left))
        left = [x / norm for x in left]
        right = [sum(matrix[i][j] * left[i] for i in range(rows)) for j in range(columns)]
        numbers += left + right
    assert golden("values-lowrank-1-") == struct.pack(f"<{len(numbers)}f", *numbers)
