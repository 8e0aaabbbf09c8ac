"""No payload keeps a receiver busy for longer than legal ones of as many units can."""

import time

import numpy as np
import pytest

from mpfl.mask import Layout, Mask
from mpfl.wire import WireError, decode_mask, decode_values, encode_mask, encode_values
from mpfl.wire.entropy import rans_states
from mpfl.wire.varint import encode_varint

COUNT = 200_000
LAYOUT = Layout(("a",), (COUNT,))
COMPILED = rans_states.COMPILED
TABLE_OF_ONE = b"\xff\x01\x00"
"""A table in which 0 is certain."""
NEARLY_CERTAIN = b"\xff\x02\x00\x80"


@pytest.fixture(params=["arrays", "compiled"])
def kernel(request, monkeypatch):
    if request.param == "compiled" and COMPILED is None:
        pytest.skip("mpfl.wire.entropy._lanes is not built; `pip install .` builds it")
    monkeypatch.setattr(rans_states, "COMPILED", COMPILED if request.param == "compiled" else None)
    return request.param


def seconds(function):
    """Return the shortest of three times."""
    taken = []
    for _ in range(3):
        begin = time.perf_counter()
        function()
        taken.append(time.perf_counter() - begin)
    return min(taken)


def refused(function):
    with pytest.raises(WireError):
        function()


@pytest.fixture
def honest(kernel):
    """Seconds for the slowest of legal values: few bits, dense ones."""
    few, dense = np.zeros(COUNT, np.float32), np.random.default_rng(0).standard_normal(COUNT)
    few[::50] = 1
    payloads = [
        encode_values(v.astype(np.float32), "int8(nearest)", (COUNT,)) for v in (few, dense)
    ]
    return max(seconds(lambda p=p: decode_values(p, "int8(nearest)", (COUNT,))) for p in payloads)


@pytest.mark.parametrize("tables", [TABLE_OF_ONE, NEARLY_CERTAIN])
@pytest.mark.parametrize(
    "stream", [b"\x00\x01", b"\x05" + bytes(99), b"\x00" + bytes(9_000) + b"\x01"]
)
def test_a_few_bytes_of_values_take_no_longer_than_legal_ones(honest, tables, stream):
    payload = b"\x80\x3f" + tables + stream
    read = lambda: refused(lambda: decode_values(payload, "int8", (COUNT,)))  # noqa: E731
    assert seconds(read) < 3 * honest + 0.02


@pytest.mark.parametrize("width", [1, 1000, COUNT])
@pytest.mark.parametrize("stream", [b"\x00\x01", b""])
def test_a_few_bytes_of_matrix_take_no_longer_than_a_legal_one(honest, width, stream):
    labels = TABLE_OF_ONE + b"\x00\x00" + stream
    payload = b"\x05" + encode_varint(width) + encode_varint(len(labels)) + labels
    mask = Mask.from_bools(LAYOUT, np.random.default_rng(1).random(COUNT) < 0.3)
    legal = encode_mask(mask, codec="matrix", widths=(1000,))
    limit = max(honest, seconds(lambda: decode_mask(legal, LAYOUT)))
    assert seconds(lambda: refused(lambda: decode_mask(payload, LAYOUT))) < 3 * limit + 0.02


def test_streams_of_the_two_kernels_are_equal(monkeypatch):
    if COMPILED is None:
        pytest.skip("mpfl.wire.entropy._lanes is not built; `pip install .` builds it")
    rng = np.random.default_rng(2)
    for count in (1, 300, 9_000, 70_000, 400_000):
        values = (rng.standard_normal(count) ** 5).astype(np.float32)
        payloads = []
        for compiled in (COMPILED, None):
            monkeypatch.setattr(rans_states, "COMPILED", compiled)
            payloads.append(encode_values(values, "int8(nearest)", (count,)))
            decode_values(payloads[0], "int8(nearest)", (count,))
        assert payloads[0] == payloads[1]
