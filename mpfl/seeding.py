"""Every random stream of a run, derived from its seed; global generators are lent, never used up.

What others wrote (a network with dropout, a score with ``np.random``) draws from the global
generators of torch, NumPy and Python. A block of `lent` or `lent_from` gives these a stream of the
run, and afterwards they are what they were before.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from mpfl.errors import InputError


def sequence(seed: int, purpose: str, *key: int) -> np.random.SeedSequence:
    """Return the seed sequence of one stream.

    Parameters
    ----------
    seed
        The run's seed.
    purpose
        What the stream is for, e.g. ``"batches"``; part of the key.
    key
        Usually round and client, non-negative.
    """
    return np.random.SeedSequence(seed, spawn_key=(zlib.crc32(purpose.encode()), *key))


def numpy_rng(seed: int, purpose: str, *key: int) -> np.random.Generator:
    """Return a NumPy generator for the stream (seed, purpose, key)."""
    return np.random.Generator(np.random.PCG64(sequence(seed, purpose, *key)))


_MOST_DRAWN = 10**8


@lru_cache(maxsize=8)
def drawn_clients(seed: int, purpose: str, clients: int, share: float) -> frozenset[int]:
    """Return round(share · clients) of the clients, drawn for a purpose.

    With the same seed, a smaller share gives a subset of those of a larger one. InputError where
    there are more than a hundred million to draw from, each of which is looked at.
    """
    if share == 0:
        return frozenset()
    if clients > _MOST_DRAWN:
        raise InputError(
            f"data.clients: got {clients}, expected at most {_MOST_DRAWN} where some are drawn "
            f"to be {purpose}"
        )
    order = numpy_rng(seed, purpose).permutation(clients)
    return frozenset(map(int, order[: int(share * clients + 0.5)]))


def plain_rng(seed: int) -> np.random.Generator:
    """Return the generator that other people's programs make of a seed, to draw what they drew."""
    return np.random.default_rng(seed)


def torch_generator(seed: int, purpose: str, *key: int) -> torch.Generator:
    """Return a CPU torch generator for the stream (seed, purpose, key)."""
    state = sequence(seed, purpose, *key).generate_state(1, np.uint64)
    # manual_seed takes a signed 64-bit number; one bit less is still plenty.
    return torch.Generator().manual_seed(int(state[0]) >> 1)


def derived(generator: torch.Generator, purpose: str) -> torch.Generator:
    """Return a stream of its own for whoever has this one, which is not moved."""
    return torch_generator(generator.initial_seed(), purpose)


@contextmanager
def lent(seed: int, purpose: str, *key: int) -> Iterator[None]:
    """Let the global generators draw, within the block, from the stream (seed, purpose, key)."""
    with kept():
        _reseed(sequence(seed, purpose, *key))
        yield


@contextmanager
def lent_from(generator: torch.Generator) -> Iterator[None]:
    """Let the global generators draw, within the block, what follows from a generator's state.

    The generator itself is not moved.
    """
    copied = torch.Generator().set_state(generator.get_state())
    words = torch.randint(1 << 32, (4,), generator=copied).tolist()
    with kept():
        _reseed(np.random.SeedSequence(words))
        yield


@contextmanager
def kept() -> Iterator[None]:
    """Leave the global generators as they were before the block."""
    state = global_state()
    try:
        yield
    finally:
        own, numpy_state, python_state, cuda = state
        torch.set_rng_state(own)
        np.random.set_state(numpy_state)  # noqa: NPY002 - it is theirs
        random.setstate(python_state)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


def global_state() -> tuple[torch.Tensor, Any, Any, list[torch.Tensor]]:
    """Return the states of the global generators: torch, NumPy, Python, and every GPU in use."""
    cuda = torch.cuda.get_rng_state_all() if _has_cuda() else []
    numpy_state = np.random.get_state()  # noqa: NPY002 - it is theirs
    return torch.get_rng_state(), numpy_state, random.getstate(), cuda


def global_picture() -> tuple[Any, ...]:
    """Return something that is equal as long as nobody draws from a global generator."""
    own, (_, words, *rest), python_state, cuda = global_state()
    return own.numpy().tobytes(), words.tobytes(), rest, python_state, [s.tolist() for s in cuda]


def _reseed(stream: np.random.SeedSequence) -> None:
    words = [int(word) for word in stream.generate_state(3, np.uint32)]
    # not `torch.manual_seed`: it writes down a stack trace for GPUs that nobody uses
    torch.default_generator.manual_seed(words[0])
    np.random.seed(words[1])  # noqa: NPY002 - it is theirs
    random.seed(words[2])
    if _has_cuda():
        torch.cuda.manual_seed_all(words[0])


def _has_cuda() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
