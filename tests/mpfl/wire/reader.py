"""A second reader of messages, from docs/wire-format.md alone: plain Python, slow, nothing shared.

It reads frames, masks (raw, rans), and values (all but `sparse` and `sign`). It takes
legal bytes for granted, but for what tells that it has read them to their end.
"""

import hashlib
import math
import struct
import zlib
from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate, chain, pairwise
from typing import Any

EDGES = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)


def read_varint(data, at):
    number = shift = 0
    while data[at] > 127:
        number, shift, at = number | (data[at] & 127) << shift, shift + 7, at + 1
    return number | data[at] << shift, at + 1


def read_bits(data, count):
    return [data[i // 8] >> i % 8 & 1 for i in range(count)]


def read_frame(blob):
    """Return kind, round and the payloads by number of section."""
    assert blob[:3] == b"\xb5M\x01"
    assert zlib.crc32(blob[:-4]) == int.from_bytes(blob[-4:], "little")
    round_number, at = read_varint(blob, 4)
    count, at, lengths = blob[at], at + 1, {}
    for _ in range(count):
        number = blob[at]
        lengths[number], at = read_varint(blob, at + 1)
    payloads = {}
    for number, length in lengths.items():
        payloads[number], at = blob[at : at + length], at + length
    assert at == len(blob) - 4
    return blob[3], round_number, payloads


def table_of(weights):
    """Return the frequency and the start of every symbol."""
    *_, total = accumulate(weights)
    shares = [max(int(w / total * 32768 + 0.5), int(w > 0)) for w in weights]
    shares[shares.index(max(shares))] += 32768 - sum(shares)
    return shares, [0, *accumulate(shares)][:-1]


class Stream:
    """An rANS stream: symbols one by one, each by its table."""

    def __init__(self, data):
        self.states, self.counts, self.turn = [1], [], 0
        self.stages, at = [1], 1
        if not data:
            self.words = []
            return
        self.stages = [2 ** data[0]] * (data[0] > 0) + [64] * (data[0] > 6) + [1]
        for _ in self.stages[1:]:
            count, at = read_varint(data, at)
            self.counts.append(count)
        at = self._single(data, at) if data[0] == 0 else self._several(data, at)
        self.words = [word for (word,) in struct.iter_unpack("<H", data[at:])][::-1]

    def _single(self, data, at):
        left = len(data) - at
        width = left if left <= 4 else 4 - left % 2
        self.states = [int.from_bytes(data[at : at + width], "little")]
        return at + width

    def _several(self, data, at):
        lanes = self.stages[0]
        sizes = [16 + (data[at + lane // 2] >> lane % 2 * 4 & 15) for lane in range(lanes)]
        at += lanes // 2
        number = int.from_bytes(data[at : at + (sum(sizes) + 7) // 8], "little")
        self.states = []
        for size in sizes:
            self.states.append(1 << size | number & (1 << size) - 1)
            number >>= size
        assert number == 0
        return at + (sum(sizes) + 7) // 8

    def _leave_finished_stages(self):
        while self.counts and self.counts[0] == 0:
            del self.counts[0], self.stages[0]
            gone = [state - 65536 for state in self.states[self.stages[0] :]]
            assert all(0 <= word < 65536 for word in gone)
            self.words += gone[::-1]
            self.states, self.turn = self.states[: self.stages[0]], 0

    def take(self, table):
        self._leave_finished_stages()
        frequencies, starts = table
        state = self.states[self.turn]
        symbol = bisect_right(starts, state % 32768) - 1
        state = frequencies[symbol] * (state // 32768) + state % 32768 - starts[symbol]
        if state < 65536 and (self.words or self.counts):
            state = state * 65536 + self.words.pop()
        self.states[self.turn] = state
        self.turn = (self.turn + 1) % len(self.states)
        if self.counts:
            self.counts[0] -= 1
        return symbol

    def end(self):
        self._leave_finished_stages()
        assert (self.states, self.words, self.counts) == ([1], [], [])


def read_mask(payload, units, within=None, classes=None):
    """Return the bits of a mask."""
    codec, body = payload[0] & 127, payload[1:]
    segments = _segments(units, within, None if payload[0] & 128 else classes)
    lengths = [len(segment) for segment in segments]
    read = {0: _raw, 2: _rans}[codec]
    coded = read(body, lengths)
    bits = [0] * sum(units)
    for unit, bit in zip(chain(*segments), coded, strict=True):
        bits[unit] = bit
    return bits


def _segments(units, within, classes):
    segments, end = [], 0
    for count in units:
        end += count
        layer = [u for u in range(end - count, end) if within is None or within[u]]
        kinds = {u: 0 if classes is None else classes[u] for u in layer}
        segments += [[u for u in layer if kinds[u] == kind] for kind in sorted(set(kinds.values()))]
    return segments


def _raw(body, lengths):
    return read_bits(body, sum(lengths))


@lru_cache(maxsize=512)
def byte_table(index, level, size, zero):
    """Return the table of a block of `size` bits on a level, where byte 0 may be impossible."""
    p = (16 - index % 8) / 2 ** (5 + index // 8)
    for _ in range(level - 1):
        rest = 1 - p
        for _ in range(3):
            rest *= rest
        p = 1 - rest
    weights = [1.0]
    for _ in range(8):
        weights = [w * (1 - p) for w in weights] + [w * p for w in weights]
    return table_of([w if b < 2**size and (b or zero) else 0.0 for b, w in enumerate(weights)])


def _rans(body, lengths):
    parameters, stream = body[: len(lengths)], Stream(body[len(lengths) :])
    coded = {s: q // 2 for s, q in enumerate(parameters) if q < 254}
    depths = {s: 1 + (i >= 20) + (i >= 44) + (i >= 68) for s, i in coded.items()}
    bits: dict[int, list[int]] = {}
    for level in range(max(depths.values(), default=0), 0, -1):
        for s in [s for s in coded if depths[s] >= level]:
            count = -(-lengths[s] // 8 ** (level - 1))
            top, out = depths[s] == level, []
            for block in range(-(-count // 8)):
                size = min(8, count - 8 * block)
                there = top or bits[s][block]
                byte = stream.take(byte_table(coded[s], level, size, top)) if there else 0
                out += read_bits([byte], size)
            bits[s] = out
    stream.end()
    segments = zip(parameters, lengths, strict=True)
    return [
        bit ^ q & 1
        for s, (q, n) in enumerate(segments)
        for bit in (bits[s] if s in bits else [0] * n)
    ]


def read_values(payload, codec, segments, shapes=()):
    """Return the values of a payload."""
    name = codec.partition("(")[0]
    if name == "lowrank":
        return _low_rank(payload, codec, segments, shapes)
    if name in ("stc", "sbc", "eden") and not sum(segments):
        assert not payload
        return []
    if name == "stc":
        length, at = read_varint(payload, 0)
        places = _places(payload[at : at + length], segments)
        sent = sum(1 for value in places if value)
        assert len(payload) == at + length + (sent + 7) // 8
        signs = iter(read_bits(payload[at + length :], sent))
        return [value and (value if next(signs) else -value) for value in places]
    if name == "sbc":
        return _places(payload, segments)
    if name == "eden":
        return _eden(payload, float(codec[5:-1]), segments)
    if name in ("float32", "float16"):
        return [
            value for (value,) in struct.iter_unpack("<f" if name == "float32" else "<e", payload)
        ]
    halves = [half for (half,) in struct.iter_unpack("<H", payload[: 2 * len(segments)])]
    if name == "bfloat16":
        return [_widened(half) for (half,) in struct.iter_unpack("<H", payload)]
    parts = [count * (half > 0) for count, half in zip(segments, halves, strict=True)]
    numbers = iter(_integers(payload[2 * len(segments) :], parts))
    steps = zip(segments, halves, strict=True)
    return [next(numbers) * _widened(h) if h else 0.0 for count, h in steps for _ in range(count)]


def _places(payload, segments):
    """Return each segment's magnitude where it is sent, 0 elsewhere."""
    size = 4 * len(segments)
    magnitudes = [x for (x,) in struct.iter_unpack("<f", payload[:size])]
    units = [n for n, x in zip(segments, magnitudes, strict=True) if x]
    bits = iter(read_mask(payload[size:], units) if units else [])
    return [
        x if x and next(bits) else 0.0
        for n, x in zip(segments, magnitudes, strict=True)
        for _ in range(n)
    ]


def _blocks(count):
    while count > 0:
        size = min(65536, max(128, 1 << count.bit_length() - 1))
        yield size, min(size, count)
        count -= size


def _eden(payload, bits, segments):
    places = [block for count in segments for block in _blocks(count)]
    seed, *scales = struct.unpack_from(f"<I{len(places)}f", payload)
    data = [
        hashlib.shake_128(struct.pack("<II", seed, k)).digest(size // 4 + 2 * size)
        for k, (size, _) in enumerate(places)
    ]
    sent = [
        [bits >= 1 or draw < round(65536 * bits)
         for draw in struct.unpack(f"<{size}H", data[k][size // 4 :])]
        for k, (size, _) in enumerate(places)
    ]  # fmt: skip
    total = sum(sum(some) for some, scale in zip(sent, scales, strict=True) if scale)
    levels = iter(_levels(payload[4 + 4 * len(places) :], total))
    best = best_levels(round(2 ** max(bits, 1)))
    values: list[float] = []
    for k, (size, count) in enumerate(places):
        if not scales[k]:
            values += [0.0] * count
            continue
        rotated = [best[next(levels)] if there else 0.0 for there in sent[k]]
        signs = [1 - 2 * bit for bit in read_bits(data[k], 2 * size)]
        for row in (signs[size:], signs[:size]):
            rotated = [x * sign for x, sign in zip(_hadamard(rotated), row, strict=True)]
        values += [x * scales[k] / size for x in rotated[:count]]
    return values


def _levels(payload, count):
    if not count:
        assert not payload
        return []
    end = payload[0] + 2
    table = table_of(
        [0.0 if s == 255 else (16 - s % 8) / 2 ** (4 + s // 8) for s in payload[1:end]]
    )
    stream = Stream(payload[end:])
    levels = [stream.take(table) for _ in range(count)]
    stream.end()
    return levels


def _hadamard(values):
    apart = 1
    while apart < len(values):
        for i in range(len(values)):
            if not i & apart:
                a, b = values[i], values[i + apart]
                values[i], values[i + apart] = a + b, a - b
        apart *= 2
    return values


@lru_cache
def best_levels(count):
    def below(x):
        return math.erf(x / math.sqrt(2)) / 2

    def density(x):
        return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

    values = [6 * (i + 0.5) / count - 3 for i in range(count)]
    for _ in range(2000):
        edges = [-math.inf, *((a + b) / 2 for a, b in pairwise(values)), math.inf]
        values = [(density(a) - density(b)) / (below(b) - below(a)) for a, b in pairwise(edges)]
    return [round(value * 65536) / 65536 for value in values]


def _low_rank(payload, codec, segments, shapes):
    name, _, inner = codec.partition("|")
    rank, inside, factors = int(name[8:-1]), list[int](), []
    for count, shape in zip(segments, shapes or [None] * len(segments), strict=True):
        rows = shape[0] if shape and len(shape) > 1 else 0
        columns = count // rows if rows else 0
        factors.append(rank * (rows + columns) < rows * columns)
        inside += [rank * rows, rank * columns] if factors[-1] else [count]
    numbers = iter(read_values(payload, inner or "float32", inside))
    parts = iter([[next(numbers) for _ in range(n)] for n in inside])
    values = list[float]()
    for thin in factors:
        left = next(parts)
        if not thin:
            values += left
            continue
        right = next(parts)
        rows, columns = len(left) // rank, len(right) // rank
        values += [
            sum(left[k * rows + i] * right[k * columns + j] for k in range(rank))
            for i in range(rows)
            for j in range(columns)
        ]
    return values


def _widened(half):
    return struct.unpack("<f", struct.pack("<I", half << 16))[0]


def _integers(data, parts):
    tables: list[Any] = []
    uses, at = list[int](), 0
    for count in filter(None, parts):
        number, at = data[at], at + 1
        if number == 255:
            number, end = len(tables), at + 1 + data[at]
            tables.append(table_of(integer_weights(data[at + 1 : end])))
            at = end
        uses += [number] * count
    stream = Stream(data[at:])
    numbers = [stream.take(tables[use]) - 127 for use in uses]
    stream.end()
    return numbers


def integer_weights(buckets):
    weights = [0.0] * 255
    for s, low, high in zip(buckets, EDGES, EDGES[1:], strict=False):
        share = 0.0 if s == 255 else (16 - s % 8) / 2 ** (4 + s // 8)
        for k in range(low, high):
            weights[127 + k] = weights[127 - k] = share / (high - low) / (2 if k else 1)
    return weights
