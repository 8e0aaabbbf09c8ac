"""One step of SGD or Adam on flat vectors, of one network or of many at once."""

from __future__ import annotations

import torch
from torch import Tensor

from mpfl.config import TrainConfig


class Optimizer:
    """SGD or Adam over flat vectors: the arithmetic of torch.optim in a few kernels.

    Pruned entries, where `kept` is zero, get no gradient: momentum, decay and norms see zeros.
    Nor do frozen ones, where `free` is zero, which do not decay either.

    Parameters
    ----------
    values, grads, kept
        float32[P], or float32[K, P] for K networks at once, each with its own gradient norm.
    free
        float32[P]; None where nothing is frozen.

    Attributes
    ----------
    plain
        Whether a step adds a multiple of the gradient, and nothing else.
    steady
        Whether all steps but the first do the same with other numbers, without looking at any.
    """

    def __init__(
        self,
        values: Tensor,
        grads: Tensor,
        config: TrainConfig,
        lr: float,
        kept: Tensor | None,
        free: Tensor | None = None,
    ) -> None:
        self._values, self._grads, self._free = values, grads, free
        self._kept = (
            kept if free is None else (free.expand_as(values) if kept is None else kept * free)
        )
        self._config, self._lr, self._count = config, lr, 0
        state = config.optimizer == "adam" or config.momentum > 0
        self._first = torch.zeros_like(values) if state else None
        self._second = torch.zeros_like(values) if config.optimizer == "adam" else None
        self.plain = not state and config.clip == 0 and config.weight_decay == 0
        self.steady = self.is_steady(config)

    @staticmethod
    def is_steady(config: TrainConfig) -> bool:
        """Tell whether optimizers of a configuration are steady."""
        return config.optimizer == "sgd" and config.clip == 0

    def restart(self) -> None:
        """Forget the steps taken; for steady ones, whose first step then is like all others."""
        if self._first is not None:
            self._first.zero_()
        self._count = 1

    @torch.no_grad()
    def mask(self, rows: int | None = None) -> None:
        """Zero the gradients of pruned entries (of the first `rows` networks)."""
        if self._kept is not None:
            self._grads[:rows].mul_(self._kept[:rows])

    @torch.no_grad()
    def __call__(self, rows: int | None = None) -> None:
        """Take a step with the gradients there are, which it overwrites.

        With `rows` only the first so many networks move, their state included; those that have
        stopped once must not go on.
        """
        values, grads, config = self._values[:rows], self._grads[:rows], self._config
        self._count += 1
        if self._kept is not None and self.plain:
            values.addcmul_(grads, self._kept[:rows], value=-self._lr)
            return
        self.mask(rows)
        if config.clip > 0:
            _clip(grads, config.clip)
        if config.weight_decay > 0:
            if self._free is None:
                grads.add_(values, alpha=config.weight_decay)
            else:
                grads.addcmul_(values, self._free, value=config.weight_decay)
        if self._first is None:
            values.add_(grads, alpha=-self._lr)
            return
        first = self._first[:rows]
        if self._second is not None:
            self._adam(values, grads, first, self._second[:rows])
            return
        if self._count == 1:
            first.copy_(grads)
        else:
            first.mul_(config.momentum).add_(grads)
        if config.nesterov:
            values.add_(grads, alpha=-self._lr)
            values.add_(first, alpha=-self._lr * config.momentum)
        else:
            values.add_(first, alpha=-self._lr)

    def _adam(self, values: Tensor, grads: Tensor, first: Tensor, second: Tensor) -> None:
        first.lerp_(grads, 1 - 0.9)
        second.mul_(0.999).addcmul_(grads, grads, value=1 - 0.999)
        bias_1, bias_2 = 1 - 0.9**self._count, 1 - 0.999**self._count
        scale = (second / bias_2).sqrt_().add_(1e-8)
        values.addcdiv_(first, scale, value=-self._lr / bias_1)


def _clip(grads: Tensor, limit: float) -> None:
    """Scale a gradient [P], or each row of [K, P], whose L2 norm is above the limit, down to it."""
    if grads.dim() == 1:
        norm = float(torch.linalg.vector_norm(grads))
        if norm > limit:
            grads.mul_(limit / norm)
        return
    norms = torch.linalg.vector_norm(grads, dim=1, keepdim=True).double()
    grads.mul_(torch.where(norms > limit, limit / norms, 1.0).to(grads.dtype))
