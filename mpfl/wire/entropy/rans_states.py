"""The lanes of an rANS stream: how many serve which symbols, and their last states as bytes."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfl.wire.entropy.tables import BIT
from mpfl.wire.errors import WireError

COMPILED: Any = None
"""The loops in C, where a compiler was there when the package was installed."""
with suppress(ImportError):
    from mpfl.wire.entropy import _lanes

    COMPILED = _lanes if sys.byteorder == "little" else None

Ints = NDArray[np.int64]

LOWEST = 1 << 16
"""States are at least this, and below its square."""
MAX_LANES_LOG = 11
_MIDDLE_LANES_LOG = 6
# A row of fewer symbols than 2 ** 5 takes NumPy longer than one after another.
_LANES_LOGS = range(5, MAX_LANES_LOG + 1)
_BYTES_PER_LANE, _BYTES_PER_FURTHER_LANE = 192, 2048
_SCALAR_STRIDE = 256


def stages(lanes_log: int) -> list[int]:
    """Return the lanes of each stage, in encoding order: from the last symbols to the first."""
    middle = [1 << _MIDDLE_LANES_LOG] if lanes_log > _MIDDLE_LANES_LOG else []
    return [1, *middle, *([1 << lanes_log] if lanes_log else [])]


def lanes_log(information: int) -> int:
    """Return log2 of the lanes of the first stage, given what all symbols say, in `tables.BIT`."""
    fitting = [log for log in _LANES_LOGS if _least_bytes(log) * 8 * BIT <= information]
    return max(fitting, default=0)


def check_length(log: int, size: int) -> None:
    """Raise WireError if a stream is far too long or too short for its lanes.

    `lanes_log` tells exactly, but only when all is decoded, which with few lanes takes time.
    """
    least, most = _least_bytes(log), _least_bytes(max(log + 1, _LANES_LOGS[0]))
    if (log and 2 * size < least) or (log < MAX_LANES_LOG and size > 2 * most):
        raise WireError("rans.lanes", f"2 to the power of {log} do not belong to {size} bytes")


def _least_bytes(log: int) -> int:
    """Return from how many bytes on a stream has 2 ** log lanes.

    To end one takes half a byte, so that many are only worth it where they are hardly noticed.
    """
    return (_BYTES_PER_LANE if log <= _MIDDLE_LANES_LOG else _BYTES_PER_FURTHER_LANE) << log


def stride(lanes: int) -> int:
    """Return of what the symbols of a stage that feeds another one are a multiple."""
    return lanes if lanes > 1 else _SCALAR_STRIDE


def pack_states(states: Ints) -> bytes:
    """Write one state in its fewest bytes; several as exponents (4 bits), then mantissas."""
    if states.size == 1:
        state = int(states[0])
        return state.to_bytes((state.bit_length() + 7) // 8, "little")
    exponents = _bit_lengths(states) - 17
    nibbles = exponents.astype(np.uint8)
    packed = (nibbles[::2] | nibbles[1::2] << 4).tobytes()
    bits = np.unpackbits(states.astype("<u4").view(np.uint8).reshape(-1, 4), axis=1,
                         bitorder="little")  # fmt: skip
    used = np.arange(32) < exponents[:, None] + 16
    return packed + np.packbits(bits[used], bitorder="little").tobytes()


def _bit_lengths(states: Ints) -> Ints:
    return np.frexp(states.astype(np.float64))[1].astype(np.int64)


def unpack_states(blob: bytes | memoryview, begin: int, lanes: int) -> tuple[Ints, int]:
    """Read several lanes' states; returns them and where the words begin, or raises WireError."""
    nibbles = np.frombuffer(blob[begin : begin + lanes // 2], np.uint8)
    if nibbles.size * 2 != lanes:
        raise WireError("rans.states", "the stream ends inside them")
    exponents = np.stack([nibbles & 15, nibbles >> 4], axis=1).ravel().astype(np.int64)
    used = np.arange(32) < exponents[:, None] + 16
    count = int(used.sum())
    begin += lanes // 2
    end = begin + (count + 7) // 8
    packed = np.frombuffer(blob[begin:end], np.uint8)
    if packed.size != end - begin:
        raise WireError("rans.states", "the stream ends inside them")
    if count % 8 and packed[-1] >> count % 8:
        raise WireError("rans.states", "padding bits are not zero")
    bits = np.zeros(used.shape, np.uint8)
    bits[used] = np.unpackbits(packed, count=count, bitorder="little")
    mantissas = np.packbits(bits, axis=1, bitorder="little").view("<u4").ravel().astype(np.int64)
    return mantissas + (1 << (exponents + 16)), end
