"""Local training of many clients at once: in lanes of a GPU; one after another elsewhere.

One client of a small network leaves most of a GPU idle. A lane is a network of its own and a stream
of work. Every client computes there what it would compute alone, bit for bit; only when its kernels
run is another matter.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from mpfl.config import TrainConfig
from mpfl.data.samples import Samples
from mpfl.network.flat import FlatModel
from mpfl.training.local import (
    Observer,
    TrainResult,
    batches_of,
    exact_kernels,
    least_batch,
    step_of,
    train,
)
from mpfl.training.losses import GradientHook, Loss
from mpfl.training.optimizer import Optimizer
from mpfl.training.replay import Replayed


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


_LANES: WeakKeyDictionary[FlatModel, dict[tuple[torch.device, bool], list[Lane]]]
_LANES = WeakKeyDictionary()

Course = Generator[None, None, tuple[Tensor, int]]


def why_alone(model: FlatModel, config: TrainConfig, jobs: Sequence[Job]) -> str:
    """Return why clients train one after another; empty if they can go side by side."""
    if model.manner.draws:
        return "the network draws from global generators"
    if not model.manner.replays or model.free is not None:
        return "the network has frozen parameters, or cannot be replayed"
    if not Optimizer.is_steady(config):
        return "train.optimizer is not sgd, or train.clip is set"
    if any(job.observer or job.loss or job.gradient for job in jobs):
        return "another loss than cross entropy, a change of the gradient, or a look at it"
    return "" if jobs[0].samples.device.type == "cuda" else "on a processor"


def side_by_side(
    model: FlatModel,
    config: TrainConfig,
    lr: float,
    freeze_statistics: bool,
    jobs: Sequence[Job],
) -> list[Trained | Exception]:
    """Train all jobs, which `why_alone` has nothing against; an exception is its job's own."""
    device = jobs[0].samples.device
    lanes = _lanes(model, device, config.channels_last, len(jobs))
    around = torch.cuda.current_stream(device) if device.type == "cuda" else None
    ends: list[tuple[Tensor, int] | Exception | None] = [None] * len(jobs)
    with exact_kernels(device, config.precision):
        courses: dict[int, Course] = {}
        for place, (lane, job) in enumerate(zip(lanes, jobs, strict=True)):
            _wait(lane.stream, around)
            courses[place] = lane.course(job, config, lr, freeze_statistics)
        while courses:
            for place, course in list(courses.items()):
                with torch.cuda.stream(lanes[place].stream):
                    try:
                        next(course)
                    except StopIteration as end:
                        ends[place] = end.value
                        del courses[place]
                    except torch.OutOfMemoryError:
                        del _LANES[model]
                        raise
                    except Exception as error:  # noqa: BLE001 - a client's own failure is its own
                        ends[place] = error
                        del courses[place]
    for lane in lanes:
        _wait(around, lane.stream)
    return [lane.result(end) for lane, end in zip(lanes, ends, strict=True)]


def _wait(one: torch.cuda.Stream | None, other: torch.cuda.Stream | None) -> None:
    """Have what is queued on one stream from now on wait for what is queued on another."""
    if one is not None and other is not None:
        one.wait_stream(other)


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _lanes(model: FlatModel, device: torch.device, channels_last: bool, count: int) -> list[Lane]:
    lanes = _LANES.setdefault(model, {}).setdefault((device, channels_last), [])
    lanes += [Lane(model, device, channels_last, place) for place in range(len(lanes), count)]
    return lanes[:count]


class Lane:
    """A copy of a network on a GPU, its vectors, and what was recorded there.

    Attributes
    ----------
    stream
        Where its work is queued; None on a processor, where it is done at once.
    """

    def __init__(
        self, model: FlatModel, device: torch.device, channels_last: bool, place: int
    ) -> None:
        self._replays = device.type == "cuda"
        self.stream = _stream(device) if self._replays else None
        self._device, self._place = device, place
        self._model = FlatModel(copy.deepcopy(model.module).to(device), model.manner)
        self._bound = ExitStack()  # for good: what is recorded works on these vectors
        self._work = self._bound.enter_context(self._model.working(channels_last))
        self._kept = torch.ones_like(self._work.values)
        self._made: object = None

    def course(self, job: Job, config: TrainConfig, lr: float, freeze_statistics: bool) -> Course:
        """Queue a step of a job whenever it is asked to; returns the sum of losses, and steps."""
        self._model.module.train(not freeze_statistics)
        self._model.rewind_counters()
        self._put(self._work.values, job.values)
        self._model.buffers.copy_(job.buffers)
        masked, axes = job.keep is not None, job.samples.inputs.dim()
        made = config, lr, freeze_statistics, masked, axes
        if self._made != made:
            self._make(config, lr, masked, axes)
            self._made = made
        if job.keep is not None:
            self._put(self._kept, job.keep)
            self._work.values.mul_(self._kept)
        self._optimizer.restart()
        total, steps = torch.zeros((), device=self._device), 0
        least = least_batch(self._model.module, config.batch_size)
        size = config.batch_size
        for inputs, targets in batches_of(job.samples, size, job.epochs, job.generator, least):
            total += self._step(inputs, targets)
            steps += 1
            yield
        return total, steps

    def _put(self, into: Tensor, vector: Tensor) -> None:
        into.copy_(self._work.arrange(vector.to(self._device)))

    def _make(self, config: TrainConfig, lr: float, masked: bool, axes: int) -> None:
        kept = self._kept if masked else None
        self._optimizer = Optimizer(self._work.values, self._work.grads, config, lr, kept)
        step = step_of(self._model, self._work, config, lr, kept, self._optimizer, axes)
        self._step = Replayed(step, self._place) if self._replays else step

    def result(self, end: tuple[Tensor, int] | Exception | None) -> Trained | Exception:
        """Return what a course has come to, on the CPU, given its end."""
        if end is None or isinstance(end, Exception):
            return end or RuntimeError("it never came to an end")
        total, steps = end
        values = self._work.restore(self._work.values).to("cpu", copy=True)
        result = TrainResult(float(total) / max(steps, 1), steps)
        return Trained(values, self._model.buffers.to("cpu", copy=True), result)


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

        Where an attempt to train side by side fails (the device's memory may be too small), clients
        are trained one after another and a warning tells why.
        """
        if why_alone(self.model, self.config, jobs):
            return [self._alone(job) for job in jobs]
        states = [job.generator.get_state() for job in jobs]
        try:
            return side_by_side(self.model, self.config, self.lr, self.freeze_statistics, jobs)
        except RuntimeError as error:
            text = f"clients are trained one after another: {type(error).__name__}: {error}"
            warnings.warn(f"engine.vectorised: {text}", RuntimeWarning, stacklevel=2)
        for job, state in zip(jobs, states, strict=True):
            job.generator.set_state(state)
        return [self._alone(job) for job in jobs]

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
