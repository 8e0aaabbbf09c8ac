"""What the small sections say, and that they say it in one way only."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfl.wire import WireError
from mpfl.wire.sections import Metrics, Sync, split_floats

NUMBERS = st.one_of(st.integers(0, 3), st.integers(65_530, 65_540), st.integers(0, 2**32 - 1))


@given(st.integers(0, 3), st.tuples(*[NUMBERS] * 5))
def test_versions_are_read_as_they_were_written_however_late(flags, numbers):
    blob = Sync(flags, *numbers).pack()
    assert Sync.unpack(blob) == Sync(flags, *numbers)
    assert len(blob) == (11 if max(numbers) < 2**16 else 21)


def test_the_long_form_of_small_numbers_is_refused():
    with pytest.raises(WireError, match="config: not in its shorter form"):
        Sync.unpack(struct.pack("<BIIIII", 0, 1, 2, 3, 4, 65_535))


@pytest.mark.parametrize("size", [0, 10, 12, 20, 22])
def test_config_of_another_length_is_refused(size):
    with pytest.raises(WireError, match="config: expected"):
        Sync.unpack(bytes(size))


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -0.0])
def test_a_loss_that_is_not_finite_or_minus_zero_is_refused(loss):
    with pytest.raises(WireError, match="metrics"):
        Metrics.unpack(struct.pack("<If", 600, loss))


def test_a_loss_of_minus_zero_is_sent_as_zero():
    assert Metrics.unpack(Metrics(600, -0.0).pack()) == Metrics(600, 0.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.0])
def test_buffers_that_are_not_finite_or_minus_zero_are_refused(value):
    with pytest.raises(WireError, match="values"):
        split_floats(np.array([1, value], "<f4").tobytes(), 2)
