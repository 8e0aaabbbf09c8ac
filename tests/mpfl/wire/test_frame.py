"""The frame: golden bytes written by hand, round trips, and what is refused."""

import pickle
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfl.wire import Frame, Kind, Section, WireError, decode_frame, encode_frame, section_bytes

FRAMES = st.builds(
    Frame,
    kind=st.sampled_from(Kind),
    round=st.integers(0, 2**32 - 1),
    sections=st.dictionaries(st.sampled_from(Section), st.binary(max_size=200)),
)


def sealed(hexadecimal: str) -> bytes:
    body = bytes.fromhex(hexadecimal)
    return body + zlib.crc32(body).to_bytes(4, "little")


def test_golden_bytes_by_hand():
    frame = Frame(Kind.BALLOT, 300, {Section.METRICS: b"\x07", Section.MASK: b"\x00\xff"})
    expected = "b54d 01 02 ac02 02 0102 0401 00ff 07"
    assert encode_frame(frame) == sealed(expected)
    assert decode_frame(sealed(expected)) == frame


@given(FRAMES)
def test_round_trip(frame):
    blob = encode_frame(frame)
    assert decode_frame(blob) == frame
    sizes = section_bytes(frame)
    assert sum(sizes.values()) == len(blob)
    assert sizes["framing"] == len(blob) - sum(map(len, frame.sections.values()))


def test_overhead_of_two_large_sections_is_at_most_24_bytes():
    frame = Frame(Kind.UPDATE, 99999, {Section.MASK: bytes(10**6), Section.VALUES: bytes(10**6)})
    assert section_bytes(frame)["framing"] <= 24


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("b54e 01 02 00 00", "magic"),
        ("b54d 02 02 00 00", "version"),
        ("b54d 01 00 00 00", "kind"),
        ("b54d 01 08 00 00", "kind"),
        ("b54d 01 02 8000 00", "round"),  # zero in two bytes
        ("b54d 01 02 ffffffff1f 00", "round"),  # above 2^32 - 1
        ("b54d 01 02 ffff", "round"),  # ends inside
        ("b54d 01 02 808001", "sections"),  # no count
        ("b54d 01 02 00 01", "sections"),  # count, but no table
        ("b54d 01 02 00 01 00 00", "sections"),
        ("b54d 01 02 00 01 06 00", "sections"),
        ("b54d 01 02 00 02 0100 0100", "sections"),  # repeated
        ("b54d 01 02 00 02 0200 0100", "sections"),  # out of order
        ("b54d 01 02 00 01 01 ffffffffffffffffff01", "sections.mask"),
        ("b54d 01 02 00 01 01 8100 aa", "sections.mask"),  # length not in shortest form
        ("b54d 01 02 00 01 01 02 aa", "sections"),  # a byte short
        ("b54d 01 02 00 01 01 01 aabb", "sections"),  # a byte too many
        ("b54d 01 02 00 00 00", "sections"),
    ],
)
def test_illegal_frames_are_refused_naming_the_field(body, field):
    with pytest.raises(WireError) as caught:
        decode_frame(sealed(body))
    assert caught.value.field == field


@given(FRAMES, st.data())
def test_every_truncation_and_extension_is_refused(frame, data):
    blob = encode_frame(frame)
    with pytest.raises(WireError):
        decode_frame(blob[: data.draw(st.integers(0, len(blob) - 1))])
    with pytest.raises(WireError):
        decode_frame(blob + data.draw(st.binary(min_size=1)))


@given(FRAMES, st.data())
def test_every_flipped_bit_is_noticed(frame, data):
    blob = bytearray(encode_frame(frame))
    bit = data.draw(st.integers(0, 8 * len(blob) - 1))
    blob[bit // 8] ^= 1 << bit % 8
    with pytest.raises(WireError):
        decode_frame(bytes(blob))


def test_a_frame_above_the_limit_is_refused_before_it_is_read():
    blob = encode_frame(Frame(Kind.BALLOT, 0, {Section.MASK: bytes(100)}))
    assert decode_frame(blob, max_bytes=len(blob)).round == 0
    with pytest.raises(WireError, match="above the limit") as caught:
        decode_frame(blob, max_bytes=len(blob) - 1)
    assert caught.value.field == "length"


@pytest.mark.parametrize("round_", [-1, 2**32])
def test_a_round_out_of_range_cannot_be_sent(round_):
    with pytest.raises(ValueError, match="round"):
        encode_frame(Frame(Kind.BALLOT, round_, {}))


def test_the_error_survives_pickling():
    error = pickle.loads(pickle.dumps(WireError("round", "too big")))
    assert (error.field, str(error)) == ("round", "round: too big")
