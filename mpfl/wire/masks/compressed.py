"""Masks through zstandard: as packed bits, or as gaps between the rarer bits, a byte each."""

from __future__ import annotations

import numpy as np
import zstandard
from numpy.typing import NDArray

from mpfl.wire.errors import WireError

Bools = NDArray[np.bool_]

_ESCAPE = 255
_BLOCK_OF_BITS = 1 << 18
_BLOCK_OF_PLACES = 1 << 15
_BLOCK_OF_GAPS = 1 << 13
"""What is held as integers at a time."""
_LEVEL = 1
_SMALLEST_WINDOW_LOG, _WINDOW_LOG = 10, 19  # those of level 1


def encode_packed(bits: Bools) -> bytes:
    """Return the compressed packed bits."""
    return _compress(np.packbits(bits, bitorder="little").tobytes())


def decode_packed(payload: bytes | memoryview, count: int) -> Bools:
    """Read what `encode_packed` wrote; raises WireError and nothing else."""
    return unpack_bits(_decompress(payload, (count + 7) // 8, "mask.zstd"), count, "mask.zstd")


def unpack_bits(packed: bytes | memoryview, count: int, field: str) -> Bools:
    """Return `count` bits from ⌈count/8⌉ bytes with zero padding; WireError otherwise."""
    if len(packed) != (count + 7) // 8:
        raise WireError(field, f"got {len(packed)} bytes for {count} units")
    raw = np.frombuffer(packed, np.uint8)
    if count % 8 and raw[-1] >> (count % 8):
        raise WireError(field, "padding bits are not zero")
    return np.unpackbits(raw, count=count, bitorder="little").view(np.bool_)


def encode_gaps(bits: Bools) -> bytes:
    """Return which bit is the rarer (one byte), then the compressed gaps.

    A gap is the number of the other bits before a rarer one; 255 stands for 255 of them and says
    that the gap goes on. What follows the last rarer bit is not sent.
    """
    ones = int(np.count_nonzero(bits))
    rarer, few = ones * 2 <= bits.size, max(1, min(ones, bits.size - ones))
    size = min(_BLOCK_OF_BITS, 1 + _BLOCK_OF_PLACES * bits.size // few)
    before, parts = -1, []
    for begin in range(0, bits.size, size):
        block = bits[begin : begin + size]
        places = np.flatnonzero(block if rarer else ~block) + begin
        if places.size:
            parts.append(_gap_bytes(np.diff(places, prepend=before) - 1))
            before = int(places[-1])
    return bytes((rarer,)) + _compress(b"".join(parts))


def _gap_bytes(gaps: NDArray[np.int64]) -> bytes:
    if gaps.max() < _ESCAPE:
        return gaps.astype(np.uint8).tobytes()
    escapes = gaps // _ESCAPE
    raw = np.full(int(gaps.size + escapes.sum()), _ESCAPE, np.uint8)
    raw[np.arange(gaps.size) + np.cumsum(escapes)] = gaps % _ESCAPE
    return raw.tobytes()


def decode_gaps(payload: bytes | memoryview, count: int) -> Bools:
    """Read what `encode_gaps` wrote; raises WireError and nothing else."""
    if not len(payload) or payload[0] > 1:
        raise WireError("mask.gaps", "which bit is the rarer is neither 0 nor 1")
    raw = np.frombuffer(_decompress(payload[1:], count, "mask.gaps"), np.uint8)
    if raw.size and raw[-1] == _ESCAPE:
        raise WireError("mask.gaps", "they end with an escape")
    bits = np.full(count, payload[0] == 0)
    before = -1
    for begin in range(0, raw.size, _BLOCK_OF_GAPS):
        block = raw[begin : begin + _BLOCK_OF_GAPS]
        steps = block + (block != _ESCAPE).astype(np.int64)
        places = np.cumsum(steps, out=steps)
        places += before
        before = int(places[-1])
        if before >= count:
            raise WireError("mask.gaps", f"they reach beyond the {count} units")
        if block.max() == _ESCAPE:
            places = places[block != _ESCAPE]
        bits[places] = payload[0] == 1
    if (2 * np.count_nonzero(bits) <= count) != payload[0]:
        raise WireError("mask.gaps", "the rarer bit is the other one")
    return bits


def _compress(raw: bytes) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=False
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(raw)


def _decompress(payload: bytes | memoryview, limit: int, field: str) -> bytes:
    """Return at most `limit` bytes, and never hold more, whatever the payload claims."""
    magicless = zstandard.FORMAT_ZSTD1_MAGICLESS
    try:
        _check_blocks(payload, field)
        decompressor = zstandard.ZstdDecompressor(format=magicless)
        # To zstandard a limit of 0 means none.
        raw: bytes = decompressor.decompress(
            payload, max_output_size=max(limit, 1), allow_extra_data=False
        )
    except (zstandard.ZstdError, MemoryError) as error:
        raise WireError(field, f"zstandard: {error}") from None
    if len(raw) > limit:
        raise WireError(field, f"more than {limit} bytes, uncompressed")
    if payload[1] != _window(len(raw)):
        raise WireError(field, "the window is not that of the content")
    return raw


def _window(size: int) -> int:
    """Return the byte that says in how large a window zstandard compresses so many bytes."""
    return (min(max((size - 1).bit_length(), _SMALLEST_WINDOW_LOG), _WINDOW_LOG) - 10) << 3


def _check_blocks(payload: bytes | memoryview, field: str) -> None:
    """Check that a frame has two bytes of header, no checksum, and ends with its last block."""
    if len(payload) < 2 or payload[0] or payload[1] > _window(1 << _WINDOW_LOG):
        raise WireError(field, "a zstandard frame of a form that is never sent")
    position, last = 2, False
    while not last:
        if position + 3 > len(payload):
            raise WireError(field, "the zstandard frame ends inside a block")
        header = int.from_bytes(payload[position : position + 3], "little")
        last, repeated = bool(header & 1), header >> 1 & 3 == 1
        position += 3 + (1 if repeated else header >> 3)
    if position != len(payload):
        raise WireError(field, "the zstandard frame has another length")
