"""Masks through the range coder of the optional package constriction: a reference for size."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from mpfl.wire.errors import WireError
from mpfl.wire.masks.bernoulli import (
    CONSTANT,
    check_parameters,
    fit_parameters,
    probabilities,
)

Bools = NDArray[np.bool_]

_CHUNK = 1 << 14
"""Bits that are held as integers at a time."""


def encode_range(bits: Bools, lengths: tuple[int, ...]) -> bytes:
    """Return a parameter a segment, as in mpfl.wire.masks.bernoulli, then the coder's words.

    ValueError if constriction is not installed.
    """
    constriction = _constriction()
    if constriction is None:
        raise ValueError("mask codec 'range' needs constriction: pip install 'mpfl[range]'")
    parameters = fit_parameters(bits, lengths)
    return parameters.tobytes() + _words(constriction, bits, lengths, parameters).tobytes()


def decode_range(payload: bytes | memoryview, lengths: tuple[int, ...]) -> Bools:
    """Read what `encode_range` wrote; raises WireError and nothing else."""
    constriction = _constriction()
    if constriction is None:
        raise WireError("mask.codec", "'range' needs constriction: pip install 'mpfl[range]'")
    parameters = np.frombuffer(payload[: len(lengths)], np.uint8)
    if parameters.size != len(lengths) or (len(payload) - len(lengths)) % 4:
        raise WireError("mask.range", "the payload ends inside parameters or words")
    words = np.frombuffer(payload[len(lengths) :], "<u4").astype(np.uint32, copy=False)
    decoder = constriction.stream.queue.RangeDecoder(words)
    bits = np.empty(sum(lengths), np.bool_)
    for parameter, part in _coded_parts(parameters, lengths):
        flip = np.bool_(parameter & 1)
        if parameter >= CONSTANT:
            bits[part] = flip
            continue
        try:
            rare = decoder.decode(_model(constriction, parameter), part.stop - part.start)
        except (AssertionError, ValueError) as error:
            raise WireError("mask.range", f"constriction: {error}") from None
        bits[part] = rare.astype(np.bool_) ^ flip
    if not np.array_equal(_words(constriction, bits, lengths, parameters), words):
        raise WireError("mask.range", "the words are not those of these bits")
    check_parameters(parameters, bits, lengths)
    return bits


def _words(
    constriction: ModuleType,
    bits: Bools,
    lengths: tuple[int, ...],
    parameters: NDArray[np.uint8],
) -> NDArray[np.uint32]:
    encoder = constriction.stream.queue.RangeEncoder()
    for parameter, part in _coded_parts(parameters, lengths):
        if parameter < CONSTANT:
            rare = bits[part] ^ np.bool_(parameter & 1)
            encoder.encode(rare.astype(np.int32), _model(constriction, parameter))
    words: NDArray[np.uint32] = encoder.get_compressed().astype("<u4")
    return words


def _coded_parts(
    parameters: NDArray[np.uint8], lengths: tuple[int, ...]
) -> Iterator[tuple[int, slice]]:
    """Give the bits a chunk at a time, each with the parameter of its segment."""
    begin = 0
    for parameter, count in zip(parameters.tolist(), lengths, strict=True):
        for first in range(begin, begin + count, _CHUNK):
            yield parameter, slice(first, min(first + _CHUNK, begin + count))
        begin += count


def _model(constriction: ModuleType, parameter: int) -> object:
    chance = float(probabilities()[parameter // 2])
    return constriction.stream.model.Bernoulli(chance, perfect=False)


def _constriction() -> ModuleType | None:
    try:
        import constriction
    except ImportError:
        return None
    module: ModuleType = constriction
    return module
