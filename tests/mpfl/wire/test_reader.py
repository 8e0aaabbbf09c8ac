"""What the library writes, read by a reader that knows the page on the format and nothing else."""

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpfl.mask import Layout, Mask
from mpfl.wire import (
    Frame,
    Kind,
    Section,
    ValueContext,
    decode_values,
    encode_frame,
    encode_mask,
    encode_values,
)
from tests.mpfl.wire import reader

VALUE_CODECS = [
    "float32", "float16", "bfloat16", "int8", "int4", "int3", "ternary", "int8(nearest)",
    "step", "step(0.05)", "step(2.0, 0.7)", "rd_step(0.1)", "grid", "grid(0.05)",
    "stc(0.05)", "sbc(0.2)",
]  # fmt: skip


def layout_of(units):
    return Layout(tuple(map(str, range(len(units)))), tuple(units))


def pick(units, density, seed):
    return np.random.default_rng(seed).random(sum(units)) < density


def test_the_reader_shares_no_code_with_the_library():
    tree = ast.parse(Path(reader.__file__).read_text("utf-8"))
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [
        a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names
    ]
    assert not [name for name in modules if name.startswith("mpfl")]


@given(
    st.sampled_from(Kind),
    st.integers(0, 2**32 - 1),
    st.dictionaries(st.sampled_from(Section), st.binary(max_size=200)),
)
def test_frames_are_read_as_they_were_written(kind, round_number, sections):
    blob = encode_frame(Frame(kind, round_number, sections))
    assert reader.read_frame(blob) == (kind, round_number, sections)


@pytest.mark.parametrize("codec", ["raw", "rans"])
@given(
    st.lists(st.integers(1, 900), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.0004, 0.004, 0.03, 0.2, 0.5, 0.9, 1.0]),
    st.sampled_from([None, 0.3, 1.0]),
    st.integers(0, 5),
    st.integers(0, 2**32),
)
@settings(max_examples=40)
def test_masks_are_read_given_the_same_context(codec, units, density, within, kinds, seed):
    bits = pick(units, density, seed)
    known, classes = None, None
    if within is not None:
        known = pick(units, within, seed + 1)
        bits &= known
    if kinds:
        classes = np.random.default_rng(seed).integers(0, kinds, bits.size).astype(np.uint8)
    layout = layout_of(units)
    payload = encode_mask(
        Mask.from_bools(layout, bits),
        within=None if known is None else Mask.from_bools(layout, known),
        classes=classes,
        codec=codec,
    )
    assert reader.read_mask(payload, units, known, classes) == bits.tolist()


@pytest.mark.parametrize(
    ("units", "lanes"), [((60_000,), 5), ((70_000, 90_000), 6), ((2_200_000,), 7)]
)
def test_masks_in_streams_of_many_lanes_are_read(units, lanes):
    bits = pick(units, 0.5, 1)
    payload = encode_mask(Mask.from_bools(layout_of(units), bits), codec="rans")
    assert payload[1 + len(units)] == lanes
    assert reader.read_mask(payload, units) == bits.tolist()


@pytest.mark.parametrize("codec", VALUE_CODECS)
@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=4),
    st.sampled_from([0.0, 1e-6, 1.0, 50.0]),
    st.integers(0, 2**32),
)
@settings(max_examples=25)
def test_values_are_read_as_the_library_reads_them(codec, segments, scale, seed):
    rng = np.random.default_rng(seed)
    values = (rng.standard_normal(sum(segments)) ** 3 * scale).astype(np.float32)
    values[: segments[0]] *= rng.integers(0, 2)  # a segment of zeros has no step
    payload = encode_values(values, codec, segments, rng)
    read = np.array(reader.read_values(payload, codec, segments), np.float32)
    np.testing.assert_array_equal(read, decode_values(payload, codec, segments))


@pytest.mark.parametrize("codec", ["eden(1)", "eden(0.3)", "eden(3)"])
@given(st.lists(st.integers(1, 300), min_size=1, max_size=3), st.integers(0, 2**32))
@settings(max_examples=8, deadline=None)
def test_rotated_values_are_read_as_the_library_reads_them(codec, segments, seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(sum(segments)).astype(np.float32)
    values[: segments[0]] *= rng.integers(0, 2)
    payload = encode_values(values, codec, segments, rng)
    read = np.array(reader.read_values(payload, codec, segments), np.float32)
    np.testing.assert_allclose(read, decode_values(payload, codec, segments), atol=1e-4)


@pytest.mark.parametrize("codec", ["lowrank(2)", "lowrank(1)|int8"])
@given(st.integers(0, 2**32))
@settings(max_examples=15)
def test_factors_are_multiplied_as_the_library_multiplies_them(codec, seed):
    rng = np.random.default_rng(seed)
    segments, shapes = (60, 7, 90, 12), ((12, 5), None, (6, 5, 3), (3, 4))
    values = rng.standard_normal(sum(segments)).astype(np.float32)
    known = ValueContext(shapes=shapes)
    payload = encode_values(values, codec, segments, rng, context=known)
    read = np.array(reader.read_values(payload, codec, segments, shapes), np.float32)
    np.testing.assert_array_equal(read, decode_values(payload, codec, segments, context=known))


def test_values_in_a_stream_of_many_lanes_are_read():
    rng = np.random.default_rng(3)
    values = rng.standard_normal(30_000).astype(np.float32)
    payload = encode_values(values, "int8", (20_000, 10_000), rng)
    read = np.array(reader.read_values(payload, "int8", (20_000, 10_000)), np.float32)
    np.testing.assert_array_equal(read, decode_values(payload, "int8", (20_000, 10_000)))
    assert np.abs(read - values).max() < 0.1
