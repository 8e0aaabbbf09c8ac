"""Numbers of draws against brute force: candidates word by word, the odds by the definition."""

import math
from collections import Counter

import numpy as np
import pytest

from mpfl.errors import InputError
from mpfl.mask import Layout, Mask
from mpfl.seeding import numpy_rng
from mpfl.wire.errors import WireError
from mpfl.wire.values.draws import DrawCodec

ONE = 65536


def stream(number):
    return np.random.Generator(np.random.PCG64(number))


def layout_of(*units):
    return Layout(tuple(map(str, range(len(units)))), units)


def drawn(number, count, prior):
    """Draw candidates of one block: words of 64 bits, four chances each, lowest first."""
    source, found = np.random.PCG64(number), []
    for _ in range(count):
        words = [int(source.random_raw()) for _ in range(math.ceil(len(prior) / 4))]
        chances = [word >> 16 * i & 0xFFFF for word in words for i in range(4)]
        found.append([chance < p for chance, p in zip(chances, prior, strict=False)])
    return found


def odds(candidates, posterior, prior):
    """Return the chance of each candidate: proportional to posterior over prior."""
    ratios = []
    for candidate in candidates:
        ratio = 1.0
        for bit, q, p in zip(candidate, posterior, prior, strict=True):
            ratio *= q / (p / ONE) if bit else (1 - q) / (1 - p / ONE)
        ratios.append(ratio)
    return [ratio / sum(ratios) for ratio in ratios]


def divergence(posterior, prior):
    """Return the bits of each unit."""
    p, q = np.asarray(prior) / ONE, np.asarray(posterior, np.float64)
    return q * np.log2(q / p) + (1 - q) * np.log2((1 - q) / (1 - p))


def test_numbers_come_up_as_often_as_posterior_over_prior_says():
    prior, posterior = [32768, 20000, 50000, 9000, 60000], [0.8, 0.1, 0.9, 0.3, 0.7]
    candidates = drawn(3, 8, prior)
    wanted = odds(candidates, posterior, prior)
    assert max(wanted) > 2 * min(wanted)
    codec, layout, runs = DrawCodec(3), layout_of(5), 4000
    counts: Counter[int] = Counter()
    for own in range(runs):
        payload = codec.encode(
            np.array(posterior, np.float32), np.array(prior, np.uint16), layout, stream(3),
            stream(1000 + own),
        )  # fmt: skip
        cuts, numbers = codec.read(payload, layout.units)
        assert [cut.tolist() for cut in cuts] == [[8]]
        counts[int(numbers[0])] += 1
        mask = codec.decode(payload, np.array(prior, np.uint16), layout, stream(3))
        assert mask.bools().tolist() == candidates[int(numbers[0])]
    for number, chance in enumerate(wanted):
        spread = math.sqrt(chance * (1 - chance) / runs)
        assert abs(counts[number] / runs - chance) < 4.5 * spread + 1e-3


def test_over_many_shared_streams_the_mean_mask_is_the_posterior():
    rng = stream(0)
    prior = rng.integers(6000, 60000, 24).astype(np.uint16)
    shift = np.where(rng.random(24) < 0.5, 0.8, -0.8)
    posterior = 1 / (1 + np.exp(-(np.log(prior / (ONE - prior.astype(float))) + shift)))
    bits = divergence(posterior, prior).sum()
    assert 1.5 < bits < 4
    codec, layout, runs = DrawCodec(8), layout_of(24), 3000
    total = np.zeros(24)
    for seed in range(runs):
        shared = [numpy_rng(seed, "draws", 1, 2) for _ in range(2)]
        payload = codec.encode(posterior.astype(np.float32), prior, layout, shared[0], stream(seed))
        total += codec.decode(payload, prior, layout, shared[1]).bools()
    assert np.abs(total / runs - prior / ONE).mean() > 0.1
    np.testing.assert_allclose(total / runs, posterior, atol=0.04)


@pytest.mark.parametrize("bits", [1, 5, 8])
def test_blocks_are_halved_until_each_has_at_most_so_many_bits(bits):
    rng = stream(bits)
    units = (700, 3, 256, 1)
    prior = rng.integers(1311, 64226, sum(units)).astype(np.uint16)
    strength = np.repeat([0.02, 1.0, 0.3, 2.0], 240)
    posterior = np.clip(prior / ONE + strength * rng.normal(size=960) * 0.3, 0.01, 0.99)
    codec, layout = DrawCodec(bits), layout_of(*units)
    payload = codec.encode(posterior.astype(np.float32), prior, layout, stream(1), stream(2))
    cuts, numbers = codec.read(payload, units)
    kl, start, seen = divergence(posterior, prior), 0, 0
    sizes = set()
    for cut, count in zip(cuts, units, strict=True):
        at = 0
        for log in cut.tolist():
            size, half = 1 << log, min(at, at ^ (1 << log))
            block = kl[start + at : start + min(at + size, count)]
            assert size == 1 or block.sum() < bits + 1e-3
            if size < 256:  # the block that was cut in two had too many
                both = kl[start + half : start + min(half + 2 * size, count)]
                assert both.sum() > bits - 1e-3
            sizes.add(size)
            at += size
        assert at >= count
        start, seen = start + count, seen + cut.size
    assert numbers.size == seen
    assert len(sizes) > 3


def test_whole_masks_are_the_candidates_of_their_blocks_one_after_another():
    units, rng = (300, 7), stream(5)
    prior = rng.integers(1311, 64226, 307).astype(np.uint16)
    posterior = np.clip(prior / ONE + rng.normal(size=307) * 0.1, 0.02, 0.98).astype(np.float32)
    codec, layout = DrawCodec(4), layout_of(*units)
    payload = codec.encode(posterior, prior, layout, stream(9), stream(2))
    cuts, numbers = codec.read(payload, units)
    source, wanted, picked = np.random.PCG64(9), [], iter(numbers.tolist())
    start = 0
    for cut, count in zip(cuts, units, strict=True):
        at = 0
        for log in cut.tolist():
            part = prior[start + at : start + min(at + (1 << log), count)]
            each = math.ceil(part.size / 4)
            words = source.random_raw(16 * each).reshape(16, each)[next(picked)]
            chances = [int(word) >> 16 * i & 0xFFFF for word in words for i in range(4)]
            wanted += [chance < p for chance, p in zip(chances, part, strict=False)]
            at += 1 << log
        start += count
    mask = Mask.from_bools(layout, np.array(wanted))
    assert codec.decode(payload, prior, layout, stream(9)) == mask
    assert codec.decode(payload, prior, layout, stream(8)) != mask


def test_a_client_that_learned_nothing_costs_a_number_for_every_256_units():
    codec, layout = DrawCodec(8), layout_of(25_600, 100)
    prior = np.full(layout.total, 20_000, np.uint16)
    theta = (prior / ONE).astype(np.float32)
    payload = codec.encode(theta, prior, layout, stream(1), stream(2))
    assert codec.cost_bits(payload, layout.units) == (101 * 8, 101 * 8 + 8)
    assert len(payload) <= 2 + 101 + 14


def test_the_payload_by_hand():
    codec, layout = DrawCodec(2), layout_of(300, 1)
    cuts = [np.array([8, 6], np.uint8), np.array([8], np.uint8)]
    payload = codec.write(cuts, np.array([1, 3, 2]))
    # two blocks and one; 1, 3 and 2 in two bits each, lowest first; then the logarithms
    assert payload[:3] == bytes((2, 1, 0b10_11_01))
    with pytest.raises(WireError, match=r"mask\.blocks: they do not make up 300"):
        codec.read(codec.write([cuts[0][:1], cuts[1]], np.array([1, 3])), layout.units)
    with pytest.raises(WireError, match=r"mask\.blocks: they do not make up 300"):
        codec.read(codec.write([cuts[0][::-1], cuts[1]], np.array([1, 3, 2])), layout.units)
    read, numbers = codec.read(payload, layout.units)
    assert [cut.tolist() for cut in read] == [[8, 6], [8]]
    assert numbers.tolist() == [1, 3, 2]


def test_damaged_payloads_are_refused_or_in_their_one_form():
    rng = stream(0)
    codec, layout = DrawCodec(5), layout_of(700, 90)
    prior = rng.integers(1311, 64226, 790).astype(np.uint16)
    posterior = np.clip(prior / ONE + rng.normal(size=790) * 0.2, 0.02, 0.98).astype(np.float32)
    payload = codec.encode(posterior, prior, layout, stream(1), stream(2))
    refused = 0
    for _ in range(3000):
        changed = bytearray(payload)
        for _ in range(int(rng.integers(1, 3))):
            changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
        blob = bytes(changed)[: len(changed) - int(rng.integers(3)) * int(rng.random() < 0.2)]
        try:
            assert codec.write(*codec.read(blob, layout.units)) == blob
            codec.decode(blob, prior, layout, stream(1))
        except WireError:
            refused += 1
    assert 500 < refused < 3000


@pytest.mark.parametrize("bits", [0, 13])
def test_other_numbers_of_bits_are_refused(bits):
    with pytest.raises(InputError, match=f"got {bits} bits a block, expected 1 to 12"):
        DrawCodec(bits)
