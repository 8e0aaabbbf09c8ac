"""Importance by activity: what share of a neuron's input a connection carries."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from mpfl.errors import InputError
from mpfl.network.layers import Structure
from mpfl.scores.base import ScoreInputs, UnitScores, in_order

_CHUNK = 1 << 23
"""Floats that one intermediate tensor may hold."""


def activity(inputs: ScoreInputs) -> UnitScores:
    """Neural relief: the share of a neuron's or filter's input that a connection carries.

    Dekhovich et al., arXiv 2109.10795, eq. 1-5. Linear, weight i of neuron j:
    s_ij = mean_n |w_ij x_ni| / S_j with S_j = Σ_k mean_n |w_kj x_nk| + |b_j|. Convolution,
    kernel K_ij: s_ij = mean_n ‖ |K_ij| ∗ |x_ni| ‖_F / S_j, where S_j holds all kernels of the
    filter and its bias |b_j|·√(h·w) for an output of h x w. Zero where S_j is zero.
    """
    module = inputs.model.module
    layers = [(layer, module.get_submodule(layer.name)) for layer in inputs.structure.layers]
    sums = {layer.name: _Sum() for layer, _ in layers}
    hooks = [part.register_forward_pre_hook(_observe(sums[layer.name])) for layer, part in layers]
    samples = inputs.scoring_samples()
    module.eval()
    try:
        with torch.no_grad():
            for index in in_order(len(samples), inputs.batch_size):
                module(samples.batch(index)[0])
    finally:
        for hook in hooks:
            hook.remove()
    return [_shares(part, sums[layer.name]).numpy().reshape(-1) for layer, part in layers]


class _Sum:
    """Σ_n of each connection's activity, how many n, and the bias factor √(h·w)."""

    def __init__(self) -> None:
        self.total: Tensor = torch.zeros((), dtype=torch.float64)
        self.count = 0
        self.bias_factor = 1.0


def _observe(into: _Sum) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def see(part: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        x = arguments[0].abs()
        if isinstance(part, nn.Linear):
            rows = x.reshape(-1, x.shape[-1])
            into.total = into.total + rows.double().sum(0) * part.weight.abs().double()
            into.count += len(rows)
        elif isinstance(part, nn.Conv2d):
            for index in in_order(len(x), max(1, _CHUNK // _floats_per_sample(part, x))):
                norms, positions = _kernel_norms(part, x[index])
                into.total = into.total + norms
                into.bias_factor = positions**0.5
            into.count += len(x)

    return see


def _floats_per_sample(part: nn.Conv2d, x: Tensor) -> int:
    area = part.kernel_size[0] * part.kernel_size[1]
    return area * part.in_channels * max(part.out_channels, x.shape[2] * x.shape[3])


def _kernel_norms(part: nn.Conv2d, x: Tensor) -> tuple[Tensor, int]:
    """Return Σ_n ‖ |K_ij| ∗ x_ni ‖_F as float64[out, in], and the output's h·w.

    The squared norm is a quadratic form: kᵀ(P·Pᵀ)k, where P holds the patches of one channel.
    That costs less than all the output maps of single kernels.
    """
    stride, padding = _pair(part.stride), part.padding
    if isinstance(padding, str):
        raise InputError(f"score 'activity' needs a numeric padding, got {padding!r}")
    patches = functional.unfold(
        x, _pair(part.kernel_size), _pair(part.dilation), _pair(padding), stride
    )
    positions = patches.shape[-1]
    patches = patches.view(len(x), part.in_channels, -1, positions)
    gram = patches @ patches.transpose(2, 3)  # [n, in, area, area]
    kernels = part.weight.abs().flatten(2).transpose(0, 1)  # [in, out, area]
    squares = ((kernels @ gram) * kernels).sum(-1)  # [n, in, out]
    return squares.clamp_min_(0).double().sqrt_().sum(0).t(), positions


def _pair(value: tuple[int, ...]) -> tuple[int, int]:
    return value[0], value[-1]


def _shares(part: nn.Module, seen: _Sum) -> Tensor:
    means = seen.total / max(seen.count, 1)
    whole = means.sum(1)
    if isinstance(part.bias, Tensor):
        whole = whole + part.bias.detach().abs().double() * seen.bias_factor
    shares = means / whole.unsqueeze(1).clamp_min(torch.finfo(torch.float64).tiny)
    return shares.float().contiguous()


def not_plain(module: nn.Module, structure: Structure) -> dict[str, str]:
    """Return the layers whose connections cannot be scored."""
    tied = {name.rpartition(".")[0] for _, name in structure.aliases}
    found = {layer.name: "it is tied to another layer" for layer in structure.layers
             if layer.name in tied}  # fmt: skip
    for layer in structure.layers:
        part = module.get_submodule(layer.name)
        if isinstance(part, nn.Conv1d):
            found[layer.name] = "its convolution is one-dimensional"
        if isinstance(part, nn.Conv2d) and (part.groups != 1 or isinstance(part.padding, str)):
            found[layer.name] = "its convolution has groups or a named padding"
        if isinstance(part, NonDynamicallyQuantizableLinear):
            found[layer.name] = "attention applies it, unseen from outside"
    return found
