"""Masks that change while weights train: drop some units, regrow as many others.

What the ballots have in common keeps the density if the vote rule does.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from mpfl.config import Experiment
from mpfl.data.samples import Samples
from mpfl.mask import Mask
from mpfl.network.layers import sum_over_units
from mpfl.ranking.selection import best_overall, top
from mpfl.scores.gradient import batch_gradients
from mpfl.seeding import numpy_rng
from mpfl.world import World

Floats = NDArray[np.float32]

_UNTIL = 0.75
"""Share of phase 2 after which the mask rests (RigL's T_end)."""


def training_rounds(experiment: Experiment, round_number: int, step: int) -> int:
    """Return how many rounds phase 2 has, given that `step` of them came before this round.

    Phase 1 may end early; what it does not use goes to phase 2.
    """
    return experiment.federation.rounds - (round_number - step) + 1


def regrowth(experiment: Experiment, round_number: int, step: int) -> float:
    """Return the share of survivors to exchange in this round of phase 2; 0 for none.

    Masks change every ``regrow_every`` rounds, first after as many rounds of training, and rest
    during the last quarter. The share falls along a cosine (Evci et al. 2020, RigL, arXiv
    1911.11134, eq. 1).

    Parameters
    ----------
    step
        Rounds of phase 2 before this one.
    """
    config = experiment.prune
    end = _UNTIL * training_rounds(experiment, round_number, step)
    if not config.regrow or step == 0 or step % config.regrow_every or step >= end:
        return 0.0
    return config.regrow_fraction / 2 * (1 + math.cos(math.pi * step / end))


def regrow_ballot(
    world: World, samples: Samples, mask: Mask, *, round_number: int, step: int
) -> Mask:
    """Return a vote for a mask of equal density: per layer the smallest |w| out, others in.

    ``gradient`` brings in those units outside `mask` whose gradient at the trained model is the
    largest (RigL); ``random`` those that come first in an order drawn anew every round, but the
    same for all clients, so that their ballots can agree (SET, Mocanu et al. 2018, arXiv
    1707.04780). Differs from RigL: what was just dropped does not come back at once.

    Parameters
    ----------
    samples
        The client's own; the gradient is the mean over at most ``prune.score_samples``.
    mask
        The mask under which ``world.model`` was trained.
    """
    experiment = world.experiment
    values = world.structure.unit_values(world.model.values.numpy())
    if experiment.prune.regrow == "gradient":
        growth = _gradient_norms(world, samples)
    else:
        rng = numpy_rng(experiment.seed, "regrow", round_number)
        growth = [rng.random(units, dtype=np.float32) for units in world.layout.units]
    share = regrowth(experiment, round_number, step)
    return exchange(mask, np.concatenate(values), np.concatenate(growth), share)


def exchange(mask: Mask, values: Floats, growth: Floats, share: float) -> Mask:
    """Return `mask` with, in each layer, ⌊share · survivors⌋ units exchanged.

    Parameters
    ----------
    values, growth
        float32[d]: what survivors are worth, and what the units outside would be.
    share
        At most as many are exchanged as there are units outside.
    """
    keep = mask.bools()
    result = keep.copy()
    for part in mask.layout.slices():
        inside = np.flatnonzero(keep[part]) + part.start
        outside = np.flatnonzero(~keep[part]) + part.start
        count = min(math.floor(share * inside.size), outside.size)
        result[inside] = False
        result[top([values], inside, inside.size - count)] = True
        result[top([growth], outside, count)] = True
    return Mask.from_bools(mask.layout, result)


def _gradient_norms(world: World, samples: Samples) -> list[Floats]:
    total = np.zeros(world.structure.parameters.total, np.float32)
    seen = _spread(world, samples)
    for grads, count in batch_gradients(world.model, seen, world.experiment.train.batch_size):
        total += np.float32(count / len(seen)) * grads.numpy()
    return world.structure.unit_values(total)


def _spread(world: World, samples: Samples) -> Samples:
    """Return at most ``prune.score_samples`` samples, spread evenly: clients shuffle nothing."""
    limit = world.experiment.prune.score_samples or len(samples)
    index = np.linspace(0, len(samples) - 1, min(limit, len(samples))).astype(np.int64)
    return samples.subset(torch.from_numpy(index))


def squared_gradients(world: World, samples: Samples) -> Floats:
    """Return each unit's Σ g² over the batches of an epoch at ``world.model``, float32[d].

    At most ``prune.score_samples`` samples are looked at, spread evenly.
    """
    total = np.zeros(world.structure.parameters.total, np.float64)
    for grads, _ in batch_gradients(
        world.model, _spread(world, samples), world.experiment.train.batch_size
    ):
        total += np.square(grads.numpy(), dtype=np.float64)
    layers, tensors = world.structure.layers, world.structure.parameters
    return np.concatenate([sum_over_units(layer, tensors, total) for layer in layers])


def reconfigure(
    mask: Mask,
    magnitudes: Floats,
    squares: Floats,
    tie_break: Floats,
    count: int,
    share: float,
    min_units: int,
) -> Mask:
    """Return the next mask (Jiang et al., arXiv 1909.12326, section 4, all weights equally slow).

    Parameters
    ----------
    magnitudes, squares, tie_break
        float32[d]: |w|, Σ g² and |w0| of every unit.
    count
        Units to keep.
    share
        Of these, the part that Σ g² decides about; the others are the largest survivors.
    min_units
        Units that every layer keeps.
    """
    layout, keep = mask.layout, mask.bools()
    safe = min(count - math.floor(share * count), int(keep.sum()))
    stay = top([magnitudes], np.flatnonzero(keep), safe)
    favour = np.zeros(layout.total, np.bool_)
    favour[stay] = True
    everything = np.ones(layout.total, np.bool_)
    keys = [favour, squares, tie_break]
    return Mask.from_bools(layout, best_overall(keys, layout, everything, count, min_units))


def exchange_share(fraction: float, step: int, steps: int) -> float:
    """Return `fraction`, decayed along a cosine to 0 at the last of `steps` rounds."""
    return fraction / 2 * (1 + math.cos(math.pi * min(step / max(steps, 1), 1.0)))
