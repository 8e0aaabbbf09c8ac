"""Mask and Layout: algebra against NumPy, bits against hand-written bytes, damaged files."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from bitarray import bitarray
from hypothesis import given, settings
from hypothesis import strategies as st

from mpfl.mask import Layout, Mask


@st.composite
def layouts(draw):
    units = draw(st.lists(st.integers(1, 90), min_size=1, max_size=4))
    return Layout(tuple(f"layer{i}" for i in range(len(units))), tuple(units))


@st.composite
def masks(draw, count=1):
    layout = draw(layouts())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from([0.0, 0.05, 0.5, 1.0]))
    return [Mask.from_bools(layout, rng.random(layout.total) < share) for _ in range(count)]


SMALL = Layout(("a", "b"), (3, 8))
SMALL_KEEP = np.array([1, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1], np.bool_)


def test_bits_stand_little_endian_layer_after_layer_without_gaps():
    assert Mask.from_bools(SMALL, SMALL_KEEP).packed() == bytes([0b00011101, 0b00000110])


def test_file_is_magic_version_length_checksum_table_bits():
    table = b'{"names":["a","b"],"units":[3,8]}'
    body = table + bytes([0b00011101, 0b00000110])
    golden = b"MPFLMASK" + b"\x01" + struct.pack("<II", len(table), zlib.crc32(body)) + body
    assert Mask.from_bools(SMALL, SMALL_KEEP).to_bytes() == golden
    assert Mask.from_bytes(golden) == Mask.from_bools(SMALL, SMALL_KEEP)


@given(masks())
def test_packed_bools_layers_and_file_round_trip(drawn):
    (mask,) = drawn
    assert Mask.from_packed(mask.layout, mask.packed()) == mask
    assert Mask.from_bools(mask.layout, mask.bools()) == mask
    assert Mask.from_layers(mask.layers()) == mask
    assert Mask.from_bytes(mask.to_bytes()) == mask


@given(masks(count=2))
def test_algebra_equals_numpy_on_bools(drawn):
    a, b = drawn
    x, y = a.bools(), b.bools()
    np.testing.assert_array_equal((a & b).bools(), x & y)
    np.testing.assert_array_equal((a | b).bools(), x | y)
    np.testing.assert_array_equal((a ^ b).bools(), x ^ y)
    np.testing.assert_array_equal((~a).bools(), ~x)
    assert a.count() == x.sum()
    assert a.counts() == [int(part.sum()) for part in a.layout.split(x)]
    assert a.density() == x.mean()
    assert a.issubset(b) == bool((x <= y).all())
    union = (x | y).sum()
    assert a.jaccard(b) == ((x & y).sum() / union if union else 1.0)


@given(masks())
def test_padding_stays_zero_under_complement(drawn):
    (mask,) = drawn
    raised = np.unpackbits(np.frombuffer((~mask).packed(), np.uint8), bitorder="little")
    assert not raised[mask.layout.total :].any()
    assert (~mask).count() == mask.layout.total - mask.count()


def test_full_and_empty_are_complements():
    assert ~Mask.full(SMALL) == Mask.empty(SMALL)
    assert Mask.full(SMALL).density() == 1.0
    assert Mask.empty(SMALL).jaccard(Mask.empty(SMALL)) == 1.0


def test_equal_masks_hash_alike_and_layout_takes_part_in_digest_and_equality():
    renamed = Layout(("a", "c"), (3, 8))
    mask, other = Mask.from_bools(SMALL, SMALL_KEEP), Mask.from_bools(renamed, SMALL_KEEP)
    assert hash(mask) == hash(Mask.from_packed(SMALL, mask.packed()))
    assert mask != other
    assert mask.digest() != other.digest()
    assert mask.digest() == Mask.from_bytes(mask.to_bytes()).digest()
    assert "6 of 11" in repr(mask)


def test_a_pickled_mask_is_found_again_in_a_process_that_hashes_differently():
    mask = Mask.from_bools(SMALL, SMALL_KEEP)
    hash(mask)
    look = (
        "import pickle, sys; from mpfl.mask import Mask; "
        "mask = pickle.loads(sys.stdin.buffer.read()); "
        "print(mask in {Mask(mask.layout, mask.bits)})"
    )
    found = subprocess.run(
        [sys.executable, "-c", look], input=pickle.dumps(mask), capture_output=True, check=True
    )
    assert found.stdout.strip() == b"True"


def test_a_mask_does_not_change_with_the_bits_it_was_made_from():
    bits = bitarray("10110000000", endian="little")
    mask = Mask(SMALL, bits)
    bits.setall(1)
    assert mask.count() == 3
    with pytest.raises(TypeError):
        mask.bits[0] = 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mask.from_packed(SMALL, b"\x00"), "expected 2 mask bytes, got 1"),
        (lambda: Mask.from_packed(SMALL, b"\x00" * 3), "expected 2 mask bytes, got 3"),
        (lambda: Mask.from_packed(SMALL, b"\x00\x08"), "padding bits"),
        (lambda: Mask.from_bools(SMALL, np.ones(10, np.bool_)), "expected bool"),
        (lambda: Mask.from_bools(SMALL, np.ones(11, np.uint8)), "expected bool"),
        (lambda: Mask(SMALL, bitarray(11, endian="big")), "little-endian"),
        (lambda: Mask(SMALL, bitarray(12, endian="little")), "expected 11 mask bits, got 12"),
        (lambda: Layout(("a", "a"), (1, 1)), "distinct"),
        (lambda: Layout(("a",), (1, 1)), "one unit count per layer"),
        (lambda: Layout(("a",), (0,)), "at least one unit"),
        (lambda: SMALL.split(np.zeros(10)), "expected a vector of 11 units"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("operation", ["__and__", "__or__", "__xor__", "jaccard", "issubset"])
def test_masks_of_different_layouts_do_not_mix(operation):
    other = Mask.full(Layout(("a",), (11,)))
    with pytest.raises(ValueError):  # noqa: PT011 - the wording belongs to the mask
        getattr(Mask.full(SMALL), operation)(other)


def test_every_truncation_and_every_flipped_bit_of_a_file_is_refused():
    blob = Mask.from_bools(SMALL, SMALL_KEEP).to_bytes()
    for length in range(len(blob)):
        with pytest.raises(ValueError, match=r"mask"):
            Mask.from_bytes(blob[:length])
    for bit in range(8 * len(blob)):
        damaged = bytearray(blob)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match=r"mask"):
            Mask.from_bytes(bytes(damaged))
    with pytest.raises(ValueError, match="mask"):
        Mask.from_bytes(blob + b"\x00")


def _file(text: bytes, bits: bytes = b"\x00\x00") -> bytes:
    body = text + bits
    return b"MPFLMASK\x01" + struct.pack("<II", len(text), zlib.crc32(body)) + body


TABLE = "^mask file has a bad layer table: "


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (b"", TABLE + "Expecting value"),
        (b"null", TABLE + "'NoneType'"),
        (b"[]", TABLE + "list indices"),
        (b"{", TABLE + "Expecting property name"),
        (b"\xff", TABLE + "'utf-8' codec"),
        (b'{"names":["a"]}', TABLE + "'units'"),
        (b'{"names":["a"],"units":[1e999]}', TABLE + "units must be whole numbers"),
        (b'{"names":["a"],"units":["x"]}', TABLE + "units must be whole numbers"),
        (b'{"names":["a"],"units":[-3]}', TABLE + "every layer .* at least one unit"),
        (b'{"names":["a"],"units":[99]}', "^expected 13 mask bytes, got 2$"),
        (b'{"names":["a","b"],"units":[11]}', TABLE + ".* one unit count per layer"),
        (b'{"names":7,"units":[11]}', TABLE + "names and units must be lists"),
        (b'{"names":"a","units":[11]}', TABLE + "names and units must be lists"),
        (b'{"names":[],"units":[]}', TABLE + "0 layers, expected 1 to 65,535"),
        (b'{"names":["a\\u001b[31m"],"units":[11]}', TABLE + ".*x1b.*printable"),
        (b'{"names":["' + b"a" * 300 + b'"],"units":[11]}', TABLE + "a layer 'aaa.*200 printable"),
        (b'{"names":[["a"]],"units":[11]}', TABLE + r"a layer \['a'\]"),
        (b"[" * 100_000, TABLE + "maximum recursion depth"),
    ],
)
def test_a_bad_layer_table_with_a_right_checksum_is_refused(table, reason):
    with pytest.raises(ValueError, match=reason):
        Mask.from_bytes(_file(table))


@settings(max_examples=300)
@given(st.binary(max_size=80))
def test_arbitrary_bytes_never_raise_anything_but_value_error(blob):
    named = _file(json.dumps({"names": ["a"]}).encode(), blob)
    for candidate, reason in ((blob, "bad magic"), (_file(blob), TABLE), (named, TABLE)):
        with pytest.raises(ValueError, match=reason):
            Mask.from_bytes(candidate)
