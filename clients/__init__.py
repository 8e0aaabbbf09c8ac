"""The client halves of every method, and what a half of one's own is made of."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clients.client import Client
    from clients.methods.fedavg import train_weights
    from clients.replica import ClientState, Replica, Uninformed, follow, follow_mask

_HOME = {
    "Client": "clients.client",
    "ClientState": "clients.replica",
    "Replica": "clients.replica",
    "Uninformed": "clients.replica",
    "follow": "clients.replica",
    "follow_mask": "clients.replica",
    "train_weights": "clients.methods.fedavg",
}

__all__ = [
    "Client",
    "ClientState",
    "Replica",
    "Uninformed",
    "follow",
    "follow_mask",
    "train_weights",
]


def __getattr__(name: str) -> Any:
    """Import what a script uses only then: the package itself stays light."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
