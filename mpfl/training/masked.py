"""Work under a mask: in the whole network, or in a smaller one where whole units are gone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mpfl.config import TrainConfig
from mpfl.data.samples import Samples
from mpfl.mask import Mask
from mpfl.network.compact import compact
from mpfl.network.flat import FlatModel
from mpfl.network.layers import Structure
from mpfl.recent import Recent
from mpfl.training.gang import in_gang, meet
from mpfl.training.local import Evaluation, Observer, TrainResult, evaluate
from mpfl.training.losses import (
    GradientHook,
    GradientInputs,
    Loss,
    gradient_named,
    loss_named,
)
from mpfl.training.together import Job, Together
from mpfl.training.trial import safe_channels_last


@dataclass(frozen=True)
class Whole:
    """The whole network, trained with pruned weights held at zero.

    Attributes
    ----------
    model
        What is trained.
    keep
        float32[P] of zeros and ones, which must not be written; None for all ones.
    channels_last
        Whether it may be trained on images stored channels-last.
    """

    model: FlatModel
    keep: Tensor | None = None
    channels_last: bool = True

    def take(self) -> None:
        """Nothing is to be copied."""

    def give(self) -> None:
        """Set pruned parameters to zero."""
        if self.keep is not None:
            self.model.values.mul_(self.keep)

    def watched_by(self, observer: Observer) -> Observer:
        """Return the observer itself."""
        return observer

    def changed_by(self, hook: GradientHook) -> GradientHook:
        """Return the hook itself."""
        return hook


@dataclass(frozen=True)
class Small:
    """The compacted network, trained in place of the whole one; otherwise as `Whole`.

    Attributes
    ----------
    model
        The small network; its values are scratch.
    parameters, buffers
        int64: where its numbers stand in the whole network's vectors, ascending.
    """

    whole: FlatModel
    model: FlatModel
    parameters: Tensor
    buffers: Tensor
    channels_last: bool
    keep: None = None

    def take(self) -> None:
        """Copy the surviving numbers out of the whole network."""
        torch.index_select(self.whole.values, 0, self.parameters, out=self.model.values)
        torch.index_select(self.whole.buffers, 0, self.buffers, out=self.model.buffers)

    def give(self) -> None:
        """Write the numbers back; pruned parameters become zero, their statistics stay."""
        self.whole.values.zero_().index_copy_(0, self.parameters, self.model.values)
        self.whole.buffers.index_copy_(0, self.buffers, self.model.buffers)

    def watched_by(self, observer: Observer) -> Observer:
        """Return an observer of the small network that shows vectors of the whole one."""
        whole_values, whole_grads = torch.zeros(2, self.whole.values.numel())

        def observe(values: Tensor, grads: Tensor, lr: float) -> None:
            whole_values.index_copy_(0, self.parameters, values)
            whole_grads.index_copy_(0, self.parameters, grads)
            observer(whole_values, whole_grads, lr)

        return observe

    def changed_by(self, hook: GradientHook) -> GradientHook:
        """Return a hook of the small network that shows vectors of the whole one."""

        def whole(vector: Tensor) -> Tensor:
            places = self.parameters.to(vector.device)
            zeros = torch.zeros(self.whole.values.numel(), device=vector.device)
            return zeros.index_copy_(0, places, vector)

        def change(inputs: GradientInputs) -> Tensor:
            gradient, weights = whole(inputs.gradient), whole(inputs.weights)
            start = whole(inputs.start)
            changed = hook(replace(inputs, gradient=gradient, weights=weights, start=start))
            return changed[self.parameters.to(changed.device)]

        return change


Part = Whole | Small
"""What is trained under a mask."""


class MaskedNetwork:
    """Trains and evaluates one network under masks.

    Where the mask drops whole units (granularity ``filter``) this happens in the network that
    `compact` makes, which has the same outputs and the same gradients up to the order of floating
    point sums, and is smaller; elsewhere in the whole network with pruned weights held at zero.
    What belongs to a mask is made once and kept for the last two masks.

    Parameters
    ----------
    model
        The whole network. Work starts from its values and ends in them.
    structure
        What `find_structure` says about it.
    """

    def __init__(self, model: FlatModel, structure: Structure) -> None:
        self._model, self._structure = model, structure
        self._whole_units = all(
            slot.axis is not None for layer in structure.layers for slot in layer.slots
        )
        self._parts: Recent[Mask, Part] = Recent(2)

    def part(self, mask: Mask) -> Part:
        """Return what is trained under a mask.

        That is the whole network where there is nothing to cut out: for the full mask, where
        units are not whole slices of tensors, and where a layer has no unit left.
        """
        if mask.count() == mask.layout.total:
            return Whole(self._model)
        return self._parts.get(mask, lambda: self._make(mask))

    def _make(self, mask: Mask) -> Part:
        kept = self._structure.parameter_mask(mask)
        if not self._whole_units or not all(mask.counts()):
            return Whole(self._model, torch.from_numpy(kept.astype(np.float32)))
        module = compact(self._model.module, self._structure, mask)
        buffers = np.flatnonzero(self._structure.buffer_mask(mask))
        places = torch.from_numpy(np.flatnonzero(kept)), torch.from_numpy(buffers)
        return Small(
            self._model, FlatModel(module, self._model.manner), *places, safe_channels_last(module)
        )

    def apply(self, mask: Mask) -> None:
        """Set pruned parameters to zero."""
        part = self.part(mask)
        part.take()
        part.give()

    def train(
        self,
        samples: Samples,
        mask: Mask,
        config: TrainConfig,
        *,
        lr: float,
        epochs: int,
        generator: torch.Generator,
        observer: Observer | None = None,
        freeze_statistics: bool = False,
        loss: Loss | None = None,
        gradient: GradientHook | None = None,
    ) -> TrainResult:
        """Train the network in place under `mask`; arguments as for `mpfl.training.local.train`.

        In a gang (`mpfl.training.gang`) it waits for the others' training, and they are trained
        together. The work is done on the device of the samples.

        Afterwards pruned parameters are exactly zero. Running statistics of units that were cut
        out are those from before. An observer and a gradient hook see vectors of the whole network,
        zero where it is pruned, whichever network was trained. Loss and hook are by default what
        the configuration names.
        """
        part = self.part(mask)
        part.take()
        config = replace(config, channels_last=config.channels_last and part.channels_last)
        observer = part.watched_by(observer) if observer else None
        model, gradient = part.model, gradient or gradient_named(config)
        job = Job(
            model.values,
            model.buffers,
            samples,
            epochs,
            generator,
            part.keep,
            observer,
            loss or loss_named(config),
            part.changed_by(gradient) if gradient else None,
        )
        together = Together(model, config, lr, freeze_statistics)
        result = self._meet(together, job) if in_gang() else together.train(job)
        part.give()
        return result

    def _meet(self, together: Together, job: Job) -> TrainResult:
        """Train with others, who use the same networks as scratch meanwhile."""
        buffers = self._model.buffers.clone()
        start = replace(job, values=job.values.clone(), buffers=job.buffers.clone())
        trained = meet(together, start)
        self._model.buffers.copy_(buffers)
        together.model.load(trained.values, trained.buffers)
        return trained.result

    def evaluate(
        self,
        samples: Samples,
        mask: Mask,
        *,
        batch_statistics: bool = False,
        channels_last: bool = False,
    ) -> Evaluation:
        """Evaluate the network, whose pruned parameters are zero, on all samples."""
        part = self.part(mask)
        part.take()
        with part.model.on(samples.device) as placed:
            return evaluate(
                placed,
                samples,
                batch_statistics=batch_statistics,
                channels_last=channels_last,
            )
