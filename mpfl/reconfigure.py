"""PruneFL's change of masks: the largest weights stay, squared gradients decide about the rest."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from mpfl.data.samples import Samples
from mpfl.mask import Mask
from mpfl.network.layers import sum_over_units
from mpfl.scores.gradient import batch_gradients
from mpfl.selection import best_overall, top
from mpfl.world import World

Floats = NDArray[np.float32]


def squared_gradients(world: World, samples: Samples) -> Floats:
    """Return each unit's Σ g² over the batches of an epoch at ``world.model``, float32[d].

    At most ``prune.score_samples`` samples are looked at, spread evenly.
    """
    experiment = world.experiment
    limit = experiment.prune.score_samples or len(samples)
    index = np.linspace(0, len(samples) - 1, min(limit, len(samples))).astype(np.int64)
    seen = samples.subset(torch.from_numpy(index))
    total = np.zeros(world.structure.parameters.total, np.float64)
    for grads, _ in batch_gradients(world.model, seen, experiment.train.batch_size):
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
