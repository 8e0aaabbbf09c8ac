"""From a configuration to its world: the data loaded and divided, the network made and tried."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from mpfl.checks import (
    check_codecs,
    check_faults,
    check_fit,
    check_pruning,
    check_stress,
    check_training,
)
from mpfl.config import DataConfig, Experiment, from_toml
from mpfl.data import Dataset, draws, load_data
from mpfl.data.partition import partition
from mpfl.data.virtual import Parts
from mpfl.errors import InputError, keyed
from mpfl.models import build_model, is_own
from mpfl.network.cost import macs
from mpfl.network.flat import FlatModel, Manner, aliases_of
from mpfl.network.layers import Structure
from mpfl.network.structure import find_structure
from mpfl.plugins import load as load_plugins
from mpfl.ranking.fans import find_coverage
from mpfl.recent import Recent
from mpfl.scores import check_score
from mpfl.seeding import torch_generator
from mpfl.training.local import prepare_module
from mpfl.training.losses import check_loss
from mpfl.training.masked import MaskedNetwork
from mpfl.training.trial import safe_channels_last, try_out
from mpfl.wire.masks import magnitude_classes
from mpfl.wire.masks.plan import matrix_widths
from mpfl.world.world import World

Loader = Callable[[DataConfig, int], Dataset]
"""Reads a data set; see `mpfl.data.load_data`."""


def shared_loader() -> Loader:
    """Return a loader that reads each data set once, for worlds that are built one after another.

    Whoever holds it decides how long that is: nothing here outlives a run or a comparison, so that
    the next one sees data, models and parts as they are then.
    """
    made: Recent[tuple[DataConfig, int], Dataset] = Recent(4)
    return lambda config, seed: made.get((config, seed), lambda: load_data(config, seed))


def held_data(experiment: Experiment, load: Loader = load_data) -> tuple[Dataset, Parts]:
    """Return the experiment's data, and the indices of each client's training samples."""
    config = experiment.data
    data = load(config, experiment.seed if draws(config) else 0)
    parts = partition(config, data.train.targets.numpy(), experiment.seed, data.groups)
    return data, parts


def build_world(experiment: Experiment, load: Loader = load_data) -> World:
    """Load the data, divide it, build the network and w0; anew at every call.

    Parameters
    ----------
    load
        Reads the data set.

    Raises
    ------
    InputError
        For unknown names, missing data, more clients than samples, unsupported combinations.
    """
    load_plugins(experiment)
    prune = experiment.prune
    check_training(experiment.train)
    check_pruning(experiment)
    check_codecs(experiment.wire)
    data, parts = held_data(experiment, load)
    check_stress(experiment, data)
    generator = torch_generator(experiment.seed, "w0")
    with keyed("model.name"):
        size, name = experiment.model.size, experiment.model.name
        module = build_model(name, data.classes, data.input_shape, generator, size=size)
    if experiment.model.weights:
        load_weights(module, Path(experiment.model.weights))
    prepare_module(module, experiment.train)
    check_loss(experiment.train, module, *data.test.batch(torch.arange(min(2, len(data.test)))))
    structure = find_structure(module, prune.granularity, data.input_shape)
    check_faults(experiment, structure.layout)
    with keyed("prune.score"):
        score = check_score(prune.score, prune.granularity, structure, module)
    model, structure = _bound(module, structure, experiment, data)
    w0, b0 = model.snapshot()
    magnitudes = structure.unit_values(w0)
    return World(
        experiment=experiment,
        data=data,
        parts=parts,
        model=model,
        masked=MaskedNetwork(model, structure),
        structure=structure,
        layout=structure.layout,
        w0=w0,
        b0=b0,
        tie_break=np.concatenate(magnitudes),
        classes=magnitude_classes(magnitudes, experiment.wire.mask_classes),
        widths=matrix_widths(structure),
        coverage=find_coverage(module, structure, prune, score, data.input_shape),
    )


def _bound(
    module: nn.Module, structure: Structure, experiment: Experiment, data: Dataset
) -> tuple[FlatModel, Structure]:
    """Bind a network to flat vectors; what others wrote is tried out first."""
    if not is_own(experiment.model.name):
        with keyed("model.name"):
            check_fit(module, experiment.model.name, data)
        draws = any(isinstance(part, _DropoutNd) for part in module.modules())
        recurrent = any(isinstance(part, nn.RNNBase) for part in module.modules())
        manner = Manner(safe_channels_last(module), draws=draws, replays=not recurrent)
        return FlatModel(module, manner), structure
    with keyed(f"model.name: {experiment.model.name!r}"):
        trial = FlatModel(module)
        manner, structure = try_out(trial, structure, data.train, data.classes, experiment.train)
        _check_copies(module, data)
    return FlatModel(module, manner), structure


def _check_copies(module: nn.Module, data: Dataset) -> None:
    """Refuse what could not be copied and measured when the run is over."""
    try:
        macs(module, data.input_shape, tokens=data.train.has_tokens)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"{type(module).__name__} cannot be copied: {error}") from error


def load_weights(module: nn.Module, path: Path) -> None:
    """Overwrite parameters and buffers with those of a safetensors file that all parties hold.

    Tensors whose shape differs (a classifier for other classes) stay as they are; names that
    the network does not have are an error.

    Raises
    ------
    InputError
        If the file cannot be read, names unknown tensors, or matches nothing.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"model.weights: cannot read {path}: {error}") from None
    own = module.state_dict()
    unknown = sorted(tensors.keys() - own.keys())
    if unknown:
        raise InputError(f"model.weights: {path}: the model has no tensor {unknown[0]!r}")
    fitting = {name: t for name, t in tensors.items() if t.shape == own[name].shape}
    if not fitting:
        raise InputError(f"model.weights: {path}: no tensor has the shape the model expects")
    module.load_state_dict(fitting, strict=False)
    for alias, name in aliases_of(module).items():
        if alias in fitting and name in fitting and not fitting[alias].equal(fitting[name]):
            raise InputError(
                f"model.weights: {path}: {name!r} and {alias!r} differ, but the model ties them"
            )


def world_from_toml(text: str) -> World:
    """Return the world of a configuration text, built anew."""
    return build_world(from_toml(text))
