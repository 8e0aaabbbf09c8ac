"""Samples in memory, and the data sets made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpfl.errors import InputError

IGNORED = -100
"""A target that counts nowhere, PyTorch's default ``ignore_index``."""

_INPUT_TYPES = (torch.uint8, torch.float32, torch.int64)


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs and targets that fit in memory; images stay bytes until a batch is asked for.

    Attributes
    ----------
    inputs
        Images, uint8 or float32 [n, channels, height, width], or int64 tokens [n, length].
    targets
        int64 [n], or [n, length] where every position of a sequence [n, length, ...] has one.
        `IGNORED` (-100) ones count neither in losses and gradients nor in accuracies; a sample
        counts as one wherever samples weigh, however many of its targets are ignored.
    scale, shift
        A network sees ``inputs * scale + shift`` as float32, one number per channel (or one for
        all). Empty: inputs go as they are, tokens as int64.
    augment
        How images are changed as they are trained on, see `mpfl.data.augment`; `batch` never does.
    black
        What a network sees of a black pixel, where that is not `shift`: one number per channel, one
        for all, or empty for zero.
    """

    inputs: Tensor
    targets: Tensor
    scale: tuple[float, ...] = ()
    shift: tuple[float, ...] = ()
    augment: str = ""
    black: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name, tensor in (("inputs", self.inputs), ("targets", self.targets)):
            if not isinstance(tensor, Tensor):
                raise InputError(f"{name} must be a torch tensor, got {type(tensor).__name__}")
        if self.inputs.dtype not in _INPUT_TYPES:
            raise InputError(
                "inputs must be uint8 (pixels), float32, or int64 (tokens), "
                f"got {self.inputs.dtype}"
            )
        if self.targets.dtype != torch.int64:
            raise InputError(f"targets must be int64, got {self.targets.dtype}")
        self._check_shapes()
        if len(self.scale) != len(self.shift):
            raise InputError("scale and shift need one number per channel each")

    def _check_shapes(self) -> None:
        inputs, targets = tuple(self.inputs.shape), tuple(self.targets.shape)
        if len(inputs) < 2:
            raise InputError(f"inputs must be [n, ...], one row a sample; got shape {inputs}")
        if len(targets) == 0 or inputs[0] != targets[0]:
            count = targets[0] if targets else "no"
            raise InputError(f"{inputs[0]} inputs but {count} targets")
        tokens = self.has_tokens
        if tokens and len(inputs) != 2:
            raise InputError(f"int64 inputs are tokens [n, length]; got shape {inputs}")
        sequences = tokens or len(inputs) == 3
        if len(targets) > 1 and not (sequences and targets == inputs[:2]):
            raise InputError(
                f"targets must be [n], or [n, length] for sequences [n, length, ...]; "
                f"got shape {targets} for inputs of shape {inputs}"
            )

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def has_ignored(self) -> bool:
        """Whether any target is to be ignored."""
        return bool((self.targets == IGNORED).any())

    @property
    def has_tokens(self) -> bool:
        """Whether a network is given int64 tokens, not float32 numbers."""
        return self.inputs.dtype == torch.int64

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
        seen, black = self._normalise(self.inputs), self.shift or self.black
        return replace(self, inputs=seen, scale=(), shift=(), black=black)

    def black_pixel(self, like: Tensor) -> Tensor:
        """Return what a network sees of a black pixel, float32 [channels or 1, 1, ...]."""
        black = self.shift or self.black or (0.0,)
        shape = (-1, *[1] * (self.inputs.dim() - 2))
        return torch.tensor(black, dtype=torch.float32, device=like.device).reshape(shape)

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
    validation
        Samples held out of the training ones, to choose by; None where nothing was asked for.
    classes
        Number of classes, or of tokens in the vocabulary.
    input_shape
        Shape of one input: (channels, height, width) or (length,).
    groups
        The natural client of each training sample, int64 [n], where the data has one.
    test_groups
        The same of each test sample.
    """

    name: str
    train: Samples
    test: Samples
    classes: int
    input_shape: tuple[int, ...]
    groups: NDArray[np.int64] | None = None
    test_groups: NDArray[np.int64] | None = None
    validation: Samples | None = None

    @property
    def parts(self) -> dict[str, Samples]:
        """All samples by what they are for; those for validation last, where there are any."""
        held = {} if self.validation is None else {"validation": self.validation}
        return {"training": self.train, "test": self.test, **held}

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise InputError(
                f"data set {self.name!r}: got {self.classes} classes, expected 1 or more"
            )
        for part, samples in self.parts.items():
            try:
                _check_part(samples, self.classes, tuple(self.input_shape))
            except InputError as error:
                raise InputError(f"data set {self.name!r}: {part} samples: {error}") from None
        if self.train.targets.dim() != self.test.targets.dim():
            raise InputError(f"data set {self.name!r}: training and test targets differ in shape")
        if self.train.inputs.dtype.is_floating_point != self.test.inputs.dtype.is_floating_point:
            raise InputError(f"data set {self.name!r}: training and test inputs differ in type")
        parts = ("training", self.groups, self.train), ("test", self.test_groups, self.test)
        for part, groups, samples in parts:
            if groups is not None and len(groups) != len(samples):
                counts = f"{len(groups)} groups for {len(samples)} {part} samples"
                raise InputError(f"data set {self.name!r}: {counts}")

    def contents(self) -> Iterator[bytes | memoryview]:
        """Yield what tells this data from other data: shapes, normalisation, every sample."""
        yield repr((self.classes, self.input_shape)).encode()
        for samples in self.parts.values():
            shapes = [(tuple(t.shape), str(t.dtype)) for t in (samples.inputs, samples.targets)]
            yield repr((shapes, samples.scale, samples.shift)).encode()
            for tensor in (samples.inputs, samples.targets):
                yield np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8).data


def _check_part(samples: Samples, classes: int, input_shape: tuple[int, ...]) -> None:
    """Check what nothing later would name: sizes, ranges and numbers; InputError if one is off."""
    if not len(samples):
        raise InputError("there are none")
    if tuple(samples.inputs.shape[1:]) != input_shape:
        raise InputError(
            f"inputs have shape {tuple(samples.inputs.shape[1:])}, expected {input_shape}"
        )
    channels = samples.inputs.shape[1]
    if len(samples.scale) not in (0, 1, channels):
        raise InputError(f"scale has {len(samples.scale)} numbers for {channels} channels")
    _check_inputs(samples.inputs)
    counted = samples.targets[samples.targets != IGNORED]
    if not len(counted):
        raise InputError(f"every target is {IGNORED}, which counts nowhere")
    low, high = int(counted.min()), int(counted.max())
    if low < 0 or high >= classes:
        raise InputError(
            f"targets go from {low} to {high}, expected 0 to {classes - 1} "
            f"({IGNORED} for those that are to be ignored)"
        )


def _check_inputs(inputs: Tensor) -> None:
    if inputs.is_floating_point():
        bad = ~torch.isfinite(inputs).flatten(1).all(1)
        if bad.any():
            raise InputError(f"input {int(bad.nonzero()[0])} holds a number that is not finite")
    elif inputs.dtype == torch.int64 and int(inputs.min()) < 0:
        raise InputError(f"tokens go down to {int(inputs.min())}, expected 0 or more")
