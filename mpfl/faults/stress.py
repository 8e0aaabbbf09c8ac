"""Clients whose data is spoiled, to see how many a vote can bear (Gez & Cohen 2023)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mpfl.data.samples import IGNORED, Samples
from mpfl.errors import InputError, keyed
from mpfl.registry import Registry, parse_spec
from mpfl.seeding import drawn_clients

Spoiler = Callable[..., Samples]
"""(samples, stream, number of classes, and its arguments) -> the samples as trouble left them."""


def stressed_clients(seed: int, clients: int, share: float) -> frozenset[int]:
    """Return the clients whose data is spoiled: round(share · clients), the same all run long.

    With the same seed, a smaller share gives a subset of those of a larger one.
    """
    if not 0 <= share <= 1:
        raise InputError(f"faults.stress: got {share!r}, expected 0 to 1")
    return drawn_clients(seed, "stressed clients", clients, share)


def spoil(
    samples: Samples, kind: str, rng: np.random.Generator, classes: int | None = None
) -> Samples:
    """Return a client's samples as its trouble leaves them.

    Parameters
    ----------
    samples
        The client's own samples; unchanged.
    kind
        One of `SPOILERS`: ``pixels``, ``labels``, ``noise(p)`` or ``free_rider``.
    rng
        Draws the permutations. A stream keyed by the client alone, not by the round, keeps them
        fixed.
    classes
        Number of classes; without it, one more than the largest label here.

    Raises
    ------
    InputError
        For an unknown kind, an unfit strength, pixels where there are no images, or fewer than
        two classes.
    """
    known = int(samples.targets.max()) + 1 if classes is None else classes
    with keyed("faults.stress_kind"):
        return SPOILERS.bind(kind)(samples, rng, known)


def rides_free(kind: str) -> bool:
    """Tell whether clients of this kind never train: random ballots, values as they came."""
    return parse_spec(kind)[0] == "free_rider"


def pixels(samples: Samples, rng: np.random.Generator, classes: int) -> Samples:
    """The pixels of every image pass through one random permutation per channel."""
    if samples.inputs.dim() != 4:
        raise InputError("'pixels' needs images [n, channels, height, width]")
    mixed = samples.inputs.flatten(2).clone()
    for channel in range(mixed.shape[1]):
        order = torch.from_numpy(rng.permutation(mixed.shape[2]))
        mixed[:, channel] = mixed[:, channel].index_select(1, order)
    return replace(samples, inputs=mixed.reshape(samples.inputs.shape))


def labels(samples: Samples, rng: np.random.Generator, classes: int) -> Samples:
    """The labels pass through one random cycle of the classes, so each is wrong."""
    _two(classes)
    cycle = torch.from_numpy(rng.permutation(classes))
    successor = torch.empty_like(cycle)
    successor[cycle] = cycle.roll(-1)
    return _relabelled(samples, successor[samples.targets.clamp_min(0)])


def noise(samples: Samples, rng: np.random.Generator, classes: int, p: float) -> Samples:
    """Each label is, with probability p, replaced by another class at random."""
    _two(classes)
    if not 0 <= p <= 1:
        raise InputError(f"'noise' takes a probability, got {p:g}")
    shape = tuple(samples.targets.shape)
    wrong: Tensor = torch.from_numpy(rng.random(shape) < p)
    shift = torch.from_numpy(rng.integers(1, classes, shape))
    other = (samples.targets + shift) % classes
    return _relabelled(samples, torch.where(wrong, other, samples.targets))


def free_rider(samples: Samples, rng: np.random.Generator, classes: int) -> Samples:
    """The data is left as it is: such a client never looks at it."""
    return samples


def _relabelled(samples: Samples, targets: Tensor) -> Samples:
    """Return the samples with other targets, but those still ignored that were."""
    ignored = samples.targets == IGNORED
    return replace(samples, targets=targets.masked_fill(ignored, IGNORED))


def _two(classes: int) -> None:
    if classes < 2:
        raise InputError("wrong labels need at least two classes")


SPOILERS: Registry[Spoiler] = Registry(
    "stress",
    {"pixels": pixels, "labels": labels, "noise": noise, "free_rider": free_rider},
    given=3,
)
"""(samples, stream, number of classes, and its arguments) -> the samples as trouble left them."""
