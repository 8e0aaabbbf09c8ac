"""Gates of LSTM and GRU: which parameters live and die together with a hidden unit.

A hidden unit owns a row in the block of every gate, of four (LSTM) or three (GRU), in both weight
matrices; their biases follow it, and every hidden unit reads it through a column.
"""

from __future__ import annotations

from torch import nn

from mpfl.network.layers import FOLLOW, INPUT, OWN, Slot

Recurrent = nn.LSTM | nn.GRU


def recurrent_kind(module: Recurrent) -> str:
    """Return ``lstm`` or ``gru``."""
    return "lstm" if isinstance(module, nn.LSTM) else "gru"


def is_plain(module: Recurrent) -> bool:
    """Tell whether this has one layer, one direction and no projection; others are not known."""
    return module.num_layers == 1 and not module.bidirectional and not module.proj_size


def input_slot(name: str, repeat: int) -> Slot:
    """Return what a unit decides about in the recurrent module of this name that reads it."""
    return Slot(f"{name}.weight_ih_l0", 1, repeat=repeat, role=INPUT)


def hidden_slots(name: str, module: Recurrent) -> list[Slot]:
    """Return what a hidden unit decides about in its own module."""
    gates = 4 if isinstance(module, nn.LSTM) else 3
    rows = [(f"{name}.{leaf}", OWN) for leaf in ("weight_ih_l0", "weight_hh_l0")]
    if module.bias:
        rows += [(f"{name}.{leaf}", FOLLOW) for leaf in ("bias_ih_l0", "bias_hh_l0")]
    slots = [Slot(parameter, 0, tile=gates, role=role) for parameter, role in rows]
    return [*slots, Slot(f"{name}.weight_hh_l0", 1, role=INPUT)]
