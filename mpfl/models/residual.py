"""Residual networks: torchvision's ResNet-18/34 and the CIFAR form ResNet-20/56."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from mpfl.models.shapes import Shapes, image_shape


def _from_torchvision(model: str, shapes: Shapes) -> nn.Module:
    from mpfl import torchvision_shim  # noqa: F401, I001  (must precede torchvision)
    from torchvision import models

    channels, _, _ = image_shape(model, shapes, 1)
    build: Callable[..., nn.Module] = getattr(models, model)
    network = build(weights=None, num_classes=shapes.classes)
    if channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    return network


def resnet18(shapes: Shapes) -> nn.Module:
    """ResNet-18 (He 2016) from torchvision: 11,689,512 parameters with 1,000 classes."""
    return _from_torchvision("resnet18", shapes)


def resnet34(shapes: Shapes) -> nn.Module:
    """ResNet-34 (He 2016) from torchvision: 21,797,672 parameters with 1,000 classes."""
    return _from_torchvision("resnet34", shapes)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; a 1x1 convolution where the shape changes.

    Parameters
    ----------
    inputs, outputs
        Channels.
    stride
        Stride of the first convolution and of the shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False),
                nn.BatchNorm2d(outputs),
            )
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map float [batch, inputs, h, w] to [batch, outputs, h / stride, w / stride]."""
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu2(y + self.shortcut(x))  # type: ignore[no-any-return]


def _cifar(model: str, blocks: int, shapes: Shapes) -> nn.Module:
    channels, _, _ = image_shape(model, shapes, 1)
    first, second, third = map(shapes.wide, (16, 32, 64))
    stem = [nn.Conv2d(channels, first, 3, padding=1, bias=False), nn.BatchNorm2d(first), nn.ReLU()]
    network = nn.Sequential()
    network.add_module("stem", nn.Sequential(*stem))
    inputs = first
    for stage, outputs in enumerate((first, second, third), start=1):
        body = nn.Sequential()
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            body.add_module(f"block{block + 1}", BasicBlock(inputs, outputs, stride))
            inputs = outputs
        network.add_module(f"stage{stage}", body)
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("classifier", nn.Linear(third, shapes.classes))
    return network


def resnet20(shapes: Shapes) -> nn.Module:
    """ResNet-20 for CIFAR (He 2016) with 1x1 shortcuts (option B): 272,474 parameters."""
    return _cifar("resnet20", 3, shapes)


def resnet56(shapes: Shapes) -> nn.Module:
    """ResNet-56 for CIFAR (He 2016) with 1x1 shortcuts (option B): 855,770 parameters."""
    return _cifar("resnet56", 9, shapes)
