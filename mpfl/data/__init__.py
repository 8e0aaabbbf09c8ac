"""Data sets by name, and their division among clients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from mpfl.config import DataConfig
from mpfl.data.folder import imagefolder
from mpfl.data.partition import PARTITIONS, partition
from mpfl.data.samples import DataMissing, Dataset, Samples, stratified
from mpfl.data.summary import PartitionSummary, summary
from mpfl.data.text import pydoc
from mpfl.data.vision import cifar10, cifar100, digits, fashion_mnist, mnist
from mpfl.errors import InputError, keyed
from mpfl.registry import Registry
from mpfl.seeding import numpy_rng

__all__ = [
    "DATASETS",
    "PARTITIONS",
    "DataMissing",
    "Dataset",
    "PartitionSummary",
    "Samples",
    "draws",
    "load_data",
    "partition",
    "summary",
]

DATASETS: Registry[Callable[[DataConfig], Dataset]] = Registry(
    "data set",
    {
        "digits": digits,
        "mnist": mnist,
        "fashion_mnist": fashion_mnist,
        "cifar10": cifar10,
        "cifar100": cifar100,
        "imagefolder": imagefolder,
        "pydoc": pydoc,
    },
)
"""`DataConfig` -> `Dataset`."""


def load_data(config: DataConfig, seed: int) -> Dataset:
    """Load a data set into memory.

    Parameters
    ----------
    config
        ``name``, ``folder``, ``download``, ``train_samples``, ``test_samples`` and
        ``validation`` are used.
    seed
        The run's seed: decides which samples stay where not all are wanted, and which are held
        out for validation. They are drawn stratified by class (or by group, of text).

    Raises
    ------
    DataMissing
        If the files are not in the folder and may not be fetched.
    ValueError
        For an unknown name, damaged files, or more samples wanted than there are.
    """
    with keyed("data.name"):
        load = DATASETS[config.name]
    dataset = load(config)
    if config.train_samples:
        dataset = _fewer_train(dataset, config.train_samples, seed)
    if config.test_samples:
        chosen = _draw(dataset.test, None, config.test_samples, seed, "test_samples")
        dataset = replace(dataset, test=dataset.test.subset(torch.from_numpy(chosen)))
    return _with_validation(dataset, config.validation, seed) if config.validation else dataset


def draws(config: DataConfig) -> bool:
    """Return whether the seed decides which samples there are."""
    return bool(config.train_samples or config.test_samples or config.validation)


def _fewer_train(dataset: Dataset, count: int, seed: int) -> Dataset:
    return _kept(dataset, _draw(dataset.train, dataset.groups, count, seed, "train_samples"))


def _with_validation(dataset: Dataset, share: float, seed: int) -> Dataset:
    samples = len(dataset.train)
    count = round(share * samples)
    if not 0 < count < samples:
        raise InputError(
            f"data.validation: got {share:g}, which holds out {count} of the {samples} training "
            f"samples; expected 1 to {samples - 1}"
        )
    chosen = _draw(dataset.train, dataset.groups, count, seed, "validation")
    held = dataset.train.subset(torch.from_numpy(chosen))
    rest = np.setdiff1d(np.arange(samples), chosen, assume_unique=True)
    return replace(_kept(dataset, rest), validation=held)


def _kept(dataset: Dataset, chosen: NDArray[np.int64]) -> Dataset:
    """Return the data set with these of its training samples alone."""
    groups = None if dataset.groups is None else dataset.groups[chosen]
    return replace(dataset, train=dataset.train.subset(torch.from_numpy(chosen)), groups=groups)


def _draw(
    samples: Samples, groups: NDArray[np.int64] | None, count: int, seed: int, key: str
) -> NDArray[np.int64]:
    if count > len(samples):
        raise InputError(f"data.{key}: got {count}, expected at most {len(samples)}")
    labels = groups
    if labels is None and samples.targets.dim() == 1:
        labels = samples.targets.numpy()
    if labels is None:
        labels = np.zeros(len(samples), np.int64)
    return stratified(labels, count, numpy_rng(seed, key))
