"""How much faster a local training step is once pruned units are cut out of the network."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from mpfl import seeding
from mpfl.config import TrainConfig
from mpfl.data import Samples
from mpfl.mask import Mask
from mpfl.models import build_model
from mpfl.models.initialise import initialise
from mpfl.models.text import RecurrentNetwork
from mpfl.network.compact import compact
from mpfl.network.cost import macs
from mpfl.network.flat import FlatModel
from mpfl.network.layers import Structure
from mpfl.network.structure import find_structure
from mpfl.training.local import train

_VOCABULARY = 256
_SEED = 1


@dataclass(frozen=True)
class Case:
    """One network to time.

    Attributes
    ----------
    name
        What the table calls it.
    build
        Makes the dense network.
    input_shape
        Shape of one input.
    batch_size
        Samples per training step.
    target
        The speed-up that the compacted network is expected to reach.
    """

    name: str
    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    batch_size: int
    target: float


def _vgg11() -> nn.Module:
    return build_model("vgg11", 10, (3, 32, 32), seeding.torch_generator(_SEED, "w0"))


def _lstm() -> nn.Module:
    layer = nn.LSTM(128, 512, batch_first=True)
    model = RecurrentNetwork(layer, _VOCABULARY, _VOCABULARY, every_step=True)
    initialise(model, seeding.torch_generator(_SEED, "w0"))
    return model


CASES = (
    Case("VGG-11, 32x32 images", _vgg11, (3, 32, 32), batch_size=32, target=5.0),
    Case("LSTM 512, 64 characters", _lstm, (64,), batch_size=16, target=3.0),
)
"""VGG-11 in CIFAR form, and a character-level language model with one LSTM layer."""


def compact_table(
    cases: tuple[Case, ...] = CASES,
    filter_sparsity: float = 0.8,
    repeats: int = 5,
    steps: int = 2,
) -> list[dict[str, object]]:
    """Time local training of the masked and of the compacted network in turns, one thread.

    Parameters
    ----------
    cases
        The networks.
    filter_sparsity
        Share of the units cut out of every layer.
    repeats
        Timed turns of each; the table holds their medians.
    steps
        Training steps per turn.

    Returns
    -------
    list of dict
        Per network: parameters and multiply-accumulates of both, seconds per training step of
        both, the ratio, and the expected ratio.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [_row(case, filter_sparsity, repeats, steps) for case in cases]
    finally:
        torch.set_num_threads(threads)


def _row(case: Case, sparsity: float, repeats: int, steps: int) -> dict[str, object]:
    model = case.build()
    structure = find_structure(model, "filter", case.input_shape)
    mask = _random_mask(structure, sparsity)
    keep = structure.parameter_mask(mask)
    small = compact(model, structure, mask)
    samples = _random_samples(case, steps)
    dense, cut = FlatModel(model), FlatModel(small)
    kept = torch.from_numpy(keep.astype(np.float32))
    seconds: dict[str, list[float]] = {"dense": [], "compact": []}
    for turn in range(repeats + 1):
        for name, flat, zeros in (("dense", dense, kept), ("compact", cut, None)):
            spent = _seconds_per_step(flat, samples, case.batch_size, zeros)
            if turn:  # the first turn only warms up
                seconds[name].append(spent)
    before, after = (median(seconds[name]) for name in ("dense", "compact"))
    return {
        "network": case.name,
        "filter_sparsity": round(1 - mask.density(), 4),
        "batch_size": case.batch_size,
        "dense_parameters": keep.size,
        "compact_parameters": int(keep.sum()),
        "dense_macs": macs(model, case.input_shape),
        "compact_macs": macs(small, case.input_shape),
        "dense_seconds": before,
        "compact_seconds": after,
        "speedup": before / after,
        "target": case.target,
    }


def _seconds_per_step(
    flat: FlatModel, samples: Samples, batch_size: int, keep: Tensor | None
) -> float:
    config = TrainConfig(batch_size=batch_size, momentum=0.9)
    generator = seeding.torch_generator(_SEED, "batches")
    start = time.perf_counter()
    result = train(flat, samples, config, lr=1e-3, epochs=1, generator=generator, keep=keep)
    return (time.perf_counter() - start) / result.steps


def _random_mask(structure: Structure, sparsity: float) -> Mask:
    rng = seeding.numpy_rng(_SEED, "mask")
    layers = {}
    for layer in structure.layers:
        kept = max(1, round((1 - sparsity) * layer.units))
        layers[layer.name] = rng.permutation(layer.units) < kept
    return Mask.from_layers(layers)


def _random_samples(case: Case, steps: int) -> Samples:
    generator = seeding.torch_generator(_SEED, "samples")
    shape = (case.batch_size * steps, *case.input_shape)
    if len(case.input_shape) == 1:
        tokens = torch.randint(_VOCABULARY, shape, generator=generator)
        return Samples(tokens, tokens.roll(-1, dims=1))
    targets = torch.randint(10, shape[:1], generator=generator)
    return Samples(torch.randn(shape, generator=generator), targets)
