"""What readers of data sets have in common: their folder, normalisation, samples to hold out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from mpfl.config import DataConfig
from mpfl.data.samples import Dataset
from mpfl.errors import InputError
from mpfl.seeding import numpy_rng


class DataMissing(InputError):  # noqa: N818  (reads as what it says)
    """The files of a data set are not where they were looked for."""


def data_folder(config: DataConfig) -> Path:
    """Return the configured folder; DataMissing where none is configured."""
    if not config.folder:
        raise DataMissing(
            f"data.folder: {config.name} needs a folder; name it with --data-dir, and add "
            "--download (data.download = true) where its files are still to be fetched"
        )
    return Path(config.folder)


def missing(
    name: str, looked: Path, hint: str = ", or fetch them with --download (data.download = true)"
) -> DataMissing:
    """Return the error for a data set whose files are not in the folder looked in."""
    return DataMissing(
        f"data.folder: no files of {name} in {looked}; name their folder with --data-dir{hint}"
    )


def held_out(count: int, name: str, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which of a natural client's samples are for training, and the fifth that is held out.

    At least one of two is held out, the same ones whatever the run's seed.

    Parameters
    ----------
    name, number
        The data set's, and the client's in it.
    """
    aside = max(1, round(count / 5)) if count > 1 else 0
    order = numpy_rng(0, f"{name} held out", number).permutation(count)
    return np.sort(order[aside:]), np.sort(order[:aside])


class Scaling(TypedDict):
    """``scale`` and ``shift`` of `Samples`."""

    scale: tuple[float, ...]
    shift: tuple[float, ...]


def normalisation(mean: tuple[float, ...], std: tuple[float, ...], white: float = 255.0) -> Scaling:
    """Return `scale` and `shift` that turn bytes 0..white into (x/white − mean) / std."""
    return {
        "scale": tuple(1.0 / (white * s) for s in std),
        "shift": tuple(-m / s for m, s in zip(mean, std, strict=True)),
    }


def unscaled(dataset: Dataset) -> Dataset:
    """Return the same data as shares of its brightest training pixel, 0 to 1.

    Raises
    ------
    InputError
        If its inputs are not bytes.
    """
    if dataset.train.inputs.dtype != torch.uint8:
        raise InputError(f"data.standardise: {dataset.name} has no pixels of 0 to 255")
    scale = (1 / max(1, int(dataset.train.inputs.max())),)
    parts = (replace(part, scale=scale, shift=(0.0,)) for part in (dataset.train, dataset.test))
    train, test = parts
    return replace(dataset, train=train, test=test)


def stratified(
    labels: NDArray[np.int64], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw `count` of the samples without replacement, every class in proportion.

    A class of n_c of n samples gives ⌊count·n_c/n⌋, and the classes with the largest remainders
    (the first of equal ones) one more.

    Returns
    -------
    numpy.ndarray
        Ascending positions, int64 [count].
    """
    classes, sizes = np.unique(labels, return_counts=True)
    exact = sizes * count
    quota = exact // len(labels)
    order = np.argsort(-(exact % len(labels)), kind="stable")
    quota[order[: count - int(quota.sum())]] += 1
    drawn = [
        rng.permutation(np.flatnonzero(labels == name))[:take]
        for name, take in zip(classes, quota, strict=True)
    ]
    return np.sort(np.concatenate(drawn)).astype(np.int64)
