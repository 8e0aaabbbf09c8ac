"""Local training under a mask, and evaluation. Exact, deterministic, free of global state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mpfl.config import TrainConfig
from mpfl.data.augment import augmented, drawn
from mpfl.data.samples import IGNORED, Samples
from mpfl.errors import InputError
from mpfl.network.flat import FlatModel, Working
from mpfl.seeding import derived, lent, lent_from
from mpfl.training.feedforward import Feedforward
from mpfl.training.losses import (
    Change,
    GradientHook,
    Loss,
    batch_loss,
    gradient_named,
    loss_named,
    loss_of,
    named_weights,
)
from mpfl.training.optimizer import Optimizer
from mpfl.training.replay import Replayed, side_stream

_AT_ONCE = 1024  # samples
_TESTED = 1000  # samples in a batch, which may normalise by its own statistics
_EVALUATED = 64  # samples at a time, so that what convolutions find stays in the cache

Observer = Callable[[Tensor, Tensor, float], None]
"""Sees (values, gradients, learning rate) after each backward pass, before the step."""


@dataclass(frozen=True)
class TrainResult:
    """What local training reports: mean loss over all steps, and the number of steps."""

    loss: float
    steps: int


@dataclass(frozen=True)
class Evaluation:
    """Mean loss (nats) and accuracy (share) over `samples` predictions; of none, both are 0.

    Targets that are to be ignored are no predictions.
    """

    loss: float
    accuracy: float
    samples: int


def precision_context(precision: str, device: str = "cpu") -> AbstractContextManager[object]:
    """Return the autocast context for a precision.

    Raises
    ------
    InputError
        For ``bf16`` on a processor without AVX512-BF16 or AMX: it would be slower, silently.
    """
    if precision == "float32":
        return nullcontext()
    if device == "cpu" and not cpu_has_bf16():
        raise InputError(
            "train.precision: bf16 needs a processor with AVX512-BF16 or AMX; "
            "this one has neither, use float32"
        )
    return torch.autocast(device, dtype=torch.bfloat16)


def exact_kernels(device: torch.device, precision: str = "float32") -> AbstractContextManager[None]:
    """Return the context in which a GPU computes float32 in float32 (not TF32), repeatably."""
    if device.type == "cpu" or precision != "float32":
        return nullcontext()
    flags = torch.backends.cudnn.flags
    return flags(enabled=True, deterministic=True, allow_tf32=False)


def cpu_has_bf16() -> bool:
    """Tell whether this processor multiplies bfloat16 in hardware."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def prepare_module(module: nn.Module, config: TrainConfig) -> None:
    """Refuse what the machine cannot do before any work starts; see `precision_context`."""
    precision_context(config.precision, config.device)
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("train.device: no CUDA device here, use cpu")


def batches(count: int, size: int, generator: torch.Generator, least: int = 1) -> Iterator[Tensor]:
    """Yield the index batches of one epoch in a random order.

    The last may be smaller; with fewer than `least` samples it is left out.
    """
    order = torch.randperm(count, generator=generator)
    yield from (index for index in torch.split(order, size) if len(index) >= least)


def batches_of(
    samples: Samples, size: int, count: int, generator: torch.Generator, least: int = 1
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the (inputs, targets) of the same batches of `count` epochs, each in its own order.

    They are gathered, and changed where the samples say so, about a thousand at a time. Batches in
    which every target is ignored teach nothing and are left out. How samples are changed is a
    stream of its own, derived from the generator, which is not moved for it.
    """
    many = max(1, _AT_ONCE // size) * size
    changes = derived(generator, "augment") if samples.augment else generator
    for _ in range(count):
        moves = drawn(samples, changes)
        for place, index in enumerate(batches(len(samples), many, generator, least)):
            inputs, targets = samples.batch(index.to(samples.device))
            if moves is not None:
                inputs = augmented(samples, inputs, moves[place * many :][: len(index)])
            pairs = zip(torch.split(inputs, size), torch.split(targets, size), strict=True)
            pairs_kept = (pair for pair in pairs if len(pair[1]) >= least)
            if samples.has_ignored:
                pairs_kept = (pair for pair in pairs_kept if int(pair[1].max()) != IGNORED)
            yield from pairs_kept


def least_batch(module: nn.Module, size: int) -> int:
    """Return the fewest samples that a batch must have to train on, for batches of `size`.

    Two where batch normalisation, in training mode, takes its statistics from the batch: one
    sample has none, and PyTorch refuses it where feature maps are single pixels. Who asks for
    batches of one gets them.
    """
    normalised = any(isinstance(part, _BatchNorm) and part.training for part in module.modules())
    return min(size, 1 + normalised)


def train(
    model: FlatModel,
    samples: Samples,
    config: TrainConfig,
    *,
    lr: float,
    epochs: int,
    generator: torch.Generator,
    keep: Tensor | None = None,
    observer: Observer | None = None,
    freeze_statistics: bool = False,
    loss: Loss | None = None,
    gradient: GradientHook | None = None,
) -> TrainResult:
    """Train in place for `epochs` epochs; model and samples are on one device.

    Parameters
    ----------
    keep
        float32[P] of zeros and ones. Masked values are set to zero at once and their gradient
        is zeroed before anything reads it (or, where no gradient is kept, they themselves after
        every step), so that they stay exactly zero whatever momentum, weight decay or clipping
        do. On any device.
    generator
        Decides the order of the batches, and what the network draws from global generators.
    observer
        Called after every backward pass, with vectors on the CPU.
    freeze_statistics
        Keep normalisation layers in evaluation mode. Where they are not, a last batch of a
        single sample is left out; see `least_batch`.
    loss, gradient
        What is minimised, and what is done to each gradient, whose vectors are in the usual order;
        by default what the configuration names.
    """
    loss, gradient = loss or loss_named(config), gradient or gradient_named(config)
    model.module.train(not freeze_statistics)
    model.rewind_counters()
    least = least_batch(model.module, config.batch_size)
    if keep is not None:
        keep = keep.to(samples.device)
        model.values.mul_(keep)
    total, steps = torch.zeros((), device=samples.device), 0
    exact = exact_kernels(samples.device, config.precision)
    drawing = lent_from(generator) if model.manner.draws else nullcontext()
    with side_stream(samples.device), exact, drawing, model.working(config.channels_last) as work:
        kept = None if keep is None else work.arrange(keep)
        free = None if model.free is None else work.arrange(model.free)
        optimizer = Optimizer(work.values, work.grads, config, lr, kept, free)
        change = None
        if gradient is not None:
            change = Change(gradient, work, lr, derived(generator, "gradient"))
        axes = samples.inputs.dim()
        step = step_of(model, work, config, lr, kept, optimizer, axes, observer, loss, change)
        usual = model.manner.replays and observer is None and change is None and loss is None
        if samples.device.type == "cuda" and optimizer.steady and usual:
            step = Replayed(step)
        for inputs, targets in batches_of(samples, config.batch_size, epochs, generator, least):
            total += step(inputs, targets)
            steps += 1
    return TrainResult(float(total) / max(steps, 1), steps)


def step_of(
    model: FlatModel,
    work: Working,
    config: TrainConfig,
    lr: float,
    kept: Tensor | None,
    optimizer: Optimizer,
    axes: int,
    observer: Observer | None = None,
    loss: Loss | None = None,
    change: Change | None = None,
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the function that trains on a batch, with inputs of so many axes; gives its loss."""
    module, written_out = model.module, config.precision == "float32" and loss is None
    network = Feedforward.of(module, axes) if written_out else None
    if network is not None and optimizer.plain and observer is None and change is None:
        return partial(_descend, network, work.values, lr, kept)
    gradients = network.gradients if network else by_autograd(module, work, config, loss)

    def step(inputs: Tensor, targets: Tensor) -> Tensor:
        found = gradients(inputs, targets)
        if change is not None:
            optimizer.mask()
            change()
        if observer is not None:
            optimizer.mask()
            observer(work.restore(work.values).cpu(), work.restore(work.grads).cpu(), lr)
        optimizer()
        return found

    return step


def _descend(
    network: Feedforward,
    values: Tensor,
    lr: float,
    kept: Tensor | None,
    inputs: Tensor,
    targets: Tensor,
) -> Tensor:
    """Take a step of plain SGD; `values` are the network's own. Returns the loss."""
    loss = network.descend(inputs, targets, lr)
    if kept is not None:
        values.mul_(kept)
    return loss


def by_autograd(
    module: nn.Module, work: Working, config: TrainConfig, loss: Loss | None = None
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the function that overwrites ``work.grads`` and returns a batch's loss."""
    context = precision_context(config.precision, work.values.device.type)
    start = {} if loss is None else named_weights(module)

    def gradients(inputs: Tensor, targets: Tensor) -> Tensor:
        work.grads.zero_()
        with context:
            logits = module(_arranged(inputs, work))
        found = batch_loss(loss, module, logits.float(), targets, start)
        found.backward()  # type: ignore[no-untyped-call]
        return found.detach()

    return gradients


def _outputs(module: nn.Module, work: Working, axes: int) -> Callable[[Tensor], Tensor]:
    """Return the function that makes the float32 logits of a batch, with inputs of so many axes."""
    network = Feedforward.of(module, axes)
    if network is None or not network.convolves:
        return lambda inputs: module(_arranged(inputs, work)).float()

    def outputs(inputs: Tensor) -> Tensor:
        parts = torch.split(inputs, _EVALUATED)
        return torch.cat([network.logits(part) for part in parts])

    return outputs


def _arranged(inputs: Tensor, work: Working) -> Tensor:
    if not work.turned or inputs.dim() != 4:
        return inputs
    return inputs.contiguous(memory_format=torch.channels_last)


def evaluate(
    model: FlatModel,
    samples: Samples,
    *,
    batch_size: int = _TESTED,
    batch_statistics: bool = False,
    channels_last: bool = False,
) -> Evaluation:
    """Evaluate on all samples; accuracy counts predictions (tokens for language models).

    With `batch_statistics` batch normalisation, and nothing else, works as in training: by each
    batch's own statistics (for models whose running statistics never leave the clients). A last
    sample that would be a batch of its own belongs to the batch before it; a sample alone is
    tested with the running statistics.
    """
    loss, correct, count = 0.0, 0, 0
    for logits, targets in _answers(model, samples, batch_size, batch_statistics, channels_last):
        counted = targets.numel()
        if samples.has_ignored:
            counted = int((targets != IGNORED).sum())
        if counted:
            loss += float(loss_of(logits, targets)) * counted
            correct += int((logits.argmax(-1) == targets).sum())
            count += counted
    return Evaluation(loss / max(count, 1), correct / max(count, 1), count)


def class_accuracy(
    model: FlatModel,
    samples: Samples,
    classes: int,
    *,
    batch_statistics: bool = False,
) -> NDArray[np.float64]:
    """Return float64[classes], the accuracy on the samples of each class (0 for one without).

    Batches are those of `evaluate`, classes mixed as they stand there.
    """
    right, count = np.zeros(classes), np.zeros(classes)
    for logits, targets in _answers(model, samples, _TESTED, batch_statistics):
        counted = targets != IGNORED
        found = (logits.argmax(-1) == targets) & counted
        right += torch.bincount(targets[found], minlength=classes).numpy()
        count += torch.bincount(targets[counted], minlength=classes).numpy()
    shares: NDArray[np.float64] = right / np.maximum(count, 1)
    return shares


@torch.no_grad()
def _answers(
    model: FlatModel,
    samples: Samples,
    batch_size: int,
    batch_statistics: bool,
    channels_last: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits and targets of each batch; the model is as before when all are read."""
    buffers = model.buffers.clone() if batch_statistics else None
    model.module.eval()
    if batch_statistics and len(samples) > 1:  # a lone sample has none of its own
        for part in model.module.modules():
            if isinstance(part, _BatchNorm):
                part.train()
    everything = torch.arange(len(samples), device=samples.device)
    starts = range(0, len(samples), batch_size)
    parts = [everything[start : start + batch_size] for start in starts]
    if len(parts) > 1 and len(parts[-1]) < least_batch(model.module, batch_size):
        parts[-2:] = [torch.cat(parts[-2:])]
    drawing = lent(0, "evaluate") if model.manner.draws else nullcontext()
    with exact_kernels(samples.device), drawing, model.working(channels_last) as work:
        outputs = _outputs(model.module, work, samples.inputs.dim())
        for index in parts:
            inputs, targets = samples.batch(index)
            yield outputs(inputs), targets
    if buffers is not None:
        model.buffers.copy_(buffers)
