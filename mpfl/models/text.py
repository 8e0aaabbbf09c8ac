"""Recurrent networks over tokens: classifiers and language models."""

from __future__ import annotations

from torch import Tensor, nn

from mpfl.errors import InputError
from mpfl.models.shapes import Shapes

EMBEDDING, HIDDEN = 128, 256


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


def _check(model: str, shapes: Shapes, hidden: int) -> None:
    if hidden < 1:
        raise InputError(f"model {model!r}: got {hidden} hidden units, expected 1, 2, ...")
    if len(shapes.input_shape) != 1:
        raise InputError(
            f"model {model!r} reads token sequences of shape (time,), "
            f"got input shape {shapes.input_shape}"
        )


def lstm(shapes: Shapes, hidden: int = HIDDEN) -> nn.Module:
    """LSTM text classifier (embedding 128, hidden 256; or lstm(512)); decodes the mean state."""
    _check("lstm", shapes, hidden)
    layer = nn.LSTM(EMBEDDING, hidden, batch_first=True)
    return RecurrentNetwork(layer, shapes.vocabulary, shapes.classes, every_step=False)


def gru(shapes: Shapes, hidden: int = HIDDEN) -> nn.Module:
    """GRU text classifier (embedding 128, hidden 256; or gru(512)); decodes the mean state."""
    _check("gru", shapes, hidden)
    layer = nn.GRU(EMBEDDING, hidden, batch_first=True)
    return RecurrentNetwork(layer, shapes.vocabulary, shapes.classes, every_step=False)


def lstm_lm(shapes: Shapes, hidden: int = HIDDEN) -> nn.Module:
    """LSTM language model (embedding 128, hidden 256; or lstm_lm(512)) over `classes` tokens."""
    _check("lstm_lm", shapes, hidden)
    layer = nn.LSTM(EMBEDDING, hidden, batch_first=True)
    return RecurrentNetwork(layer, shapes.classes, shapes.classes, every_step=True)


def gru_lm(shapes: Shapes, hidden: int = HIDDEN) -> nn.Module:
    """GRU language model (embedding 128, hidden 256; or gru_lm(512)) over `classes` tokens."""
    _check("gru_lm", shapes, hidden)
    layer = nn.GRU(EMBEDDING, hidden, batch_first=True)
    return RecurrentNetwork(layer, shapes.classes, shapes.classes, every_step=True)
