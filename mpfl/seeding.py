"""Every random stream of a run, derived from its seed; nothing touches a global generator."""

from __future__ import annotations

import zlib

import numpy as np
import torch


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


def torch_generator(seed: int, purpose: str, *key: int) -> torch.Generator:
    """Return a CPU torch generator for the stream (seed, purpose, key)."""
    state = sequence(seed, purpose, *key).generate_state(1, np.uint64)
    # manual_seed takes a signed 64-bit number; one bit less is still plenty.
    return torch.Generator().manual_seed(int(state[0]) >> 1)


def derived(generator: torch.Generator, purpose: str) -> torch.Generator:
    """Return a stream of its own for whoever has this one, which is not moved."""
    return torch_generator(generator.initial_seed(), purpose)
