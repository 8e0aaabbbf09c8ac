"""Decoding takes at most four times what it gives: bools for masks, float32 for values.

That is on top of a constant, of the payload once more (some of it is copied), and with all that
is worked out on the way, such as which units a mask in common leaves.
"""

import resource
import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest

from mpfl.mask import Layout, Mask
from mpfl.wire import (
    MASK_CODECS,
    ValueContext,
    WireError,
    decode_mask,
    decode_values,
    encode_mask,
    encode_values,
)
from mpfl.wire.entropy.levels import decode_levels, encode_levels

UNITS = (700_000, 299_990, 10)
TOTAL = sum(UNITS)
LAYOUT = Layout(("a", "b", "c"), UNITS)
CONSTANT = 1 << 19
CLAIM = b"\xff\xff\xff\xff\xff\xff\xff\x3f"
RNG = np.random.default_rng(0)
WITHIN = Mask.from_bools(LAYOUT, RNG.random(TOTAL) < 0.9)
CLASSES = RNG.integers(0, 16, TOTAL).astype(np.uint8)
CONTEXTS: dict[str, dict[str, Any]] = {
    "alone": {},
    "within": {"within": WITHIN},
    "classes": {"classes": CLASSES},
    "both": {"within": WITHIN, "classes": CLASSES},
}
VALUE_SPECS = ("float32", "float16", "bfloat16", "int8", "int4(nearest)", "int3", "ternary",
               "step(1)", "sparse(0.05)", "sparse", "sign", "stc(0.05)", "sbc(0.05)", "eden(1)",
               "eden(0.3)", "eden(3)", "lowrank(4)")  # fmt: skip


def peak_of(function, refused=False):
    tracemalloc.start()
    try:
        if refused:
            with pytest.raises(WireError):
                function()
        else:
            function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def mask_like(context):
    odds = np.exp(np.tile(np.random.default_rng(1).normal(-2, 1.5, 1000), 1000))
    bools = np.random.default_rng(2).random(TOTAL) < odds / (1 + odds)
    within = CONTEXTS[context].get("within")
    return Mask.from_bools(LAYOUT, bools if within is None else bools & within.bools())


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("codec", ["auto", *MASK_CODECS.names()])
def test_masks(codec, context):
    mask, known = mask_like(context), CONTEXTS[context]
    payload = encode_mask(mask, codec=codec, widths=(1000, 1000, 0), **known)
    peak = peak_of(lambda: decode_mask(payload, LAYOUT, **known))
    assert peak <= 4 * TOTAL + CONSTANT + len(payload)


@pytest.mark.parametrize("codec", [name for name in MASK_CODECS.names() if name != "matrix"])
def test_writing_masks(codec):
    mask = mask_like("classes")
    peak = peak_of(lambda: encode_mask(mask, codec=codec, classes=CLASSES))
    assert peak <= 4 * TOTAL + CONSTANT


def test_writing_a_matrix_takes_six_times_the_units():
    mask, known = mask_like("both"), CONTEXTS["both"]
    write = lambda: encode_mask(mask, codec="matrix", widths=(1000, 1000, 0), **known)  # noqa: E731
    assert peak_of(write) <= 6 * TOTAL + 2 * CONSTANT


def test_masks_of_many_layers_and_classes():
    layout = Layout(tuple(map(str, range(60))), (5000,) * 60)
    rng = np.random.default_rng(3)
    classes = rng.integers(0, 32, layout.total).astype(np.uint8)
    mask = Mask.from_bools(layout, rng.random(layout.total) < 0.1 * classes / 32)
    for codec in MASK_CODECS.names():
        payload = encode_mask(mask, codec=codec, classes=classes, widths=(50,) * 60)
        peak = peak_of(lambda p=payload: decode_mask(p, layout, classes=classes))
        assert peak <= 4 * layout.total + 2 * CONSTANT, codec


@pytest.mark.parametrize("spec", VALUE_SPECS)
def test_values(spec):
    values = np.random.default_rng(4).standard_normal(TOTAL).astype(np.float32)
    payload = encode_values(
        values, spec, UNITS, np.random.default_rng(5), context=ValueContext(CLASSES)
    )
    peak = peak_of(lambda: decode_values(payload, spec, UNITS, context=ValueContext(CLASSES)))
    assert peak <= 4 * (4 * TOTAL) + CONSTANT
    assert peak <= 2 * (4 * TOTAL) + CONSTANT + len(payload)  # as it happens


def test_shares():
    levels = np.random.default_rng(6).integers(0, 21, TOTAL).astype(np.uint8)
    payload = encode_levels(levels, 20, UNITS)
    assert peak_of(lambda: decode_levels(payload, UNITS)) <= 4 * TOTAL + CONSTANT


def test_masks_of_few_units_and_many_parameters():
    rng = np.random.default_rng(8)
    odds = np.exp(np.add.outer(rng.normal(-1, 3, 20), rng.normal(0, 3, 20)))
    layout = Layout(("a",), (odds.size,))
    mask = Mask.from_bools(layout, (rng.random(odds.shape) < odds / (1 + odds)).ravel())
    classes = rng.integers(0, 60, odds.size).astype(np.uint8)
    for codec in ("rans", "matrix"):
        payload = encode_mask(mask, codec=codec, widths=(20,), classes=classes)
        peak = peak_of(lambda p=payload: decode_mask(p, layout, classes=classes))
        assert peak <= 4 * layout.total + CONSTANT + len(payload), codec


@pytest.mark.parametrize("segments", [100, 400])
def test_values_and_shares_of_many_tables(segments):
    rng = np.random.default_rng(9)
    scales = np.exp(rng.normal(0, 3, 10 * segments)).astype(np.float32)
    values = rng.standard_normal(scales.size).astype(np.float32) * scales
    known = (10,) * segments
    payload = encode_values(values, "int8", known, rng)
    peak = peak_of(lambda: decode_values(payload, "int8", known))
    beyond = 3072 * max(min(segments, 255) - 100, 0)
    assert peak <= 2 * 4 * values.size + CONSTANT + len(payload) + beyond
    levels = rng.integers(0, 256, 10 * segments).astype(np.uint8)
    coded = encode_levels(levels, 255, known)
    peak = peak_of(lambda: decode_levels(coded, known))
    assert peak <= 4 * levels.size + CONSTANT + len(coded) + 3072 * (segments - 100)


FLAT = b"\xff\x01\x00"  # a new table of one bucket: all labels are 0
EMPTY = FLAT * 2 + b"\x00"
HOSTILE_MASKS = [
    *(bytes((number,)) + b"\x00" * 8 for number in range(6)),
    b"\x02" + b"\x00" * 3 + b"\x0b" + CLAIM * 4,
    b"\x02" + b"\x00" * 3 + b"\x00" + CLAIM,
    b"\x02" + b"\x60" * 3 + b"\x0b" + CLAIM * 40,
    b"\x04" + CLAIM * 3,
    b"\x05" + b"\x01\x01\x01" + CLAIM * 4,
    *(
        # Wide, narrow and single rows, labels that are all 0, and a stream of claims.
        b"\x05" + widths + bytes((len(labels),)) + labels + stream
        for widths in (b"\x01\x01\x01", b"\x7f\x7f\x0a", b"\xe0\xdc\x2a\xd6\xa7\x12\x0a")
        for labels in (FLAT + b"\x00" * 8 + b"\x01", FLAT + b"\x00" * 8 + b"\x02\x00\x00", b"")
        for stream in (b"\x0b" + CLAIM * 4, b"\x00" + CLAIM, b"", b"\x0b" + bytes(9000))
    ),
]


@pytest.mark.parametrize("payload", HOSTILE_MASKS)
def test_hostile_masks(payload):
    peak = peak_of(lambda: decode_mask(payload, LAYOUT), refused=True)
    assert peak <= 4 * TOTAL + CONSTANT


@pytest.mark.parametrize("spec", ["int8", "ternary", "step(1)"])
def test_hostile_values(spec):
    steps = b"\x80\x3f" * 3
    for payload in (
        steps + FLAT * 3 + b"\x0b" + CLAIM * 4,
        steps + FLAT + b"\x00" * 2 + b"\x0b" + b"\x01" * 9000,
        CLAIM,
    ):
        peak = peak_of(lambda p=payload: decode_values(p, spec, UNITS), refused=True)
        assert peak <= 2 * (4 * TOTAL) + CONSTANT


RESIDENT = """
import resource, sys
from mpfl.mask import Layout
from mpfl.wire import decode_mask
payload, units = open(sys.argv[1], "rb").read(), int(sys.argv[2])
layout = Layout(("a",), (units,))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decode_mask(payload, layout)
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss differs by system")
@pytest.mark.parametrize("codec", MASK_CODECS.names())
def test_what_the_kernel_counts(codec, tmp_path):
    """Memory of libraries is not traced; the resident set knows of it."""
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0
    units = 8_000_000
    layout = Layout(("a",), (units,))
    mask = Mask.from_bools(layout, np.random.default_rng(7).random(units) < 0.1)
    path = tmp_path / "payload"
    path.write_bytes(encode_mask(mask, codec=codec, widths=(2000,)))
    command = [sys.executable, "-c", RESIDENT, str(path), str(units)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 4 * units + 8 * CONSTANT
