"""Masks as numbers of draws: both ends can draw the same candidates, so that one number is enough.

Minimal random coding with side information. Both ends know a chance for every unit, the prior, and
share a stream of random words. Block by block they draw 2ᵇ candidates from the prior; the sender
picks one with probability ∝ posterior / prior, so that it is about a draw from the posterior, and
sends its number. The fewer bits of divergence a block has, the closer it is to one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfl.errors import InputError
from mpfl.mask import Layout, Mask
from mpfl.wire.entropy.levels import Levels, decode_levels, encode_levels, levels_bound_bytes
from mpfl.wire.errors import WireError
from mpfl.wire.masks.packed import Bools, unpack_bits
from mpfl.wire.varint import decode_varint, encode_varint

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Prior = NDArray[np.uint16]
"""uint16[d]: the chance of every unit, in 65536ths, none of them 0."""
Cuts = list[Levels]
"""uint8[blocks] of each layer: the binary logarithms of its blocks' sizes."""

_ONE = 1 << 16
_LARGEST_LOG = 8
_MOST_BITS = 12
_MOST_ROUNDS = 2**32 - 1
_FINE = 1 << 16
"""Logarithms are multiples of 1 / this: sums of them are exact in any order."""
_WEIGHT = 2.0**32


@dataclass(frozen=True)
class DrawCodec:
    """Masks at b bits a block.

    KL minimisation with side information (Isik et al. 2023, arXiv 2306.12625). Blocks have at most
    256 units and at most b bits of divergence between posterior and prior, or are single units.
    What differs: blocks are cut in halves, so that where they begin costs about a bit a block,
    and that stands in every payload.

    The payload is the number of blocks of every layer (varint each), the number of a candidate
    for every block (b bits each, lowest first), and the binary logarithms of the blocks' sizes (see
    `mpfl.wire.entropy.levels`; the top is 8), a single segment.

    Attributes
    ----------
    bits
        b, from 1 to 12.
    """

    bits: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= _MOST_BITS:
            raise InputError(f"got {self.bits} bits a block, expected 1 to {_MOST_BITS}")

    def encode(
        self,
        posterior: Floats,
        prior: Prior,
        layout: Layout,
        shared: np.random.Generator,
        own: np.random.Generator,
    ) -> bytes:
        """Return the payload of about a draw from a posterior.

        Parameters
        ----------
        posterior
            float32[d], the chance of every unit.
        prior
            What the receiver knows too.
        shared
            A stream of PCG64 that the receiver has too, at its beginning.
        own
            Draws which candidate it is.
        """
        chances, known = _inside(posterior), prior / _ONE
        gain = np.log2(chances / known)
        loss = np.log2((1 - chances) / (1 - known))
        divergence = chances * gain + (1 - chances) * loss
        cuts = [_cut(divergence[part], self.bits) for part in layout.slices()]
        slope, words = np.rint((gain - loss) * _FINE), _Words(shared)
        numbers = [
            _pick(words.candidates(1 << self.bits, prior[block]), slope[block], own)
            for block in _blocks(cuts, layout.units)
        ]
        return self.write(cuts, np.array(numbers, np.int64))

    def decode(
        self, payload: bytes, prior: Prior, layout: Layout, shared: np.random.Generator
    ) -> Mask:
        """Return the mask that was picked; WireError if the payload is not legal."""
        cuts, numbers = self.read(payload, layout.units)
        keep, words = np.zeros(layout.total, np.bool_), _Words(shared)
        for block, number in zip(_blocks(cuts, layout.units), numbers.tolist(), strict=True):
            keep[block] = words.candidate(1 << self.bits, number, prior[block])
        return Mask.from_bools(layout, keep)

    def write(self, cuts: Cuts, numbers: NDArray[np.int64]) -> bytes:
        """Return the payload of blocks and a candidate's number for each."""
        counts = [cut.size for cut in cuts]
        bits = (numbers[:, None] >> np.arange(self.bits)) & 1
        packed = np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()
        head = b"".join(map(encode_varint, counts))
        sizes = encode_levels(np.concatenate(cuts), _LARGEST_LOG, (sum(counts),))
        return head + packed + sizes

    def read(self, payload: bytes, units: Sequence[int]) -> tuple[Cuts, NDArray[np.int64]]:
        """Return blocks and numbers; WireError if the payload is not legal."""
        counts, start = [], 0
        for count in units:
            blocks, start = decode_varint(payload, start, "mask.blocks", count)
            counts.append(blocks)
        end = start + (self.bits * sum(counts) + 7) // 8
        bits = unpack_bits(payload[start:end], self.bits * sum(counts), "mask.numbers")
        numbers: NDArray[np.int64] = bits.reshape(-1, self.bits) @ (1 << np.arange(self.bits))
        try:
            sizes, top = decode_levels(payload[end:], (sum(counts),))
        except WireError as error:
            raise WireError("mask.blocks", str(error)) from None
        if top != _LARGEST_LOG:
            raise WireError("mask.blocks", f"sizes up to 2^{top}, expected 2^{_LARGEST_LOG}")
        cuts = np.split(sizes, np.cumsum(counts)[:-1])
        for cut, count in zip(cuts, units, strict=True):
            _check(cut, count)
        return cuts, numbers

    def cost_bits(self, payload: bytes, units: Sequence[int]) -> tuple[float, float]:
        """Return what a legal payload costs by the paper, where blocks are known, and by entropy.

        That is b bits a block (all candidates are alike), and the same with the blocks' sizes.
        """
        sizes = np.concatenate(self.read(payload, units)[0])
        numbers = float(self.bits * sizes.size)
        return numbers, numbers + 8 * levels_bound_bytes(sizes, (sizes.size,))


def write_round(round_number: int, payloads: Mapping[int, bytes]) -> bytes:
    """Return a round's payloads for those who draw what they say: the round, then by client.

    Of each the client's number, its payload's length (varints) and its payload.
    """
    parts = [encode_varint(round_number)]
    for client, payload in sorted(payloads.items()):
        parts += [encode_varint(client), encode_varint(len(payload)), payload]
    return b"".join(parts)


def read_round(blob: bytes, clients: int) -> tuple[int, dict[int, bytes]]:
    """Return what `write_round` was given, of so many clients; WireError if it is not legal."""
    round_number, start = decode_varint(blob, 0, "values.round", _MOST_ROUNDS)
    payloads: dict[int, bytes] = {}
    while start < len(blob):
        client, start = decode_varint(blob, start, "values.client", clients - 1)
        size, start = decode_varint(blob, start, "values.ballot", len(blob))
        if payloads and client <= max(payloads):
            raise WireError("values.client", f"{client} is not in its order")
        if size > len(blob) - start:
            raise WireError("values.ballot", f"got {len(blob) - start} of {size} bytes")
        payloads[client] = blob[start : start + size]
        start += size
    return round_number, payloads


class _Words:
    """A stream of words of 64 bits, of which four chances are drawn each.

    Candidates stand one after another, each in whole words.
    """

    def __init__(self, stream: np.random.Generator) -> None:
        source = stream.bit_generator
        if not isinstance(source, np.random.PCG64):
            raise ValueError(f"shared: expected a stream of PCG64, got {type(source).__name__}")
        self._source = source

    def candidates(self, count: int, prior: Prior) -> Bools:
        """Draw bool[count, n]."""
        each = (prior.size + 3) // 4
        words = np.asarray(self._source.random_raw(count * each)).astype("<u8")
        drawn: Bools = words.view("<u2").reshape(count, 4 * each)[:, : prior.size] < prior
        return drawn

    def candidate(self, count: int, number: int, prior: Prior) -> Bools:
        """Draw only one of so many, bool[n]; the stream goes on behind all of them."""
        each = (prior.size + 3) // 4
        self._source.advance(number * each)
        drawn: Bools = self.candidates(1, prior)[0]
        self._source.advance((count - 1 - number) * each)
        return drawn


def _inside(chances: Floats) -> Doubles:
    """Return chances that have logarithms."""
    return np.clip(chances.astype(np.float64), 1 / _ONE, 1 - 1 / _ONE)


def _pick(candidates: Bools, slope: Doubles, own: np.random.Generator) -> int:
    """Return the number of a candidate, drawn with probability ∝ 2 ^ (its sum of slopes)."""
    scores = candidates.astype(np.float64) @ slope / _FINE
    ends = np.cumsum(np.rint(np.exp2(scores - scores.max()) * _WEIGHT).astype(np.int64))
    return int(np.searchsorted(ends, own.integers(ends[-1]), side="right"))


def _cut(divergence: Doubles, most: float) -> Levels:
    """Return the binary logarithms of the sizes of a layer's blocks.

    256 units at a time, in halves as long as one has more than `most` bits of divergence.
    """
    whole = 1 << _LARGEST_LOG
    padded = np.zeros(-(-divergence.size // whole) * whole)
    padded[: divergence.size] = divergence
    logs, uncut = np.zeros(padded.size, np.uint8), np.ones(padded.size, np.bool_)
    for log in range(_LARGEST_LOG, 0, -1):
        fits = np.repeat(padded.reshape(-1, 1 << log).sum(axis=1) <= most, 1 << log) & uncut
        logs[fits], uncut = log, uncut & ~fits
    logs = logs[: divergence.size]
    begins: Bools = np.arange(logs.size) % (1 << logs.astype(np.int64)) == 0
    return logs[begins]


def _blocks(cuts: Cuts, units: Sequence[int]) -> list[slice]:
    """Return where each block stands in the mask; a layer's last one may be cut short."""
    found, start = [], 0
    for cut, count in zip(cuts, units, strict=True):
        ends = np.minimum(np.cumsum(1 << cut.astype(np.int64)), count) + start
        found += list(map(slice, [start, *ends[:-1].tolist()], ends.tolist()))
        start += count
    return found


def _check(cut: Levels, count: int) -> None:
    """Refuse blocks that halving a layer of so many units cannot make."""
    sizes = 1 << cut.astype(np.int64)
    begins = np.cumsum(sizes) - sizes
    if not cut.size or (begins % sizes).any() or not begins[-1] < count <= begins[-1] + sizes[-1]:
        raise WireError("mask.blocks", f"they do not make up {count} units")
