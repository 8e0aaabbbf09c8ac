"""Plain feed-forward networks for images: LeNets, small CNNs, Conv-4/6 and VGG."""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import nn

from mpfl.models.shapes import Shapes, image_shape


def _named(**modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))


def lenet300(shapes: Shapes) -> nn.Module:
    """LeNet-300-100 (LeCun 1998): 266,610 parameters on 28x28; flattens any input."""
    inputs, first, second = math.prod(shapes.input_shape), shapes.wide(300), shapes.wide(100)
    return _named(
        flatten=nn.Flatten(),
        fc1=nn.Linear(inputs, first),
        relu1=nn.ReLU(),
        fc2=nn.Linear(first, second),
        relu2=nn.ReLU(),
        fc3=nn.Linear(second, shapes.classes),
    )


def lenet5_caffe(shapes: Shapes) -> nn.Module:
    """LeNet-5 as shipped with Caffe (20-50-500): 431,080 parameters on 28x28."""
    channels, height, width = image_shape("lenet5_caffe", shapes, 16)
    area = _after_caffe(height) * _after_caffe(width)
    first, second, third = map(shapes.wide, (20, 50, 500))
    return _named(
        conv1=nn.Conv2d(channels, first, 5),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(first, second, 5),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc1=nn.Linear(second * area, third),
        relu1=nn.ReLU(),
        fc2=nn.Linear(third, shapes.classes),
    )


def _after_caffe(size: int) -> int:
    return ((size - 4) // 2 - 4) // 2


def lenet5(shapes: Shapes) -> nn.Module:
    """LeNet-5 (LeCun 1998; 6-16-120-84, ReLU, max pooling): 61,706 parameters on 28x28."""
    return _lenet5("lenet5", shapes, padding=2)


def niid_cnn(shapes: Shapes) -> nn.Module:
    """NIID-Bench's CNN (Li 2022; 6-16-120-84): 44,426 parameters on 28x28, 62,006 on CIFAR-10."""
    return _lenet5("niid_cnn", shapes, padding=0)


def _lenet5(model: str, shapes: Shapes, padding: int) -> nn.Module:
    channels, height, width = image_shape(model, shapes, 16 - 2 * padding)
    area = _after_caffe(height + 2 * padding) * _after_caffe(width + 2 * padding)
    first, second, third, fourth = map(shapes.wide, (6, 16, 120, 84))
    return _named(
        conv1=nn.Conv2d(channels, first, 5, padding=padding),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(first, second, 5),
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc1=nn.Linear(second * area, third),
        relu3=nn.ReLU(),
        fc2=nn.Linear(third, fourth),
        relu4=nn.ReLU(),
        fc3=nn.Linear(fourth, shapes.classes),
    )


def pfl_cnn(shapes: Shapes) -> nn.Module:
    """pfl-research's CIFAR-10 CNN (32-64-128, two dropouts): 1,626,442 parameters on CIFAR-10."""
    channels, height, width = image_shape("pfl_cnn", shapes, 6)
    area = ((height - 4) // 2) * ((width - 4) // 2)
    first, second, third = map(shapes.wide, (32, 64, 128))
    return _named(
        conv1=nn.Conv2d(channels, first, 3),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(first, second, 3),
        relu2=nn.ReLU(),
        pool=nn.MaxPool2d(2),
        dropout1=nn.Dropout(0.25),
        flatten=nn.Flatten(),
        fc1=nn.Linear(second * area, third),
        relu3=nn.ReLU(),
        dropout2=nn.Dropout(0.5),
        fc2=nn.Linear(third, shapes.classes),
    )


def _features(
    channels: int, plan: tuple[int, ...], normalise: bool, shapes: Shapes
) -> tuple[nn.Sequential, int, int]:
    """Return 3x3 convolutions by plan (0 = pool by 2), last channels, and the shrink factor."""
    modules: list[nn.Module] = []
    shrink = 1
    for usual in plan:
        if usual == 0:
            modules.append(nn.MaxPool2d(2))
            shrink *= 2
            continue
        width = shapes.wide(usual)
        modules.append(nn.Conv2d(channels, width, 3, padding=1))
        if normalise:
            modules.append(nn.BatchNorm2d(width))
        modules.append(nn.ReLU())
        channels = width
    return nn.Sequential(*modules), channels, shrink


def _conv(model: str, plan: tuple[int, ...], shapes: Shapes) -> nn.Module:
    channels, height, width = image_shape(model, shapes, 2 ** plan.count(0))
    features, last, shrink = _features(channels, plan, normalise=False, shapes=shapes)
    hidden = shapes.wide(256)
    return _named(
        features=features,
        flatten=nn.Flatten(),
        fc1=nn.Linear(last * (height // shrink) * (width // shrink), hidden),
        relu1=nn.ReLU(),
        fc2=nn.Linear(hidden, hidden),
        relu2=nn.ReLU(),
        fc3=nn.Linear(hidden, shapes.classes),
    )


def conv4(shapes: Shapes) -> nn.Module:
    """Conv-4 (Frankle & Carbin 2019): 2,425,930 parameters on CIFAR-10."""
    return _conv("conv4", (64, 64, 0, 128, 128, 0), shapes)


def conv6(shapes: Shapes) -> nn.Module:
    """Conv-6 (Frankle & Carbin 2019): 2,262,602 parameters on CIFAR-10."""
    return _conv("conv6", (64, 64, 0, 128, 128, 0, 256, 256, 0), shapes)


_VGG11 = (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0)


def _vgg(model: str, plan: tuple[int, ...], shapes: Shapes) -> nn.Module:
    channels, height, width = image_shape(model, shapes, 2 ** plan.count(0))
    features, last, shrink = _features(channels, plan, normalise=True, shapes=shapes)
    return _named(
        features=features,
        flatten=nn.Flatten(),
        classifier=nn.Linear(last * (height // shrink) * (width // shrink), shapes.classes),
    )


def vgg11(shapes: Shapes) -> nn.Module:
    """VGG-11 with batch normalisation and one linear classifier: 9,231,114 on CIFAR-10.

    ``features`` has the names and shapes of torchvision's ``vgg11_bn``.
    """
    return _vgg("vgg11", _VGG11, shapes)


def vgg11_plain(shapes: Shapes) -> nn.Module:
    """VGG-11 without normalisation, two hidden layers of 512 and dropout (FedNova): 9,750,922."""
    channels, height, width = image_shape("vgg11_plain", shapes, 32)
    features, last, shrink = _features(channels, _VGG11, normalise=False, shapes=shapes)
    hidden = shapes.wide(512)
    return _named(
        features=features,
        flatten=nn.Flatten(),
        dropout1=nn.Dropout(),
        fc1=nn.Linear(last * (height // shrink) * (width // shrink), hidden),
        relu1=nn.ReLU(),
        dropout2=nn.Dropout(),
        fc2=nn.Linear(hidden, hidden),
        relu2=nn.ReLU(),
        fc3=nn.Linear(hidden, shapes.classes),
    )


def vgg16(shapes: Shapes) -> nn.Module:
    """VGG-16 with batch normalisation and one linear classifier: 14,728,266 on CIFAR-10.

    ``features`` has the names and shapes of torchvision's ``vgg16_bn``.
    """
    plan = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
    return _vgg("vgg16", plan, shapes)
