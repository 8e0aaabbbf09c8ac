"""Recurrent networks over tokens: classifiers and language models."""

from __future__ import annotations

from torch import Tensor, nn

from mpfl.errors import InputError
from mpfl.models.shapes import Shapes

EMBEDDING = 128


class RecurrentNetwork(nn.Module):
    """Embedding, one recurrent layer, and a linear decoder.

    Parameters
    ----------
    recurrent
        An ``nn.LSTM`` or ``nn.GRU`` with ``batch_first``.
    vocabulary
        Number of different tokens read.
    outputs
        Classes, or the vocabulary of a language model.
    every_step
        Decode every step (language model) rather than the mean over time (classifier).
    """

    def __init__(
        self, recurrent: nn.LSTM | nn.GRU, vocabulary: int, outputs: int, *, every_step: bool
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, recurrent.input_size)
        self.recurrent = recurrent
        self.decoder = nn.Linear(recurrent.hidden_size, outputs)
        self.every_step = every_step

    def forward(self, tokens: Tensor) -> Tensor:
        """Map int64 [batch, time] to [batch, time, outputs], or [batch, outputs]."""
        states = self.recurrent(self.embedding(tokens))[0]
        if not self.every_step:
            states = states.mean(dim=1)
        return self.decoder(states)  # type: ignore[no-any-return]


def lstm(shapes: Shapes, hidden: int = 256) -> nn.Module:
    """LSTM text classifier (embedding 128); decodes the mean state."""
    return _network(shapes, nn.LSTM, hidden, every_step=False)


def gru(shapes: Shapes, hidden: int = 256) -> nn.Module:
    """GRU text classifier (embedding 128); decodes the mean state."""
    return _network(shapes, nn.GRU, hidden, every_step=False)


def lstm_lm(shapes: Shapes, hidden: int = 256) -> nn.Module:
    """LSTM language model (embedding 128) over `classes` tokens."""
    return _network(shapes, nn.LSTM, hidden, every_step=True)


def gru_lm(shapes: Shapes, hidden: int = 256) -> nn.Module:
    """GRU language model (embedding 128) over `classes` tokens."""
    return _network(shapes, nn.GRU, hidden, every_step=True)


def _network(
    shapes: Shapes, kind: type[nn.LSTM | nn.GRU], hidden: int, *, every_step: bool
) -> nn.Module:
    if len(shapes.input_shape) != 1:
        raise InputError(
            f"a recurrent model reads token sequences (time,), got input shape {shapes.input_shape}"
        )
    if hidden < 1:
        raise InputError(f"got {hidden} hidden units, expected 1, 2, ...")
    vocabulary = shapes.classes if every_step else shapes.vocabulary
    layer = kind(shapes.wide(EMBEDDING), shapes.wide(hidden), batch_first=True)
    return RecurrentNetwork(layer, vocabulary, shapes.classes, every_step=every_step)
