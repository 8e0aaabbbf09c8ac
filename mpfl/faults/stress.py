"""Clients whose data is spoiled, to see how many a vote can bear (Gez & Cohen 2023)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mpfl.data.samples import Samples
from mpfl.errors import InputError
from mpfl.registry import Registry, number_argument, parse_spec
from mpfl.seeding import numpy_rng

Spoiler = Callable[[Samples, np.random.Generator, int, float], Samples]
"""Takes samples, stream, number of classes and strength."""


def stressed_clients(seed: int, clients: int, share: float) -> frozenset[int]:
    """Return the clients whose data is spoiled: round(share · clients), the same all run long.

    With the same seed, a smaller share gives a subset of those of a larger one.
    """
    if not 0 <= share <= 1:
        raise InputError(f"faults.stress: got {share!r}, expected 0 to 1")
    if share == 0:
        return frozenset()
    order = numpy_rng(seed, "stressed clients").permutation(clients)
    return frozenset(int(client) for client in order[: int(share * clients + 0.5)])


def spoil(
    samples: Samples, kind: str, rng: np.random.Generator, classes: int | None = None
) -> Samples:
    """Return a client's samples as its trouble leaves them.

    Parameters
    ----------
    samples
        The client's own samples; unchanged.
    kind
        ``pixels``: the pixels of every image pass through one random permutation per channel.
        ``labels``: the labels pass through one random cycle of the classes, so each is wrong.
        ``noise(p)``: each label is, with probability p, replaced by another class at random.
        ``free_rider``: the data is left as it is; such a client does not look at it.
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
    name, arguments = parse_spec(kind)
    try:
        change = SPOILERS[name]
        strength = 0.0
        if name == "noise":
            strength = number_argument(kind, arguments)
        elif arguments:
            raise InputError(f"{kind!r}: {name} takes no argument")
        known = int(samples.targets.max()) + 1 if classes is None else classes
        return change(samples, rng, known, strength)
    except InputError as error:
        raise InputError(f"faults.stress_kind: {error}") from None


def _pixels(samples: Samples, rng: np.random.Generator, _: int, __: float) -> Samples:
    if samples.inputs.dim() != 4:
        raise InputError("'pixels' needs images [n, channels, height, width]")
    mixed = samples.inputs.flatten(2).clone()
    for channel in range(mixed.shape[1]):
        order = torch.from_numpy(rng.permutation(mixed.shape[2]))
        mixed[:, channel] = mixed[:, channel].index_select(1, order)
    return replace(samples, inputs=mixed.reshape(samples.inputs.shape))


def _labels(samples: Samples, rng: np.random.Generator, classes: int, _: float) -> Samples:
    _two(classes)
    cycle = torch.from_numpy(rng.permutation(classes))
    successor = torch.empty_like(cycle)
    successor[cycle] = cycle.roll(-1)
    return replace(samples, targets=successor[samples.targets])


def _noise(samples: Samples, rng: np.random.Generator, classes: int, share: float) -> Samples:
    _two(classes)
    if not 0 <= share <= 1:
        raise InputError(f"'noise' takes a probability, got {share}")
    shape = tuple(samples.targets.shape)
    wrong: Tensor = torch.from_numpy(rng.random(shape) < share)
    shift = torch.from_numpy(rng.integers(1, classes, shape))
    other = (samples.targets + shift) % classes
    return replace(samples, targets=torch.where(wrong, other, samples.targets))


def _free_rider(samples: Samples, _: np.random.Generator, __: int, ___: float) -> Samples:
    return samples


def _two(classes: int) -> None:
    if classes < 2:
        raise InputError("wrong labels need at least two classes")


SPOILERS: Registry[Spoiler] = Registry(
    "stress",
    {"pixels": _pixels, "labels": _labels, "noise": _noise, "free_rider": _free_rider},
)
