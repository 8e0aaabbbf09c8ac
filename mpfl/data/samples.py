"""Samples in memory, the data sets made of them, and drawing a stratified part of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpfl.config import DataConfig
from mpfl.errors import InputError


class DataMissing(InputError):  # noqa: N818  (reads as what it says)
    """The files of a data set are not where they were looked for."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs and targets that fit in memory; images stay bytes until a batch is asked for.

    Attributes
    ----------
    inputs
        Images, uint8 or float32 [n, channels, height, width], or int64 tokens [n, length].
    targets
        int64 [n], or [n, length] where every position has a target.
    scale, shift
        A network sees ``inputs * scale + shift`` as float32, one number per channel (or one for
        all). Empty: inputs go as they are, tokens as int64.
    """

    inputs: Tensor
    targets: Tensor
    scale: tuple[float, ...] = ()
    shift: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise InputError(f"{len(self.inputs)} inputs but {len(self.targets)} targets")
        if self.targets.dtype != torch.int64:
            raise InputError(f"targets must be int64, got {self.targets.dtype}")
        if len(self.scale) != len(self.shift):
            raise InputError("scale and shift need one number per channel each")

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def device(self) -> torch.device:
        """Where the samples are."""
        return self.inputs.device

    @staticmethod
    def joined(parts: Sequence[Samples]) -> Samples:
        """Return samples of one kind as one set, in order.

        Raises
        ------
        InputError
            If they are normalised differently.
        """
        first = parts[0]
        if any((p.scale, p.shift) != (first.scale, first.shift) for p in parts):
            raise InputError("samples to be joined must be normalised alike")
        inputs, targets = [p.inputs for p in parts], [p.targets for p in parts]
        return replace(first, inputs=torch.cat(inputs), targets=torch.cat(targets))

    def subset(self, index: Tensor) -> Samples:
        """Return the samples at `index` (int64), in that order, as a copy."""
        return replace(
            self,
            inputs=self.inputs.index_select(0, index),
            targets=self.targets.index_select(0, index),
        )

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return what a network is given for the samples at `index` (int64 [b]).

        Returns
        -------
        tuple
            Inputs [b, ...], normalised float32 for images, and targets int64 [b, ...].
        """
        inputs = self.inputs.index_select(0, index)
        return self._normalise(inputs), self.targets.index_select(0, index)

    def prepared(self) -> Samples:
        """Return the same samples normalised once and for all (4 bytes a pixel instead of 1).

        Batches of the result are equal, and about three times as quick to make: worth it for a
        client that goes over its part more than once.
        """
        if not self.scale and self.inputs.dtype != torch.uint8:
            return self
        return Samples(self._normalise(self.inputs), self.targets)

    def to(self, device: str) -> Samples:
        """Return the samples on another device."""
        return replace(self, inputs=self.inputs.to(device), targets=self.targets.to(device))

    def _normalise(self, inputs: Tensor) -> Tensor:
        if self._affine is not None:
            scale, shift = self._affine
            return torch.mul(inputs, scale).add_(shift)
        return inputs.float() if inputs.dtype == torch.uint8 else inputs

    @cached_property
    def _affine(self) -> tuple[Tensor, Tensor] | None:
        if not self.scale:
            return None
        shape = (-1, *[1] * (self.inputs.dim() - 2))
        device = self.inputs.device
        scale = torch.tensor(self.scale, dtype=torch.float32, device=device).reshape(shape)
        shift = torch.tensor(self.shift, dtype=torch.float32, device=device).reshape(shape)
        return scale, shift


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set with its held-out part.

    Attributes
    ----------
    name
        Name in `DATASETS`.
    train, test
        Training and held-out samples; they share no sample.
    classes
        Number of classes, or of tokens in the vocabulary.
    input_shape
        Shape of one input: (channels, height, width) or (length,).
    groups
        The natural client of each training sample, int64 [n], where the data has one.
    """

    name: str
    train: Samples
    test: Samples
    classes: int
    input_shape: tuple[int, ...]
    groups: NDArray[np.int64] | None = None

    def contents(self) -> Iterator[bytes | memoryview]:
        """Yield what tells this data from other data: shapes, normalisation, every sample."""
        yield repr((self.classes, self.input_shape)).encode()
        for samples in (self.train, self.test):
            shapes = [(tuple(t.shape), str(t.dtype)) for t in (samples.inputs, samples.targets)]
            yield repr((shapes, samples.scale, samples.shift)).encode()
            for tensor in (samples.inputs, samples.targets):
                yield np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8).data


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


def normalisation(
    mean: tuple[float, ...], std: tuple[float, ...], white: float = 255.0
) -> dict[str, tuple[float, ...]]:
    """Return `scale` and `shift` that turn bytes 0..white into (x/white − mean) / std."""
    return {
        "scale": tuple(1.0 / (white * s) for s in std),
        "shift": tuple(-m / s for m, s in zip(mean, std, strict=True)),
    }


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
