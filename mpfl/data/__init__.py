"""Data sets by name, and their division among clients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from mpfl.config import DataConfig
from mpfl.data.augment import check_augment
from mpfl.data.loading import DataMissing, stratified, unscaled
from mpfl.data.natural import imagefolder, textfolder
from mpfl.data.partition import PARTITIONS, partition
from mpfl.data.samples import Dataset, Samples
from mpfl.data.summary import PartitionSummary, summary
from mpfl.data.text import pydoc
from mpfl.data.vision import cifar10, cifar100, digits, fashion_mnist, mnist
from mpfl.errors import InputError, keyed, shown
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
        "textfolder": textfolder,
    },
)
"""`DataConfig` -> `Dataset`."""


def load_data(config: DataConfig, seed: int) -> Dataset:
    """Load a data set into memory.

    Parameters
    ----------
    config
        All but ``clients`` and ``partition`` are used.
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
    if not isinstance(dataset, Dataset):
        raise InputError(f"data.name: {config.name!r} made {shown(dataset)}, expected a Dataset")
    if not config.standardise:
        dataset = unscaled(dataset)
    if config.augment:
        dataset = replace(dataset, train=replace(dataset.train, augment=config.augment))
        check_augment(dataset.train)
    if config.groups:
        dataset = _fewer_groups(dataset, config.groups, seed)
    if config.train_samples:
        chosen = _draw(dataset.train, dataset.groups, config.train_samples, seed, "train_samples")
        dataset = _kept(dataset, train=chosen)
    if config.test_samples:
        chosen = _draw(dataset.test, None, config.test_samples, seed, "test_samples")
        dataset = _kept(dataset, test=chosen)
    return _with_validation(dataset, config.validation, seed) if config.validation else dataset


def draws(config: DataConfig) -> bool:
    """Return whether the seed decides which samples there are."""
    return bool(config.train_samples or config.test_samples or config.validation or config.groups)


def _fewer_groups(dataset: Dataset, count: int, seed: int) -> Dataset:
    """Return what belongs to some of the natural clients."""
    groups, tested = dataset.groups, dataset.test_groups
    if groups is None or tested is None:
        raise InputError(f"data.groups: {dataset.name} has no groups of its own")
    names = np.unique(groups)
    if count > len(names):
        raise InputError(f"data.groups: got {count}, expected at most {len(names)}")
    chosen = numpy_rng(seed, "groups").permutation(names)[:count]
    kept, held = (np.flatnonzero(np.isin(part, chosen)) for part in (groups, tested))
    if not len(held):
        raise InputError("data.groups: none of these groups has anything held out")
    return _kept(dataset, train=kept, test=held)


def _with_validation(dataset: Dataset, share: float, seed: int) -> Dataset:
    samples = len(dataset.train)
    count = round(share * samples)
    if not 0 < count < samples:
        raise InputError(
            f"data.validation: got {share:g}, which holds out {count} of the {samples} training "
            "samples; expected some of both"
        )
    chosen = _draw(dataset.train, dataset.groups, count, seed, "validation")
    held = replace(dataset.train.subset(torch.from_numpy(chosen)), augment="")
    rest = np.setdiff1d(np.arange(samples), chosen, assume_unique=True)
    return replace(_kept(dataset, train=rest), validation=held)


def _kept(
    dataset: Dataset,
    train: NDArray[np.int64] | None = None,
    test: NDArray[np.int64] | None = None,
) -> Dataset:
    """Return a data set with some of its samples, by their places; None: all of them."""

    def some(samples: Samples, places: NDArray[np.int64] | None) -> Samples:
        return samples if places is None else samples.subset(torch.from_numpy(places))

    def named(
        groups: NDArray[np.int64] | None, places: NDArray[np.int64] | None
    ) -> NDArray[np.int64] | None:
        return groups if groups is None or places is None else groups[places]

    return replace(
        dataset,
        train=some(dataset.train, train),
        test=some(dataset.test, test),
        groups=named(dataset.groups, train),
        test_groups=named(dataset.test_groups, test),
    )


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
