"""Local training of many clients at once: one batched step for all instead of one for each.

Parameters are stacked to [K, P]; the gradients come from `torch.func.vmap` over the clients, and
everything else is the arithmetic of `mpfl.training.local` on a matrix instead of a vector. Every
client sees the batches that it would see alone, in their order. Results differ from training one
after another only by the order of floating-point sums inside the kernels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from mpfl.config import TrainConfig
from mpfl.data.augment import augmented, drawn
from mpfl.data.samples import Samples
from mpfl.network.flat import FlatModel
from mpfl.network.layers import Tensors
from mpfl.seeding import derived
from mpfl.training.local import (
    Observer,
    TrainResult,
    batches,
    exact_kernels,
    precision_context,
    train,
)
from mpfl.training.losses import GradientHook, Loss
from mpfl.training.optimizer import Optimizer


@dataclass(frozen=True, eq=False)
class Job:
    """One client's local training.

    Attributes
    ----------
    values, buffers
        float32[P] and float32[B]: where to start.
    samples, epochs, generator, keep, observer, loss, gradient
        As for `mpfl.training.local.train`. The work is done on the device of the samples;
        everything else is on the CPU.
    """

    values: Tensor
    buffers: Tensor
    samples: Samples
    epochs: int
    generator: torch.Generator
    keep: Tensor | None = None
    observer: Observer | None = None
    loss: Loss | None = None
    gradient: GradientHook | None = None


@dataclass(frozen=True)
class Trained:
    """The values float32[P] and buffers float32[B] after training, and what it reports."""

    values: Tensor
    buffers: Tensor
    result: TrainResult


@dataclass(frozen=True)
class Together:
    """Trains clients of one network; equal ones may serve each other's clients.

    Attributes
    ----------
    model
        The network. Its values are scratch where clients are trained one after another.
    """

    model: FlatModel
    config: TrainConfig
    lr: float
    freeze_statistics: bool = False

    def __call__(self, jobs: Sequence[Job]) -> list[Trained | Exception]:
        """Return what came out for each job, or the exception that its training raised.

        Where the network cannot be trained for several clients at once, or an attempt fails (the
        device's memory may be too small), they are trained one after another and a warning tells
        why; then only the job at fault gets an exception.
        """
        reason = self._obstacle(jobs)
        if len(jobs) > 1 and reason is None:
            states = [job.generator.get_state() for job in jobs]
            try:
                with exact_kernels(jobs[0].samples.device, self.config.precision):
                    return list(self._together(jobs))
            except Exception as error:  # noqa: BLE001 - the one at fault raises it again alone
                reason = f"{type(error).__name__}: {error}"
            for job, state in zip(jobs, states, strict=True):
                job.generator.set_state(state)
        if len(jobs) > 1:
            text = f"engine.vectorised: clients are trained one after another: {reason}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        return [self._alone(job) for job in jobs]

    def _obstacle(self, jobs: Sequence[Job]) -> str | None:
        """Return why these jobs cannot be done at once; None if nothing is known."""
        if self.model.manner.alone:
            return self.model.manner.alone
        if any(job.loss or job.gradient for job in jobs):
            return "another loss than cross entropy, or a change of the gradient"
        if any(job.samples.has_ignored for job in jobs):
            return "some targets are ignored, so that batches differ in what counts"
        return obstacle(self.model.module, self.freeze_statistics)

    def train(self, job: Job) -> TrainResult:
        """Train the network itself, whose numbers are those of the job, in place."""
        with self.model.on(job.samples.device) as placed:
            return train(
                placed,
                job.samples,
                self.config,
                lr=self.lr,
                epochs=job.epochs,
                generator=job.generator,
                keep=job.keep,
                observer=job.observer,
                freeze_statistics=self.freeze_statistics,
                loss=job.loss,
                gradient=job.gradient,
            )

    def _alone(self, job: Job) -> Trained | Exception:
        self.model.load(job.values, job.buffers)
        try:
            result = self.train(job)
        except Exception as error:  # noqa: BLE001 - a client's own failure is its own
            return error
        return Trained(self.model.values.clone(), self.model.buffers.clone(), result)

    def _together(self, jobs: Sequence[Job]) -> list[Trained]:
        """Train all jobs; those with the most steps first, so that the active ones are a prefix."""
        config, device = self.config, jobs[0].samples.device
        self.model.module.train(not self.freeze_statistics)
        plans = [_plan(job, config.batch_size) for job in jobs]
        order = sorted(range(len(jobs)), key=lambda place: -len(plans[place]))
        jobs, plans = [jobs[place] for place in order], [plans[place] for place in order]
        feed = _Feed([job.samples for job in jobs], plans)
        values = torch.stack([job.values for job in jobs]).to(device)
        buffers = torch.stack([job.buffers for job in jobs]).to(device)
        grads, totals = torch.zeros_like(values), torch.zeros(len(jobs), device=device)
        keep = _stacked_keep(jobs, values)
        if keep is not None:
            values.mul_(keep)
        gradients = _gradients(self.model, config.precision, device)
        free = None if self.model.free is None else self.model.free.to(device)
        step = Optimizer(values, grads, config, self.lr, keep, free)
        for number in range(len(plans[0])):
            active, inputs, targets, weights = feed.step(number)
            losses = gradients(values[:active], buffers[:active], inputs, targets, weights, grads)
            if any(job.observer for job in jobs[:active]):
                step.mask(active)
                _show(jobs[:active], values, grads, self.lr)
            step(active)
            totals[:active] += losses
        finals, means = values.cpu(), totals.tolist()
        trained: dict[int, Trained] = {}
        for row, place in enumerate(order):
            steps = len(plans[row])
            result = TrainResult(means[row] / max(steps, 1), steps)
            trained[place] = Trained(finals[row], jobs[row].buffers, result)
        return [trained[place] for place in range(len(order))]


def obstacle(module: nn.Module, freeze_statistics: bool = False) -> str | None:
    """Return why the clients of a network cannot be trained at once; None if nothing is known."""
    for name, part in module.named_modules():
        label = f"{type(part).__name__} {name!r}"
        if isinstance(part, _BatchNorm) and not freeze_statistics:
            return f"{label} computes statistics over a batch, and batches are padded"
        if isinstance(part, nn.RNNBase):
            return f"{label} runs in kernels that torch.func.vmap cannot batch"
        if isinstance(part, _DropoutNd):
            return f"{label} draws from torch's global generator"
    return None


Plan = list[tuple[Tensor, Tensor]]
"""The batches of all epochs: places of samples int64 [b], and how they are changed [b, 3]."""


def _plan(job: Job, size: int) -> Plan:
    """Draw the batches of all epochs; see `mpfl.training.local.batches_of`."""
    samples = job.samples
    plan: Plan = []
    changes = derived(job.generator, "augment") if samples.augment else job.generator
    unchanged = torch.zeros(len(samples), 0, dtype=torch.int64)
    for _ in range(job.epochs):
        moves = drawn(samples, changes)
        index = batches(len(samples), size, job.generator)
        plan += zip(index, torch.split(unchanged if moves is None else moves, size), strict=True)
    return plan


def _stacked_keep(jobs: Sequence[Job], values: Tensor) -> Tensor | None:
    """Return zeros and ones that broadcast to [K, P]; one row's memory where all are the same."""
    first = jobs[0].keep
    if all(job.keep is first for job in jobs):
        return None if first is None else first.to(values.device).expand_as(values)
    ones = torch.ones_like(jobs[0].values)
    return torch.stack([ones if job.keep is None else job.keep for job in jobs]).to(values.device)


def _show(jobs: Sequence[Job], values: Tensor, grads: Tensor, lr: float) -> None:
    for row, job in enumerate(jobs):
        if job.observer is not None:
            job.observer(values[row].cpu(), grads[row].cpu(), lr)


class _Feed:
    """The batches of every step, padded to the largest and gathered from one pool.

    Parameters
    ----------
    plans
        What each client goes through, longest plan first.
    """

    def __init__(self, samples: Sequence[Samples], plans: Sequence[Plan]) -> None:
        steps = range(len(plans[0]))
        sizes = [[len(plan[step][0]) for plan in plans if step < len(plan)] for step in steps]
        self._active, self._width = [len(s) for s in sizes], [max(s) for s in sizes]
        index = torch.zeros(len(steps), len(plans), max(self._width, default=0), dtype=torch.int64)
        weights = torch.zeros(index.shape)
        moves = torch.zeros(*index.shape, 3 if samples[0].augment else 0, dtype=torch.int8)
        offset = 0
        for row, (part, plan) in enumerate(zip(samples, plans, strict=True)):
            index[:, row] = offset  # padding shows a sample of the client's own, and has no weight
            for step, (batch, changes) in enumerate(plan):
                index[step, row, : len(batch)] = offset + batch
                weights[step, row, : len(batch)] = 1 / len(batch)
                moves[step, row, : len(batch)] = changes
            offset += len(part)
        self._pool, self._moves = Samples.joined(samples), moves if moves.numel() else None
        self._index, self._weights = index.to(self._pool.device), weights.to(self._pool.device)

    def step(self, number: int) -> tuple[int, Tensor, Tensor, Tensor]:
        """Return the number of active clients n, then inputs, targets and weights [n, b, ...]."""
        active, width = self._active[number], self._width[number]
        inputs, targets = self._pool.batch(self._index[number, :active, :width].reshape(-1))
        if self._moves is not None:
            moves = self._moves[number, :active, :width].reshape(-1, 3)
            inputs = augmented(self._pool, inputs, moves.long())
        inputs = inputs.view(active, width, *inputs.shape[1:])
        targets = targets.view(active, width, *targets.shape[1:])
        return active, inputs, targets, self._weights[number, :active, :width]


Gradients = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def _gradients(model: FlatModel, precision: str, device: torch.device) -> Gradients:
    """Return the function that overwrites the first n rows of grads[K, P] and returns losses[n].

    It takes values[n, P], buffers[n, B], inputs [n, b, ...], targets [n, b, ...], weights [n, b].
    """
    module, context = model.module, precision_context(precision, device.type)

    def loss(
        parameters: dict[str, Tensor],
        statistics: dict[str, Tensor],
        inputs: Tensor,
        targets: Tensor,
        weights: Tensor,
    ) -> Tensor:
        with context:
            logits = functional_call(module, (parameters, statistics), (inputs,))
        flat = logits.float().reshape(-1, logits.shape[-1])
        each = functional.cross_entropy(flat, targets.reshape(-1), reduction="none")
        return (each.view(len(weights), -1).mean(1) * weights).sum()

    batched = vmap(grad_and_value(loss))

    def gradients(
        values: Tensor,
        buffers: Tensor,
        inputs: Tensor,
        targets: Tensor,
        weights: Tensor,
        grads: Tensor,
    ) -> Tensor:
        parameters = _named(values, model.parameters)
        statistics = _named(buffers, model.statistics)
        found, losses = batched(parameters, statistics, inputs, targets, weights)
        for name, view in _named(grads[: len(values)], model.parameters).items():
            view.copy_(found[name])
        total: Tensor = losses.detach()
        return total

    return gradients


def _named(rows: Tensor, tensors: Tensors) -> dict[str, Tensor]:
    """Return views [n, *shape] of the tensors that lie in rows [n, total]."""
    places = ((name, *tensors.place(name)) for name in tensors.names)
    return {name: rows[:, where].view(len(rows), *shape) for name, where, shape in places}
