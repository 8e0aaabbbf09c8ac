"""Masks through the range coder of the optional package constriction: a reference for size."""

from __future__ import annotations

from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from mpfl.wire.bernoulli import CONSTANT, fit_parameters, probabilities
from mpfl.wire.errors import WireError

Bools = NDArray[np.bool_]


def encode_range(bits: Bools, lengths: tuple[int, ...]) -> bytes:
    """Return a parameter a segment, as in mpfl.wire.bernoulli, then the coder's words.

    ValueError if constriction is not installed.
    """
    constriction = _constriction()
    if constriction is None:
        raise ValueError("mask codec 'range' needs constriction: pip install 'mpfl[range]'")
    parameters = fit_parameters(bits, lengths)
    return parameters.tobytes() + _words(constriction, bits, lengths, parameters).tobytes()


def decode_range(payload: bytes, lengths: tuple[int, ...]) -> Bools:
    """Read what `encode_range` wrote; raises WireError and nothing else."""
    constriction = _constriction()
    if constriction is None:
        raise WireError("mask.codec", "'range' needs constriction: pip install 'mpfl[range]'")
    parameters = np.frombuffer(payload[: len(lengths)], np.uint8)
    if parameters.size != len(lengths) or (len(payload) - len(lengths)) % 4:
        raise WireError("mask.range", "the payload ends inside parameters or words")
    words = np.frombuffer(payload[len(lengths) :], "<u4").astype(np.uint32)
    decoder = constriction.stream.queue.RangeDecoder(words)
    parts = []
    for parameter, count in zip(parameters.tolist(), lengths, strict=True):
        flip = np.bool_(parameter & 1)
        if parameter >= CONSTANT:
            parts.append(np.full(count, flip))
            continue
        try:
            rare = decoder.decode(_model(constriction, parameter), count)
        except (AssertionError, ValueError) as error:
            raise WireError("mask.range", f"constriction: {error}") from None
        parts.append(rare.astype(np.bool_) ^ flip)
    bits = np.concatenate(parts) if parts else np.zeros(0, np.bool_)
    if not np.array_equal(_words(constriction, bits, lengths, parameters), words):
        raise WireError("mask.range", "the words are not those of these bits")
    return bits


def _words(
    constriction: ModuleType,
    bits: Bools,
    lengths: tuple[int, ...],
    parameters: NDArray[np.uint8],
) -> NDArray[np.uint32]:
    encoder = constriction.stream.queue.RangeEncoder()
    end = 0
    for parameter, count in zip(parameters.tolist(), lengths, strict=True):
        end += count
        if parameter < CONSTANT:
            rare = bits[end - count : end] ^ np.bool_(parameter & 1)
            encoder.encode(rare.astype(np.int32), _model(constriction, parameter))
    words: NDArray[np.uint32] = encoder.get_compressed().astype("<u4")
    return words


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
