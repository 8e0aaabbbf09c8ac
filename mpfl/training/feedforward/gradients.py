"""Gradients of small feed-forward networks, written out: less time than autograd takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mpfl.training.feedforward.stages import Finish, Stages

_ATEN = torch.ops.aten
_MEAN, _IGNORED = 1, -100  # ATen's number for reduction="mean"; PyTorch's default ignore_index


@dataclass(frozen=True)
class _Link:
    """A linear layer's tensors, and whether a ReLU follows; gradients are written in place."""

    weight: Tensor
    transposed: Tensor
    bias: Tensor | None
    weight_grad: Tensor
    bias_grad: Tensor | None
    relu: bool

    def forward(self, inputs: Tensor) -> Tensor:
        if self.bias is None:
            outputs = torch.mm(inputs, self.transposed)
        else:
            outputs = torch.addmm(self.bias, inputs, self.transposed)
        return outputs.relu_() if self.relu else outputs

    def backward(self, gradient: Tensor, inputs: Tensor) -> None:
        """Overwrite the gradients."""
        torch.mm(gradient.t(), inputs, out=self.weight_grad)
        if self.bias_grad is not None:
            torch.sum(gradient, 0, out=self.bias_grad)

    def descend(self, gradient: Tensor, inputs: Tensor, lr: float) -> None:
        """Take a step down the gradients, which are never written to memory."""
        upright = gradient.t()
        self.weight.addmm_(upright, inputs, alpha=-lr)
        if self.bias is not None:
            self.bias.addmv_(upright, inputs.new_ones(len(inputs)), alpha=-lr)


class Feedforward:
    """Cross entropy and its gradients for a chain of linear layers with ReLU in between.

    Convolutions with ReLU and pooling may come before them; see `Stages`. The same formulas as
    autograd's, without its bookkeeping: on matrices as small as those of LeNet-300-100 that takes
    as long as the arithmetic. Results agree up to the order of sums.
    """

    def __init__(self, links: list[_Link], stages: Stages | None = None) -> None:
        self._links, self._stages = links, stages
        self._one = links[0].weight.new_ones(())

    @classmethod
    def of(cls, module: nn.Module, axes: int = 2) -> Feedforward | None:
        """Return the network of a module whose gradients are allocated; None if it is none.

        It is one if it is an ``nn.Sequential`` of `Stages`, ``Flatten``, which inputs of two `axes`
        do not need, ``Linear`` and, right after a linear layer, ``ReLU``, ends with a linear layer,
        and everything in it is trained. Layers that are tied, or do something else beside, are left
        to autograd.
        """
        if type(module) is not nn.Sequential or not all(map(_plain, module.modules())):
            return None
        if not all(map(_usual, module.parameters())):
            return None
        layers = list(module)
        tensors = [id(p) for layer in layers for p in layer.parameters()]
        if len(set(tensors)) < len(tensors):
            return None
        stages = None
        if axes == 4 and (found := Stages.of(layers)) is not None:
            stages, taken = found
            del layers[:taken]
        if layers and type(layers[0]) is nn.Flatten:
            if (layers[0].start_dim, layers[0].end_dim) != (1, -1):
                return None
            del layers[0]
        elif axes != 2:
            return None
        if not layers or type(layers[-1]) is not nn.Linear:
            return None
        links: list[_Link] = []
        for layer, after in zip(layers, [*layers[1:], None], strict=True):
            if type(layer) is nn.Linear:
                links.append(_link(layer, type(after) is nn.ReLU))
            elif type(layer) is not nn.ReLU or type(after) is not nn.Linear or not links:
                return None
        return cls(links, stages)

    @property
    def convolves(self) -> bool:
        """Whether there are convolutions, so that outputs are not those of the module's kernels."""
        return self._stages is not None

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the outputs [b, classes] of a batch."""
        outputs = self._stages.forward(inputs) if self._stages else inputs.flatten(1)
        for link in self._links:
            outputs = link.forward(outputs)
        return outputs

    def gradients(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Overwrite the gradients with those of a batch's mean cross entropy; returns that.

        Parameters
        ----------
        inputs
            float32 [b, ...], flattened to [b, features].
        targets
            int64 [b].
        """
        return self._run(inputs, targets, _Link.backward, _keep)

    def descend(self, inputs: Tensor, targets: Tensor, lr: float) -> Tensor:
        """Take one step of plain SGD; arguments and result as of `gradients`."""

        def step(link: _Link, gradient: Tensor, seen: Tensor) -> None:
            link.descend(gradient, seen, lr)

        def move(parameter: Tensor, _: Tensor, gradient: Tensor) -> None:
            parameter.add_(gradient, alpha=-lr)

        return self._run(inputs, targets, step, move)

    def _run(
        self,
        inputs: Tensor,
        targets: Tensor,
        finish: Callable[[_Link, Tensor, Tensor], None],
        finish_stage: Finish,
    ) -> Tensor:
        """Go through all layers and back; `finish` gets a layer, its outputs' gradient, its inputs.

        A layer's weights are needed no more when it is finished.
        """
        stages = self._stages
        activations = [stages.forward(inputs) if stages else inputs.flatten(1)]
        for link in self._links:
            activations.append(link.forward(activations[-1]))
        loss, gradient = self._cross_entropy(activations.pop(), targets)
        for place in reversed(range(len(self._links))):
            link, seen = self._links[place], activations[place]
            before = torch.mm(gradient, link.weight) if place or stages else gradient
            finish(link, gradient, seen)
            if place and self._links[place - 1].relu:
                _relu_backward(before, seen)
            gradient = before
        if stages:
            stages.backward(gradient, finish_stage)
        return loss

    def _cross_entropy(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean cross entropy and its gradient, by the kernels that autograd calls."""
        logs = torch.log_softmax(logits, 1)
        loss, weight = _ATEN.nll_loss_forward(logs, targets, None, _MEAN, _IGNORED)
        gradient = _ATEN.nll_loss_backward(self._one, logs, targets, None, _MEAN, _IGNORED, weight)
        return loss, _ATEN._log_softmax_backward_data(gradient, logs, 1, logs.dtype)


def _keep(_: Tensor, kept: Tensor, gradient: Tensor) -> None:
    kept.copy_(gradient)


def _plain(module: nn.Module) -> bool:
    """Tell whether a module does what its class does, and nothing else."""
    return not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or {"forward", "_conv_forward"} & vars(module).keys()
    )


def _usual(parameter: nn.Parameter) -> bool:
    """Tell whether a parameter is trained, has room for its gradient, and nobody watches that."""
    watched = ("_backward_hooks", "_post_accumulate_grad_hooks")
    return (
        parameter.grad is not None
        and parameter.requires_grad
        and not any(getattr(parameter, name, None) for name in watched)
    )


def _link(layer: nn.Linear, relu: bool) -> _Link:
    bias = layer.bias
    weight = layer.weight.detach()
    return _Link(
        weight,
        weight.t(),
        None if bias is None else bias.detach(),
        _gradient(layer.weight),
        None if bias is None else _gradient(bias),
        relu,
    )


def _relu_backward(gradient: Tensor, outputs: Tensor) -> None:
    """Zero the gradient in place where the ReLU's output is zero."""
    _ATEN.threshold_backward.grad_input(gradient, outputs, 0.0, grad_input=gradient)


def _gradient(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        raise ValueError("the gradients must be allocated")
    return parameter.grad
