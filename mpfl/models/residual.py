"""Residual networks: torchvision's ResNet-18/34 and the CIFAR form ResNet-20/56.

Each takes a number of groups: ``resnet20(8)`` has group normalisation (Wu & He 2018, arXiv
1803.08494) in so many groups in place of batch normalisation, as federated papers do (Hsieh et al.
2020, arXiv 1910.00189): it has no running statistics, and no client's depend on another's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from mpfl.errors import InputError
from mpfl.models.shapes import Shapes, image_shape

Norm = Callable[[int], nn.Module]
"""(channels) -> a normalisation of them."""


def _norm(model: str, groups: int, narrowest: int) -> Norm:
    """Return batch normalisation for no groups, else one in so many."""
    if not groups:
        return nn.BatchNorm2d
    if groups < 0 or narrowest % groups:
        raise InputError(
            f"model {model!r}: got {groups} groups, expected 0 (batch normalisation) or a divisor "
            f"of {narrowest}"
        )
    return partial(nn.GroupNorm, groups)


def _from_torchvision(model: str, groups: int, shapes: Shapes) -> nn.Module:
    from mpfl import torchvision_shim  # noqa: F401, I001  (must precede torchvision)
    from torchvision import models

    channels, _, _ = image_shape(model, shapes, 1)
    build: Callable[..., nn.Module] = getattr(models, model)
    norm = _norm(model, groups, 64)
    network = build(weights=None, num_classes=shapes.classes, norm_layer=norm)
    if channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    return network


def resnet18(shapes: Shapes, groups: int = 0) -> nn.Module:
    """ResNet-18 (He 2016) from torchvision: 11,689,512 parameters with 1,000 classes."""
    return _from_torchvision("resnet18", groups, shapes)


def resnet34(shapes: Shapes, groups: int = 0) -> nn.Module:
    """ResNet-34 (He 2016) from torchvision: 21,797,672 parameters with 1,000 classes."""
    return _from_torchvision("resnet34", groups, shapes)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; a 1x1 convolution where the shape changes.

    Parameters
    ----------
    inputs, outputs
        Channels.
    stride
        Stride of the first convolution and of the shortcut.
    norm
        What normalises after each convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = norm(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = norm(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False),
                norm(outputs),
            )
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map float [batch, inputs, h, w] to [batch, outputs, h / stride, w / stride]."""
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu2(y + self.shortcut(x))  # type: ignore[no-any-return]


def _cifar(model: str, blocks: int, groups: int, shapes: Shapes) -> nn.Module:
    channels, _, _ = image_shape(model, shapes, 1)
    norm, whole = _norm(model, groups, 16), max(groups, 1)  # channels come by whole groups
    first, second, third = (whole * shapes.wide(usual // whole) for usual in (16, 32, 64))
    stem = [nn.Conv2d(channels, first, 3, padding=1, bias=False), norm(first), nn.ReLU()]
    network = nn.Sequential()
    network.add_module("stem", nn.Sequential(*stem))
    inputs = first
    for stage, outputs in enumerate((first, second, third), start=1):
        body = nn.Sequential()
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            body.add_module(f"block{block + 1}", BasicBlock(inputs, outputs, stride, norm))
            inputs = outputs
        network.add_module(f"stage{stage}", body)
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("classifier", nn.Linear(third, shapes.classes))
    return network


def resnet20(shapes: Shapes, groups: int = 0) -> nn.Module:
    """ResNet-20 for CIFAR (He 2016) with 1x1 shortcuts (option B): 272,474 parameters."""
    return _cifar("resnet20", 3, groups, shapes)


def resnet56(shapes: Shapes, groups: int = 0) -> nn.Module:
    """ResNet-56 for CIFAR (He 2016) with 1x1 shortcuts (option B): 855,770 parameters."""
    return _cifar("resnet56", 9, groups, shapes)
