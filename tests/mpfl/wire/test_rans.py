"""The entropy coder alone: streams of any length, any distribution, any number of lanes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfl.wire import WireError
from mpfl.wire.entropy.rans_decoder import Decoder
from mpfl.wire.entropy.rans_encoder import Encoder
from mpfl.wire.entropy.rans_states import lanes_log
from mpfl.wire.entropy.tables import BIT, PRECISION, Tables


def draw(tables, count, seed):
    """Draw contexts and symbols as the tables say, by inverting their distribution."""
    rng = np.random.default_rng(seed)
    contexts = rng.integers(0, len(tables.frequencies), count)
    numbers = rng.integers(0, 1 << PRECISION, count)
    ends = tables.starts + tables.frequencies
    symbols = np.array(
        [np.searchsorted(ends[c], n, "right") for c, n in zip(contexts, numbers, strict=True)]
    )
    return contexts, symbols.astype(np.uint8)


def ideal_bytes(tables, contexts, symbols):
    return (
        float(PRECISION * symbols.size - np.log2(tables.frequencies[contexts, symbols]).sum()) / 8
    )


@given(st.integers(0, 2**32), st.integers(0, 3000), st.integers(1, 5), st.integers(1, 256))
def test_round_trip_in_pieces(seed, count, contexts_count, alphabet):
    rng = np.random.default_rng(seed)
    tables = Tables.from_weights(rng.random((contexts_count, alphabet)) ** 8)
    contexts, symbols = draw(tables, count, seed)
    encoder = Encoder()
    encoder.put(symbols, contexts, tables)
    stream = encoder.finish()
    assert len(stream) <= ideal_bytes(tables, contexts, symbols) * 1.02 + 6
    decoder = Decoder(stream)
    cuts = np.sort(rng.integers(0, count + 1, 3))
    pieces = [decoder.take(part, tables) for part in np.split(contexts, cuts)]
    decoder.finish()
    np.testing.assert_array_equal(np.concatenate(pieces), symbols)


@pytest.mark.parametrize("size", [7_000, 20_000, 100_000, 270_000, 600_000, 5_000_000])
def test_lanes_cost_a_quarter_of_a_percent_at_most_and_a_twentieth_of_long_streams(size):
    """To end one takes half a byte."""
    lanes = 1 << lanes_log(8 * size * BIT)
    assert lanes / 2 <= (0.0027 if size < 30_000 else 0.0005 if size > 70_000 else 0.0015) * size
    assert lanes >= min(2048, size // 5000)


@pytest.mark.parametrize("count", [20_000, 400_000])
def test_many_lanes_cost_less_than_half_a_percent(count):
    tables = Tables.from_weights(np.random.default_rng(0).random((3, 40)) ** 4)
    rng = np.random.default_rng(1)
    contexts = rng.integers(0, 3, count)
    numbers = np.repeat(np.tile(np.arange(40, dtype=np.uint8), 3), tables.frequencies.ravel())
    symbols = numbers[contexts << PRECISION | rng.integers(0, 1 << PRECISION, count)]
    encoder = Encoder()
    encoder.put(symbols, contexts, tables)
    stream = encoder.finish()
    assert stream[0] >= 5
    assert len(stream) <= 1.005 * ideal_bytes(tables, contexts, symbols)
    decoder = Decoder(stream)
    for part, expected in zip(
        np.split(contexts, [7, 9000]), np.split(symbols, [7, 9000]), strict=True
    ):
        np.testing.assert_array_equal(decoder.take(part, tables), expected)
    decoder.finish()


def test_a_distribution_of_one_symbol_costs_nothing():
    tables = Tables.from_weights(np.array([[0.0, 1.0]]))
    encoder = Encoder()
    encoder.put(np.ones(100_000, np.uint8), np.zeros(100_000, np.int64), tables)
    stream = encoder.finish()
    assert len(stream) == 2
    decoder = Decoder(stream)
    assert decoder.take(np.zeros(100_000, np.int64), tables).all()
    decoder.finish()


def test_frequencies_add_up_and_nothing_possible_is_lost():
    weights = np.array([[1e-9, 1.0, 0.0, 1e-9], [0.25, 0.25, 0.25, 0.25]])
    tables = Tables.from_weights(weights)
    assert tables.frequencies.sum(axis=1).tolist() == [1 << PRECISION] * 2
    assert ((tables.frequencies > 0) == (weights > 0)).all()


def test_symbols_that_are_left_over_are_noticed():
    tables = Tables.from_weights(np.ones((1, 4)))
    encoder = Encoder()
    encoder.put(np.arange(4, dtype=np.uint8), np.zeros(4, np.int64), tables)
    decoder = Decoder(encoder.finish())
    decoder.take(np.zeros(3, np.int64), tables)
    with pytest.raises(WireError):
        decoder.finish()
