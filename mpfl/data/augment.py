"""Images changed at random as they are trained on: crops out of a black border, mirror images."""

from __future__ import annotations

import torch
from torch import Tensor

from mpfl.data.samples import Samples
from mpfl.errors import InputError

BORDER = 4
"""Pixels of black around an image that is cropped to its own size again (He et al. 2016)."""


def check_augment(samples: Samples) -> None:
    """Refuse what is no image; InputError naming the key."""
    if samples.augment and samples.inputs.dim() != 4:
        raise InputError(
            f"data.augment: {samples.augment!r} needs images [n, channels, height, width]"
        )


def drawn(samples: Samples, generator: torch.Generator) -> Tensor | None:
    """Draw how every sample of one epoch is changed; None where nothing is.

    Returns
    -------
    torch.Tensor
        int64 [n, 3] on the CPU: row and column of the crop, 0 to 2 · `BORDER`, and whether it is
        mirrored, in the order in which the epoch goes over the samples.
    """
    if not samples.augment:
        return None
    moves = torch.randint(2 * BORDER + 1, (len(samples), 3), generator=generator)
    mirrored = torch.randint(2, (len(samples),), generator=generator)
    moves[:, 2] = mirrored if samples.augment == "crop_flip" else 0
    return moves


def augmented(samples: Samples, inputs: Tensor, moves: Tensor | None) -> Tensor:
    """Return a batch of inputs, as a network sees them, changed as was drawn.

    Parameters
    ----------
    samples
        Where the batch is from; says what black is.
    inputs
        float32 [b, channels, height, width].
    moves
        int64 [b, 3], see `drawn`; None leaves them as they are.
    """
    if moves is None:
        return inputs
    top, left, mirrored = moves.to(inputs.device).unbind(1)
    count, channels, height, width = inputs.shape
    border = (count, channels, height + 2 * BORDER, width + 2 * BORDER)
    whole = samples.black_pixel(inputs).expand(border).contiguous()
    whole[:, :, BORDER:-BORDER, BORDER:-BORDER] = inputs
    rows = top[:, None] + torch.arange(height, device=inputs.device)
    columns = left[:, None] + torch.arange(width, device=inputs.device)
    columns = torch.where(mirrored.bool()[:, None], columns.flip(1), columns)
    places = (rows[:, :, None] * border[3] + columns[:, None]).view(count, 1, -1)
    return whole.flatten(2).gather(2, places.expand(-1, channels, -1)).view(inputs.shape)
