"""Four networks as researchers write them, and images for one of them; importing registers all."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mpfl import DATASETS, MODELS, Dataset, Samples, Shapes
from mpfl.config import DataConfig


class Quickstart(nn.Module):
    """The network of Flower's PyTorch quickstart, for images of 32 by 32 pixels."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, shapes.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(functional.relu(self.conv1(x)))
        x = self.pool(functional.relu(self.conv2(x)))
        x = x.view(-1, 16 * 5 * 5)
        x = functional.relu(self.fc1(x))
        x = functional.relu(self.fc2(x))
        return self.fc3(x)


class TiedAutoencoder(nn.Module):
    """Encoder, its transpose as decoder, the encoder once more under another name, and a head."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        inputs = int(np.prod(shapes.input_shape))
        self.encoder = nn.Linear(inputs, 32)
        self.shift = nn.Parameter(torch.full((inputs,), 0.1))
        self.again = nn.Linear(inputs, 32)
        self.again.weight, self.again.bias = self.encoder.weight, self.encoder.bias
        self.head = nn.Linear(32, shapes.classes)

    def forward(self, x: Tensor) -> Tensor:
        code = self.encoder(x.flatten(1)).relu()
        decoded = functional.linear(code, self.encoder.weight.t(), self.shift)
        return self.head(self.again(decoded).relu())


class NormalisedBlock(nn.Module):
    """Two convolutions with group normalisation around a shortcut, a learned slope between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(2, channels)
        self.slope = nn.PReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(2, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.slope(self.norm1(self.conv1(x)))
        return functional.relu(x + self.norm2(self.conv2(y)))


def group_resnet(shapes: Shapes, channels: int = 8) -> nn.Module:
    """A small residual network with group normalisation."""
    return nn.Sequential(
        nn.Conv2d(shapes.input_shape[0], channels, 3, padding=1),
        NormalisedBlock(channels),
        nn.AvgPool2d(2),
        NormalisedBlock(channels),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LayerNorm(channels),
        nn.Linear(channels, shapes.classes),
    )


class DropoutLstm(nn.Module):
    """A language model of two layers with dropout between them and tied embeddings."""

    def __init__(self, shapes: Shapes, hidden: int = 24) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shapes.classes, hidden)
        self.lstm = nn.LSTM(hidden, hidden, num_layers=2, dropout=0.3, batch_first=True)
        self.dropout = nn.Dropout(0.2)
        self.decoder = nn.Linear(hidden, shapes.classes)
        self.decoder.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        states = self.lstm(self.dropout(self.embedding(tokens)))[0]
        return self.decoder(self.dropout(states))


def coloured(config: DataConfig) -> Dataset:
    """Return noise of 32 by 32 pixels whose mean colour tells the class."""
    rng = np.random.default_rng(0)
    targets = torch.from_numpy(rng.integers(0, 4, 240))
    colours = torch.from_numpy(rng.normal(size=(4, 3, 1, 1)).astype(np.float32))
    noise = torch.from_numpy(rng.normal(size=(240, 3, 32, 32)).astype(np.float32))
    inputs = noise + colours[targets]
    train, test = Samples(inputs[:160], targets[:160]), Samples(inputs[160:], targets[160:])
    return Dataset(config.name, train, test, classes=4, input_shape=(3, 32, 32))


DATASETS.register("coloured", coloured)
MODELS.register("quickstart", Quickstart)
MODELS.register("tied_autoencoder", TiedAutoencoder)
MODELS.register("group_resnet", group_resnet)
MODELS.register("dropout_lstm", DropoutLstm)
