"""What the tests of models, structure and compaction share."""

from __future__ import annotations

import numpy as np
import torch

from mpfl.mask import Mask
from mpfl.network.layers import Structure

CIFAR, MNIST, TEXT = (3, 32, 32), (1, 28, 28), (12,)


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shape_of(name: str) -> tuple[int, ...]:
    """The shape of one input that a model is tested with."""
    if name.startswith(("lstm", "gru")):
        return TEXT
    return MNIST if name.startswith("lenet") else CIFAR


def inputs_for(shape: tuple[int, ...], batch: int, seed: int = 1) -> torch.Tensor:
    """Random images, or tokens below 10."""
    if shape == TEXT:
        return torch.randint(0, 10, (batch, *shape), generator=generator(seed))
    return torch.randn((batch, *shape), generator=generator(seed))


def random_mask(structure: Structure, seed: int, density: float = 0.5) -> Mask:
    """A mask that keeps at least one unit of every layer."""
    rng = np.random.default_rng(seed)
    layers = {}
    for layer in structure.layers:
        keep = rng.random(layer.units) < density
        keep[rng.integers(layer.units)] = True
        layers[layer.name] = keep
    return Mask.from_layers(layers)
