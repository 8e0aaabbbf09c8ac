"""Damaged and hostile bytes: decoded correctly or refused with WireError, and nothing else."""

import importlib.util
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from mpfl.mask import Layout, Mask
from mpfl.wire import (
    MASK_CODECS,
    Frame,
    Kind,
    Section,
    ValueContext,
    WireError,
    decode_frame,
    decode_mask,
    decode_values,
    encode_frame,
    encode_mask,
    encode_values,
)


def _load(path):
    spec = importlib.util.spec_from_file_location("wire_cases", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cases = _load(Path(__file__).parent / "cases.py")
QUICK, FULL = 5_000, 200_000


def seeds():
    """One frame for every pair of mask payload and value payload of the fixed examples."""
    masks = [
        (mask_codec, context, cases.mask_payload(mask_codec, context))
        for mask_codec in [*MASK_CODECS.names(), "auto"]
        for context in cases.CONTEXTS
    ]
    values = [(spec, cases.value_payload(spec)) for spec in cases.VALUE_SPECS]
    for i in range(max(len(masks), len(values))):
        _, context, mask = masks[i % len(masks)]
        spec, value = values[i % len(values)]
        frame = Frame(Kind.UPDATE, i * 1000, {Section.MASK: mask, Section.VALUES: value})
        yield encode_frame(frame), context, spec


def mutate(blob, others, rng):
    """Return a damaged copy: flipped, overwritten, cut, grown, spliced, doubled or random."""
    work = bytearray(blob)
    kind = rng.integers(8)
    place = int(rng.integers(len(work)))
    if kind == 0:
        for _ in range(rng.integers(1, 5)):
            work[rng.integers(len(work))] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        work[place] = rng.choice([0, 1, 127, 128, 254, 255])
    elif kind == 2:
        del work[place:]
    elif kind == 3:
        work[place:place] = rng.bytes(rng.integers(1, 9))
    elif kind == 4:
        other = others[rng.integers(len(others))]
        work[place:] = other[int(rng.integers(len(other))) :]
    elif kind == 5:
        work[place:] = b"\xff" * int(rng.integers(1, 12)) + work[place:]
    elif kind == 6:
        del work[place : place + int(rng.integers(1, 9))]
    else:
        work[place:] = rng.bytes(len(work) - place)
    return bytes(work)


def reseal(blob):
    """Give a damaged frame the right checksum, so that what is behind it is put to the test."""
    return blob[:-4] + zlib.crc32(blob[:-4]).to_bytes(4, "little")


def receive(blob, context, spec):
    """Decode all of a message; True if it was accepted."""
    try:
        frame = decode_frame(blob)
        assert encode_frame(frame) == blob  # one message, one encoding
        if Section.MASK in frame.sections:
            payload = frame.sections[Section.MASK]
            mask = decode_mask(payload, cases.LAYOUT, **cases.CONTEXTS[context])
            within = cases.CONTEXTS[context].get("within")
            assert mask.layout == cases.LAYOUT
            assert within is None or mask.issubset(within)
        if Section.VALUES in frame.sections:
            payload = frame.sections[Section.VALUES]
            values = decode_values(payload, spec, cases.SEGMENTS, context=cases.SHAPES)
            assert values.shape == (100,)
            assert np.isfinite(values).all()
    except WireError:
        return False
    return True


@pytest.mark.parametrize("count", [QUICK, pytest.param(FULL, marks=pytest.mark.slow)])
def test_damaged_messages_are_decoded_or_refused(count):
    rng = np.random.default_rng(count)
    originals = list(seeds())
    blobs = [blob for blob, _, _ in originals]
    assert all(receive(*original) for original in originals)
    unsealed = accepted = 0
    for i in range(count):
        blob, context, spec = originals[i % len(originals)]
        damaged = mutate(blob, blobs, rng)
        if i % 4 and len(damaged) > 4:
            accepted += receive(reseal(damaged), context, spec)
        elif damaged not in blobs:
            unsealed += receive(damaged, context, spec)
    assert unsealed == 0  # the checksum notices whatever was not done on purpose
    assert 0 < accepted < count / 2


def peak_of(function):
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("claim", [2**20, 2**30, 2**62])
def test_lengths_in_a_short_frame_allocate_nothing(claim):
    length = b""
    while claim > 127:
        length += bytes((claim & 127 | 128,))
        claim >>= 7
    length += bytes((claim,))
    body = b"\xb5M\x01\x02\x00\x01\x01" + length + b"abc"
    blob = body + zlib.crc32(body).to_bytes(4, "little")
    assert peak_of(lambda: decode_frame(blob)) < 20_000


def refusals(payload, decode, rng, count=60):
    """Damage a payload many times; returns how often it was refused.

    What is not refused must mean something else than the undamaged payload.
    """
    whole, refused = decode(payload), 0
    for _ in range(count):
        damaged = mutate(payload, [payload], rng)
        try:
            assert damaged == payload or not np.array_equal(decode(damaged), whole)
        except WireError:
            refused += 1
    return refused


@pytest.mark.parametrize("codec", MASK_CODECS.names())
def test_a_large_payload_cut_or_flipped_anywhere_is_refused_or_another_one(codec):
    rng = np.random.default_rng(1)
    layout = Layout(("a", "b"), (40_000, 20_000))
    mask = Mask.from_bools(layout, rng.random(layout.total) < 0.3)
    payload = encode_mask(mask, codec=codec, widths=(200, 100))
    refused = refusals(payload, lambda blob: decode_mask(blob, layout).bools(), rng)
    assert refused > 15


@pytest.mark.parametrize("spec", [
    "float32", "int4", "sparse(0.1)", "sign", "stc(0.05)", "sbc(0.05)", "eden(1)", "eden(0.3)",
    "lowrank(4)", "lowrank(4)|int4",
])  # fmt: skip
def test_a_large_value_payload_cut_or_flipped_anywhere_is_refused_or_another_one(spec):
    rng = np.random.default_rng(2)
    values = rng.standard_normal(60_000).astype(np.float32)
    known = ValueContext(shapes=((300, 200),))
    payload = encode_values(values, spec, (60_000,), rng, context=known)
    refused = refusals(
        payload, lambda blob: decode_values(blob, spec, (60_000,), context=known), rng
    )
    assert refused > 15
