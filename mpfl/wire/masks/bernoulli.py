"""Segments of independent bits at their entropy: blocks of eight, zero blocks in bulk, then rANS.

A segment's share of ones is sent as one byte; all probabilities follow from it. Bits are taken
eight at a time as one symbol. Where ones are rare, a first pass codes which blocks are not zero,
itself as a segment of rarer zeros, and only these blocks are coded; up to four levels deep. That
costs no redundancy, and the number of symbols falls with the number of ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mpfl.wire.entropy.rans_decoder import Decoder
from mpfl.wire.entropy.rans_encoder import Encoder
from mpfl.wire.entropy.tables import TABLES_AT_ONCE, Contexts, Ints, Tables
from mpfl.wire.errors import WireError

Bools = NDArray[np.bool_]

CONSTANT = 254
"""Parameter of a segment of zeros; one more: of ones."""
_UNPACKED = 1 << 14
"""Bytes that are unpacked at a time."""
_TOGETHER = TABLES_AT_ONCE
"""Segments whose tables are held at a time."""


def probabilities() -> NDArray[np.float64]:
    """Return the 127 probabilities of a rarer bit: 1/2, 15/32, ... 9/32, then these halved."""
    i = np.arange(CONSTANT // 2)
    grid: NDArray[np.float64] = np.ldexp(16.0 - i % 8, -(5 + i // 8))
    return grid


@dataclass(frozen=True)
class _Model:
    """What the parameters of all segments say.

    Attributes
    ----------
    lengths
        Bits of each segment; 0 where it is constant.
    probability
        Of a one, after flipping; 1/2 where constant.
    depth
        Levels; 0 where it is constant.
    flip
        Whether its bits are sent inverted, so that ones are the rarer.
    """

    lengths: Ints
    probability: NDArray[np.float64]
    depth: Ints
    flip: Bools

    @classmethod
    def read(cls, parameters: NDArray[np.uint8], lengths: tuple[int, ...]) -> _Model:
        constant = parameters >= CONSTANT
        index = np.where(constant, 0, parameters // 2)
        # Thresholds by measurement: fewest symbols for a redundancy below 0.3 %.
        depth = 1 + (index >= 20) + (index >= 44) + (index >= 68)
        return cls(
            np.where(constant, 0, np.array(lengths, np.int64)),
            probabilities()[index],
            np.where(constant, 0, depth),
            (parameters & 1).astype(np.bool_),
        )

    def levels(self) -> range:
        """Return the levels, from the topmost down to 1 (the bits themselves)."""
        return range(int(self.depth.max(initial=0)), 0, -1)

    def lengths_at(self, level: int) -> Ints:
        """Return the bits of each segment at a level; 0 where it does not reach so high."""
        shift = 3 * (level - 1)
        return np.where(self.depth >= level, (self.lengths + (1 << shift) - 1) >> shift, 0)

    def parts(self, level: int) -> list[_Model]:
        """Return the segments that reach a level, a few at a time."""
        reach = np.flatnonzero(self.depth >= level)
        pieces = [reach[i : i + _TOGETHER] for i in range(0, reach.size, _TOGETHER)]
        return [
            _Model(self.lengths[few], self.probability[few], self.depth[few], self.flip[few])
            for few in pieces
        ]

    def tables_at(self, level: int) -> Tables:
        """Return the tables of a level: full blocks of each segment, then last, short blocks."""
        p = self.probability
        for _ in range(level - 1):
            zero = 1.0 - p
            for _ in range(3):
                zero = zero * zero
            p = 1.0 - zero
        weights = np.ones((p.size, 1))
        for _ in range(8):  # each bit doubles the patterns
            weights = np.concatenate([weights * (1.0 - p)[:, None], weights * p[:, None]], axis=1)
        weights[self.depth > level, 0] = 0.0
        rest = self.lengths_at(level) % 8
        short = rest > 0
        possible = np.arange(256) < (1 << rest[short])[:, None]
        return Tables.from_weights(np.concatenate([weights, weights[short] * possible]))

    def blocks_at(self, level: int) -> Ints:
        """Return the blocks of each segment at a level."""
        return (self.lengths_at(level) + 7) // 8

    def contexts_at(self, level: int) -> Contexts:
        """Return the table of each block of a level, segment after segment."""
        blocks = self.blocks_at(level)
        contexts = np.repeat(np.arange(blocks.size, dtype=np.uint8), blocks)
        last = np.cumsum(blocks)[self.lengths_at(level) % 8 > 0] - 1
        contexts[last] = np.arange(blocks.size, blocks.size + last.size)
        return contexts


def encode_segments(bits: Bools, lengths: tuple[int, ...]) -> bytes:
    """Return the segments' bits as bytes: one parameter a segment, then an rANS stream."""
    parameters = fit_parameters(bits, lengths)
    return parameters.tobytes() + encode_with_parameters(parameters, bits, lengths)


def encode_with_parameters(
    parameters: NDArray[np.uint8], bits: Bools, lengths: tuple[int, ...]
) -> bytes:
    """Return the rANS stream of segments whose parameters the receiver knows."""
    model = _Model.read(parameters, lengths)
    blocks: list[NDArray[np.uint8]] = []
    for level in model.levels()[::-1]:
        if level > 1:
            above = np.repeat(model.depth >= level, model.blocks_at(level - 1))
            blocks.append(_pack(blocks[-1][above] > 0, model.lengths_at(level)))
        else:
            blocks.append(_pack(bits, np.array(lengths), model.lengths > 0, model.flip))
    encoder = Encoder()
    for level in model.levels():
        end = 0
        for some in model.parts(level):
            contexts = some.contexts_at(level)
            symbols = blocks[level - 1][end : end + contexts.size]
            end += contexts.size
            if (some.depth > level).any():
                coded = (symbols > 0) | np.repeat(some.depth == level, some.blocks_at(level))
                symbols, contexts = symbols[coded], contexts[coded]
            encoder.put(symbols, contexts, some.tables_at(level))
    return encoder.finish()


def decode_segments(payload: bytes | memoryview, lengths: tuple[int, ...]) -> Bools:
    """Read what `encode_segments` wrote; raises WireError and nothing else."""
    parameters = np.frombuffer(payload[: len(lengths)], np.uint8)
    if parameters.size != len(lengths):
        raise WireError("mask.parameters", "the payload ends inside them")
    bits = decode_with_parameters(parameters, payload[len(lengths) :], lengths)
    check_parameters(parameters, bits, lengths)
    return bits


def check_parameters(parameters: NDArray[np.uint8], bits: Bools, lengths: tuple[int, ...]) -> None:
    """Raise WireError if these are not the parameters that `fit_parameters` gives the bits."""
    if not np.array_equal(parameters, fit_parameters(bits, lengths)):
        raise WireError("mask.parameters", "they are not those of the bits")


def decode_with_parameters(
    parameters: NDArray[np.uint8], stream: bytes | memoryview, lengths: tuple[int, ...]
) -> Bools:
    """Read what `encode_with_parameters` wrote; raises WireError and nothing else."""
    model = _Model.read(parameters, lengths)
    decoder = Decoder(stream)
    blocks, bits = np.zeros(0, np.uint8), np.zeros(0, np.bool_)
    for level in model.levels():
        blocks = _take_level(decoder, model, level, bits)
        if level > 1:
            bits = _unpack(blocks, model.lengths_at(level))
    decoder.finish()
    return _unpack(blocks, np.array(lengths, np.int64), model.lengths > 0, model.flip)


def _take_level(decoder: Decoder, model: _Model, level: int, above: Bools) -> NDArray[np.uint8]:
    """Return the blocks of a level, given the bits of the level above."""
    symbols = np.zeros(int(model.blocks_at(level).sum()), np.uint8)
    begin = taken = 0
    for some in model.parts(level):
        contexts = some.contexts_at(level)
        end, deeper = begin + contexts.size, some.depth > level
        if not deeper.any():
            symbols[begin:end] = decoder.take(contexts, some.tables_at(level))
            begin = end
            continue
        blocks = some.blocks_at(level)
        known = int(blocks[deeper].sum())
        coded = np.repeat(some.depth == level, blocks)
        coded[np.repeat(deeper, blocks)] = above[taken : taken + known]
        taken += known
        symbols[begin:end][coded] = decoder.take(contexts[coded], some.tables_at(level))
        begin = end
    return symbols


def fit_parameters(bits: Bools, lengths: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return each segment's cheapest parameter, uint8[segments]: the same on every machine."""
    total = np.array(lengths, np.int64)
    ends = np.cumsum(lengths)
    ones = np.array(
        [np.count_nonzero(bits[end - n : end]) for n, end in zip(lengths, ends, strict=True)],
        np.int64,
    )
    flip = ones * 2 > total
    rare = np.where(flip, total - ones, ones)
    nearest = np.searchsorted(-_edges(), -(rare * _WHOLE // total))
    index = np.where(rare == 0, CONSTANT // 2, nearest)
    return (2 * index + flip).astype(np.uint8)


_WHOLE = 1 << 32
"""A share of 1, in whole numbers."""


@lru_cache(maxsize=1)
def _edges() -> Ints:
    """Return the shares of the rarer bit from which on a probability is cheaper than the next."""
    ones, zeros = np.log2(probabilities()), np.log2(1.0 - probabilities())
    edges = -np.diff(zeros) / (np.diff(ones) - np.diff(zeros))
    whole: Ints = np.rint(edges * _WHOLE).astype(np.int64)
    return whole


def _pack(
    bits: Bools, lengths: Ints, coded: Bools | None = None, flip: Bools | None = None
) -> NDArray[np.uint8]:
    """Pack each segment's bits to bytes of its own, padded with zeros.

    Segments that are not `coded` are left out; those with `flip` are inverted.
    """
    packed = []
    end = 0
    for i, n in enumerate(lengths.tolist()):
        end += n
        if not n or (coded is not None and not coded[i]):
            continue
        part = np.packbits(bits[end - n : end], bitorder="little")
        if flip is not None and flip[i]:
            _invert(part, n)
        packed.append(part)
    return np.concatenate(packed) if packed else np.zeros(0, np.uint8)


def _unpack(
    blocks: NDArray[np.uint8],
    lengths: Ints,
    coded: Bools | None = None,
    flip: Bools | None = None,
) -> Bools:
    """Undo `_pack`; segments that are not `coded` hold nothing but `flip`."""
    out = np.empty(int(lengths.sum()), np.bool_)
    begin = first = 0
    for i, n in enumerate(lengths.tolist()):
        whole, begin = out[begin : begin + n], begin + n
        if coded is not None and flip is not None and not coded[i]:
            whole[:] = flip[i]
            continue
        size = (n + 7) // 8
        part, first = blocks[first : first + size], first + size
        for done in range(0, size, _UNPACKED):
            few = part[done : done + _UNPACKED]
            if flip is not None and flip[i]:
                few = ~few
            place = whole[8 * done : 8 * done + 8 * few.size]
            place[:] = np.unpackbits(few, count=place.size, bitorder="little")
    return out


def _invert(packed: NDArray[np.uint8], bits: int) -> None:
    """Turn over so many packed bits; the padding stays zero."""
    np.invert(packed, out=packed)
    if bits % 8:
        packed[-1] &= (1 << bits % 8) - 1
