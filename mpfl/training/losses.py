"""What local training minimises, and what may be done to a gradient before the step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mpfl.config import TrainConfig
from mpfl.errors import InputError, keyed
from mpfl.network.flat import Working
from mpfl.registry import Registry
from mpfl.seeding import torch_generator

CROSS_ENTROPY, PLAIN = "cross_entropy", "plain"


@dataclass(frozen=True)
class LossInputs:
    """What a loss is given, once a batch.

    Attributes
    ----------
    network
        The network that is being trained, in training mode. Where whole units are pruned it is
        the smaller one without them.
    outputs
        float32[n, …, classes], what it said to the batch.
    targets
        int64[n, …].
    weights, start
        Its parameters by name; the same as they were when this training began: the model that
        the server sent, under the mask.
    """

    network: nn.Module
    outputs: Tensor
    targets: Tensor
    weights: Mapping[str, Tensor]
    start: Mapping[str, Tensor]


@dataclass(frozen=True)
class GradientInputs:
    """What a gradient hook is given, once a step; vectors are of the whole network.

    Attributes
    ----------
    gradient, weights
        float32[P], zero where the mask prunes.
    start
        float32[P], the weights when this training began.
    lr, step
        The learning rate, and the number of the step in this training, from 0.
    generator
        A stream for this training alone.
    """

    gradient: Tensor
    weights: Tensor
    start: Tensor
    lr: float
    step: int
    generator: torch.Generator


Loss = Callable[[LossInputs], Tensor]
GradientHook = Callable[[GradientInputs], Tensor]


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross entropy of logits [..., classes] and integer targets [...].

    Raises
    ------
    ValueError
        If the shapes are others: broadcasting would hide that.
    """
    if logits.shape[:-1] != targets.shape:
        raise ValueError(
            f"a network's outputs [..., classes] of shape {list(logits.shape)} do not fit targets "
            f"of shape {list(targets.shape)}"
        )
    return functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


def cross_entropy(inputs: LossInputs) -> Tensor:
    """The mean cross entropy."""
    return loss_of(inputs.outputs, inputs.targets)


def label_smoothing(inputs: LossInputs, share: float = 0.1) -> Tensor:
    """Cross entropy where a share of each target is spread over all classes.

    Source: Szegedy et al. 2016, arXiv 1512.00567, section 7.
    """
    if not 0 <= share < 1:
        raise InputError(f"got share = {share:g}, expected 0 <= share < 1")
    logits, targets = inputs.outputs, inputs.targets.reshape(-1)
    flat = logits.reshape(-1, logits.shape[-1])
    return functional.cross_entropy(flat, targets, label_smoothing=share)


def fedprox(inputs: LossInputs, mu: float = 0.01) -> Tensor:
    """Cross entropy plus mu / 2 times the squared distance to where the round started.

    Source: Li et al. 2020, "Federated optimization in heterogeneous networks", arXiv 1812.06127.
    """
    if mu < 0:
        raise InputError(f"got mu = {mu:g}, expected at least 0")
    moved = [(w - inputs.start[name]).square().sum() for name, w in inputs.weights.items()]
    return cross_entropy(inputs) + mu / 2 * torch.stack(moved).sum()


LOSSES: Registry[Callable[..., Tensor]] = Registry(
    "loss",
    {CROSS_ENTROPY: cross_entropy, "label_smoothing": label_smoothing, "fedprox": fedprox},
    given=1,
)
"""(`LossInputs`, and its arguments) -> the mean loss of a batch, a scalar with a gradient."""


def plain(inputs: GradientInputs) -> Tensor:
    """The gradient as it is."""
    return inputs.gradient


GRADIENTS: Registry[Callable[..., Tensor]] = Registry("gradient", {PLAIN: plain}, given=1)
"""(`GradientInputs`, and its arguments) -> the gradient to step along, float32[P].

It comes before clipping, weight decay and momentum; where the mask prunes, it is set to zero."""


def loss_named(config: TrainConfig) -> Loss | None:
    """Return what ``train.loss`` names; None for cross entropy, which has faster ways."""
    with keyed("train.loss"):
        loss = LOSSES.bind(config.loss)
    return None if config.loss.strip() == CROSS_ENTROPY else loss


def gradient_named(config: TrainConfig) -> GradientHook | None:
    """Return what ``train.gradient`` names; None for the gradient as it is."""
    with keyed("train.gradient"):
        hook = GRADIENTS.bind(config.gradient)
    return None if config.gradient.strip() == PLAIN else hook


class Change:
    """Has a hook change the gradients of a `Working`, step after step."""

    def __init__(
        self, hook: GradientHook, work: Working, lr: float, generator: torch.Generator
    ) -> None:
        self._hook, self._work, self._lr, self._generator = hook, work, lr, generator
        self._start, self._step = work.restore(work.values).clone(), 0

    @torch.no_grad()
    def __call__(self) -> None:
        """Replace the gradients there are by what the hook makes of them."""
        work = self._work
        gradient, weights = work.restore(work.grads).clone(), work.restore(work.values).clone()
        inputs = GradientInputs(
            gradient, weights, self._start, self._lr, self._step, self._generator
        )
        work.grads.copy_(work.arrange(self._hook(inputs)))
        self._step += 1


def named_weights(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of a network's parameters, by name."""
    return {name: weight.detach().clone() for name, weight in module.named_parameters()}


def batch_loss(
    loss: Loss | None,
    module: nn.Module,
    outputs: Tensor,
    targets: Tensor,
    start: Mapping[str, Tensor],
) -> Tensor:
    """Return the loss of a batch; None is cross entropy."""
    if loss is None:
        return loss_of(outputs, targets)
    return loss(LossInputs(module, outputs, targets, dict(module.named_parameters()), start))


def check_loss(config: TrainConfig, module: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    """Try loss and gradient hook on a few samples, without training.

    Raises
    ------
    InputError
        Naming the key, if an argument is out of range or no number and no gradient comes back.
    """
    loss, hook = loss_named(config), gradient_named(config)
    if loss is not None:
        module.eval()
        with keyed("train.loss"):
            found = batch_loss(loss, module, module(inputs).float(), targets, named_weights(module))
            _check_tensor(config.loss, found, (), "one number with a gradient")
            if not found.requires_grad:
                raise InputError(f"{config.loss!r} returns a number that has no gradient")
    if hook is not None:
        zeros = torch.zeros(sum(weight.numel() for weight in module.parameters()))
        generator = torch_generator(0, "trial")
        with keyed("train.gradient"):
            changed = hook(GradientInputs(zeros, zeros, zeros, config.lr, 0, generator))
            _check_tensor(config.gradient, changed, zeros.shape, f"float32[{len(zeros)}]")


def _check_tensor(spec: str, found: object, shape: tuple[int, ...], expected: str) -> None:
    if not isinstance(found, Tensor) or tuple(found.shape) != tuple(shape):
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(f"{spec!r} returns {got}, expected {expected}")
