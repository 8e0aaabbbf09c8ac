"""A fuzzer that knows the format: it changes fields, not only bytes, and seals what it has changed.

``python -m tests.mpfl.wire.fuzzer 100000`` tells what came of so many inputs, codec by codec.
"""

from __future__ import annotations

import itertools
import sys
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any
from unittest.mock import patch

import numpy as np

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
from mpfl.wire.entropy import rans_encoder, symbols
from mpfl.wire.entropy.levels import decode_levels, encode_levels
from mpfl.wire.masks import bernoulli, matrix
from mpfl.wire.masks.plan import make_plan
from mpfl.wire.sections import Metrics, Sync
from mpfl.wire.values import FloatCodec, value_codec
from mpfl.wire.values.base import NOTHING_KNOWN
from mpfl.wire.values.draws import DrawCodec
from mpfl.wire.values.eden import EdenCodec
from mpfl.wire.values.low_rank import LowRankCodec
from mpfl.wire.values.sparse import segment_layout
from mpfl.wire.varint import encode_varint

Rng = np.random.Generator
CONSTANT = 1 << 19
"""What decoding may take beyond a multiple of what is expected, by docs/wire-format.md."""
SPECS = ("float32", "float16", "bfloat16", "int8", "int8(nearest)", "int4", "int4(nearest)", "int3",
         "ternary", "step(1.5)", "step(2, 0.6)", "rd_step(0.1)", "grid(1.5)", "sparse",
         "sparse(0.1)", "sign", "stc(0.1)", "sbc(0.1)", "eden(1)", "eden(0.3)", "eden(2)",
         "lowrank(1)", "lowrank(2) | int4(nearest)")  # fmt: skip


@dataclass(frozen=True)
class Target:
    """One valid encoding, how it is read, and how what was read is written again.

    Attributes
    ----------
    read
        From bytes to what they say, as bytes.
    written
        From what an accepted payload says to the one payload that says it; None: not known.
    forged
        Payloads that say the same in another way, made by someone who has the whole encoder.
    expected
        Bytes that the receiver expects to fill.
    """

    codec: str
    payload: bytes
    read: Callable[[bytes], bytes]
    written: Callable[[bytes], bytes | None]
    forged: Callable[[], Iterator[bytes]]
    expected: int

    @cached_property
    def meaning(self) -> bytes:
        """What the valid encoding says."""
        return self.read(self.payload)


def mask_targets(units: tuple[int, ...], density: float, seed: int) -> Iterator[Target]:
    rng = np.random.default_rng(seed)
    layout = Layout(tuple(map(str, range(len(units)))), units)
    within = Mask.from_bools(layout, rng.random(layout.total) < 0.7)
    mask = Mask.from_bools(layout, within.bools() & (rng.random(layout.total) < density))
    classes = rng.integers(0, 3, layout.total).astype(np.uint8)
    contexts: list[dict[str, Any]] = [
        {},
        {"within": within},
        {"classes": classes},
        {"within": within, "classes": classes},
    ]
    for codec in MASK_CODECS.names():
        for known in contexts:
            yield _mask_target(codec, mask, known)


def _mask_target(codec: str, mask: Mask, known: dict[str, Any]) -> Target:
    layout, widths = mask.layout, tuple(max(1, n // 15) for n in mask.layout.units)

    def written(payload: bytes) -> bytes | None:
        name, context = _codec_of(payload), dict(known)
        if payload[0] & 128:
            context.pop("classes")
        read = decode_mask(payload, layout, **known)
        if name == "matrix":  # widths and labels are the sender's
            plan = make_plan(layout, context.get("within"), context.get("classes"))
            code, _ = matrix.read_code(payload[1:], plan)
            return payload[:1] + matrix.encode_matrix(read.bools(), plan, code)
        content = encode_mask(read, codec=name, **context)
        return bytes((payload[0],)) + content[1:] if name != "raw" else None

    def forged() -> Iterator[bytes]:
        if codec == "rans":
            plan = make_plan(layout, known.get("within"), known.get("classes"))
            yield from _other_parameters(payload, plan.take(mask.bools()), plan.lengths)
        if codec in ("rans", "matrix"):
            encode = lambda: encode_mask(mask, codec=codec, widths=widths, **known)  # noqa: E731
            yield from _other_lanes(encode)

    payload = encode_mask(mask, codec=codec, widths=widths, **known)
    return Target(
        f"mask {codec}",
        payload,
        lambda blob: decode_mask(blob, layout, **known).to_bytes(),
        written,
        forged,
        layout.total,
    )


def _codec_of(payload: bytes) -> str:
    return next(n for n in MASK_CODECS.names() if MASK_CODECS[n].number == payload[0] & 127)


def _other_parameters(payload: bytes, bits: Any, lengths: tuple[int, ...]) -> Iterator[bytes]:
    right = bernoulli.fit_parameters(bits, lengths)
    for place in range(len(lengths)):
        for change in (-2, -1, 1, 2, 16):
            wrong = right.copy()
            wrong[place] = (int(right[place]) + change) % 254
            stream = bernoulli.encode_with_parameters(wrong, bits, lengths)
            yield payload[:1] + wrong.tobytes() + stream


def _other_lanes(encode: Callable[[], bytes]) -> Iterator[bytes]:
    """Write it with other lanes than the rule says, and with longer or shorter stages."""
    for log in range(12):
        with patch.object(rans_encoder, "lanes_log", return_value=log), suppress(ValueError):
            yield encode()  # ValueError: too few symbols to feed so many lanes
    for size in (64, 255, 512):
        with patch.object(rans_encoder, "stride", return_value=size):
            yield encode()


def value_targets(segments: tuple[int, ...], seed: int) -> Iterator[Target]:
    rng = np.random.default_rng(seed)
    values = (rng.standard_normal(sum(segments)) ** 3).astype(np.float32)
    values[rng.random(values.size) < 0.4] = 0
    values[: segments[0]] = 0
    classes = rng.integers(0, 3, values.size).astype(np.uint8)
    shapes = tuple((n // 5, 5) if n % 5 == 0 else None for n in segments)
    for spec in SPECS:
        for known in (ValueContext(shapes=shapes), ValueContext(classes, shapes)):
            yield _value_target(spec, values, segments, known)


def _value_target(spec: str, values: Any, segments: tuple[int, ...], known: ValueContext) -> Target:
    name, codec = spec.partition("(")[0], value_codec(spec)

    def encode() -> bytes:
        return encode_values(values, spec, segments, np.random.default_rng(7), context=known)

    def read(payload: bytes) -> bytes:
        values = decode_values(payload, spec, segments, context=known)
        if isinstance(codec, LowRankCodec):  # what travels are factors; others may come to the same
            values = codec.inner.decode(payload, codec.factors(segments, known), NOTHING_KNOWN)
        return values.tobytes()

    def written(payload: bytes) -> bytes | None:
        read = decode_values(payload, spec, segments, context=known)
        if isinstance(codec, EdenCodec):
            return codec.write(*codec.read(payload, segments))
        if isinstance(codec, LowRankCodec) and isinstance(codec.inner, FloatCodec):
            factors = codec.factors(segments, known)
            numbers = codec.inner.decode(payload, factors, NOTHING_KNOWN)
            return codec.inner.encode(numbers, factors, None, NOTHING_KNOWN)
        if "float" in name:
            return encode_values(read, spec, segments, context=known)
        if name == "sparse":
            mask = Mask.from_bools(segment_layout(segments), read != 0)
            start = 1 + (payload[0] > 127)
            same = _mask_again(payload[start:], mask, known.classes)
            return None if same is None else (
                encode_varint(len(same)) + same + read[read != 0].astype("<f4").tobytes()
            )  # fmt: skip
        if name == "sbc":
            return _places_again(payload, read, segments, known)
        if name == "stc":
            start = 1 + (payload[0] > 127)
            same = _places_again(payload[start:], np.abs(read), segments, known)
            return None if same is None else (
                encode_varint(len(same)) + same
                + np.packbits(read[read != 0] > 0, bitorder="little").tobytes()
            )  # fmt: skip
        return None

    def forged() -> Iterator[bytes]:
        if name.startswith(("eden", "step", "rd_step", "grid", "ternary", "lowrank", "int")):
            yield from _other_lanes(encode)
            yield from _other_tables(encode)

    return Target(f"values {name}", encode(), read, written, forged, 4 * values.size)


def _mask_again(payload: bytes, mask: Mask, classes: Any) -> bytes | None:
    if not payload or (name := _codec_of(payload)) == "matrix":
        return None
    used = None if payload[0] & 128 else classes
    if name == "raw":  # which `encode_mask` writes without classes only
        coded = make_plan(mask.layout, None, used).take(mask.bools())
        return payload[:1] + np.packbits(coded, bitorder="little").tobytes()
    return payload[:1] + encode_mask(mask, codec=name, classes=used)[1:]


def _places_again(
    payload: bytes, values: Any, segments: tuple[int, ...], known: ValueContext
) -> bytes | None:
    parts = np.split(values, np.cumsum(segments)[:-1])
    scales = np.array([part[part != 0][:1].sum() for part in parts], "<f4")
    coded = np.repeat(scales != 0, segments)
    if not coded.any():
        return scales.tobytes()
    layout = segment_layout([n for n, scale in zip(segments, scales, strict=True) if scale])
    classes = None if known.classes is None else known.classes[coded]
    mask = _mask_again(
        payload[4 * len(segments) :], Mask.from_bools(layout, values[coded] != 0), classes
    )
    return None if mask is None else scales.tobytes() + mask


def _other_tables(encode: Callable[[], bytes]) -> Iterator[bytes]:
    """Write integers with tables that are not theirs."""
    right = symbols._table

    def wrong(counts: Any, place: int, change: int) -> bytes:
        table = bytearray(right(counts))
        where = place % len(table)
        table[where] = (table[where] + change) % 255 if table[where] < 255 else 255
        return bytes(table)

    for place, change in itertools.product(range(4), (-1, 1, 8)):
        table = partial(wrong, place=place, change=change)
        impossible = suppress(ArithmeticError, ValueError)  # an integer has no share
        with patch.object(symbols, "_table", table), np.errstate(all="raise"), impossible:
            yield encode()


def level_targets(seed: int) -> Iterator[Target]:
    segments = (120, 40)
    levels = np.random.default_rng(seed).binomial(20, 0.7, sum(segments)).astype(np.uint8)

    def read(payload: bytes) -> bytes:
        found, top = decode_levels(payload, segments)
        return bytes((top,)) + found.tobytes()

    def written(payload: bytes) -> bytes:
        found, top = decode_levels(payload, segments)
        return encode_levels(found, top, segments)

    payload = encode_levels(levels, 20, segments)
    yield Target("levels", payload, read, written, lambda: iter(()), levels.size)


def draw_targets(seed: int) -> Iterator[Target]:
    rng, codec = np.random.default_rng(seed), DrawCodec(6)
    layout = Layout(("first", "second"), (700, 90))
    prior = rng.integers(1311, 64226, layout.total).astype(np.uint16)
    posterior = np.clip(prior / 65536 + 0.1 * rng.standard_normal(layout.total), 0.02, 0.98)
    streams = [np.random.Generator(np.random.PCG64(number)) for number in (1, 2)]
    payload = codec.encode(posterior.astype(np.float32), prior, layout, *streams)

    def read(blob: bytes) -> bytes:
        shared = np.random.Generator(np.random.PCG64(1))
        return codec.decode(blob, prior, layout, shared).to_bytes()

    def written(blob: bytes) -> bytes:
        return codec.write(*codec.read(blob, layout.units))

    yield Target("draws", payload, read, written, lambda: iter(()), layout.total)


def small_targets() -> Iterator[Target]:
    for sync in (Sync(1, 2, 3, 4, 5, 6), Sync(0, 0, 70_000, 1, 2, 3)):
        say = lambda blob: repr(Sync.unpack(blob)).encode()  # noqa: E731
        again = lambda blob: Sync.unpack(blob).pack()  # noqa: E731
        yield Target("config", sync.pack(), say, again, lambda: iter(()), 0)
    tell = lambda blob: repr(Metrics.unpack(blob)).encode()  # noqa: E731
    more = lambda blob: Metrics.unpack(blob).pack()  # noqa: E731
    yield Target("metrics", Metrics(600, 0.0).pack(), tell, more, lambda: iter(()), 0)


def frame_targets(rng: Rng) -> Iterator[Target]:
    """Whole frames, of which every changed one is sealed again."""
    for kind in Kind:
        chosen = [s for s in Section if rng.random() < 0.6]
        sections = {s: rng.bytes(int(rng.integers(300))) for s in chosen}
        frame = Frame(kind, int(rng.integers(2**20)), sections)
        say = lambda blob: repr(decode_frame(blob)).encode()  # noqa: E731
        again = lambda blob: encode_frame(decode_frame(blob))  # noqa: E731
        forged = lambda frame=frame: _other_frames(frame)  # noqa: E731
        yield Target("frame", encode_frame(frame), say, again, forged, 0)


def _other_frames(frame: Frame) -> Iterator[bytes]:
    """The same sections in another order, twice, with longer varints, and with gaps between."""
    sections = sorted(frame.sections.items())
    for order in (sections[::-1], sections + sections[:1], sections[:1] + sections):
        yield _assembled(frame, order, encode_varint, b"")
    yield _assembled(frame, sections, _longer, b"")
    yield _assembled(frame, sections, encode_varint, b"\x00")


def _longer(number: int) -> bytes:
    """Return a varint with one byte more than it takes."""
    *first, last = encode_varint(number)
    return bytes((*first, last | 128, 0))


def _assembled(frame: Frame, order: Any, number: Callable[[int], bytes], gap: bytes) -> bytes:
    blob = b"\xb5M\x01" + bytes((frame.kind,)) + number(frame.round) + bytes((len(order),))
    blob += b"".join(bytes((key,)) + number(len(body)) for key, body in order)
    return sealed(blob + b"".join(body + gap for _, body in order) + b"....")


def sealed(blob: bytes) -> bytes:
    return blob[:-4] + zlib.crc32(blob[:-4]).to_bytes(4, "little")


def targets(rng: Rng) -> list[Target]:
    found = [*level_targets(1), *draw_targets(1), *small_targets(), *frame_targets(rng)]
    for units, density in (((300, 77), 0.3), ((1000, 9), 0.01), ((5,), 0.5), ((700, 700), 0.9)):
        found += mask_targets(units, density, int(rng.integers(2**32)))
    for segments in ((60, 0, 5, 35), (1, 3), (500, 400)):
        found += value_targets(segments, int(rng.integers(2**32)))
    return found


def large_targets(rng: Rng) -> list[Target]:
    """Encodings that are long enough for several lanes and stages."""
    seed = int(rng.integers(2**32))
    masks = list(mask_targets((160_000, 90_000), 0.5, seed))
    values = [t for t in value_targets((1, 40_000, 30_000), seed) if "int8" in t.codec]
    return masks + values


def mutated(target: Target, others: list[Target], rng: Rng) -> bytes:
    """Return a payload changed in one way or two."""
    work = bytearray(target.payload)
    for _ in range(1 + (rng.random() < 0.3)):
        _CHANGES[rng.integers(len(_CHANGES))](work, others, rng)
    return sealed(bytes(work)) if target.codec == "frame" and len(work) > 4 else bytes(work)


def _flip(work: bytearray, others: list[Target], rng: Rng) -> None:
    for place in rng.integers(len(work), size=rng.integers(1, 4)) if work else ():
        work[place] ^= 1 << int(rng.integers(8))


def _flip_early(work: bytearray, others: list[Target], rng: Rng) -> None:
    """Change what tells how the rest is to be read."""
    if work:
        work[int(rng.integers(min(len(work), 12)))] = int(rng.choice([0, 1, 2, 127, 128, 254, 255]))


def _flip_late(work: bytearray, others: list[Target], rng: Rng) -> None:
    """Change padding, last words and last states."""
    if work:
        work[-1 - int(rng.integers(min(len(work), 4)))] ^= 1 << int(rng.integers(8))


def _count(work: bytearray, others: list[Target], rng: Rng) -> None:
    """Add a little to a byte, as to a length or a count."""
    if work:
        place = int(rng.integers(len(work)))
        work[place] = (work[place] + int(rng.integers(-3, 4))) % 256


def _longer_number(work: bytearray, others: list[Target], rng: Rng) -> None:
    """Write what may be a varint with one byte more."""
    if work:
        place = int(rng.integers(len(work)))
        work[place : place + 1] = bytes((work[place] | 128, 0))


def _append(work: bytearray, others: list[Target], rng: Rng) -> None:
    work += (
        bytes(int(rng.integers(1, 5))) if rng.random() < 0.5 else rng.bytes(int(rng.integers(1, 9)))
    )


def _insert(work: bytearray, others: list[Target], rng: Rng) -> None:
    place = int(rng.integers(len(work) + 1))
    work[place:place] = rng.bytes(int(rng.integers(1, 5)))


def _cut(work: bytearray, others: list[Target], rng: Rng) -> None:
    del work[int(rng.integers(len(work) + 1)) :]


def _drop(work: bytearray, others: list[Target], rng: Rng) -> None:
    place = int(rng.integers(len(work) + 1))
    del work[place : place + int(rng.integers(1, 5))]


def _double(work: bytearray, others: list[Target], rng: Rng) -> None:
    place = int(rng.integers(len(work) + 1))
    work += work[place:]


def _splice(work: bytearray, others: list[Target], rng: Rng) -> None:
    other = others[rng.integers(len(others))].payload
    place = int(rng.integers(len(work) + 1))
    work[place:] = other[int(rng.integers(len(other) + 1)) :]


def _swap(work: bytearray, others: list[Target], rng: Rng) -> None:
    """Exchange two neighbours, such as two tables or two sections."""
    size = int(rng.integers(1, 5))
    place = int(rng.integers(len(work) + 1))
    first, second = work[place : place + size], work[place + size : place + 2 * size]
    work[place : place + 2 * size] = second + first


_CHANGES = (_flip, _flip_early, _flip_late, _count, _longer_number, _append, _insert, _cut, _drop,
            _double, _splice, _swap)  # fmt: skip


def judged(target: Target, blob: bytes) -> str:
    """Return ``refused``, ``other`` (another value, in its one form) or what is wrong."""
    meaning = target.meaning
    try:
        found = target.read(blob)
    except WireError:
        return "refused"
    if blob == target.payload:
        return "unchanged"
    again = target.written(blob)
    if again is None:
        return "SECOND FORM" if found == meaning and blob[:1] == target.payload[:1] else "other"
    return "other" if again == blob else "SECOND FORM"


def memory_beyond(target: Target, blob: bytes) -> int:
    """Return by how many bytes reading takes more than the documented bound."""
    tracemalloc.start()
    try:
        target.read(blob)
    except WireError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak - 4 * target.expected - len(blob) - CONSTANT


def fuzz(count: int, seed: int = 0) -> dict[str, Counter[str]]:
    """Return what became of so many inputs, by codec."""
    rng = np.random.default_rng(seed)
    found, large = targets(rng), large_targets(rng)
    results: dict[str, Counter[str]] = {}
    for target in [*found, *large]:
        for blob in list(target.forged()):  # the library as it is is back in place then
            results.setdefault(target.codec, Counter())[judged(target, blob)] += 1
    for i in range(count):
        pool = large if i % 50 == 0 else found
        target = pool[rng.integers(len(pool))]
        blob = mutated(target, found, rng)
        tally = results.setdefault(target.codec, Counter())
        tally[judged(target, blob)] += 1
        if i % 7 == 0 and memory_beyond(target, blob) > 0:
            tally["MEMORY"] += 1
    return results


if __name__ == "__main__":
    for name, tally in sorted(fuzz(int(sys.argv[1]), *map(int, sys.argv[2:])).items()):
        print(f"{name:16}", dict(sorted(tally.items())))
