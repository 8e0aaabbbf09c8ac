"""The server halves of every method, what a half of one's own is made of, and the round loop."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from server.methods.averaging import WEIGHTS, WeightMethod, WeightState
    from server.methods.base import Receipt, Request, ServerMethod, claimed_samples
    from server.strategy import MethodStrategy
    from server.versions import Broadcaster, MaskCoder, MaskLog

_HOME = {
    "WEIGHTS": "server.methods.averaging",
    "Broadcaster": "server.versions",
    "MaskCoder": "server.versions",
    "MaskLog": "server.versions",
    "MethodStrategy": "server.strategy",  # Flower's strategies are slow to import
    "Receipt": "server.methods.base",
    "Request": "server.methods.base",
    "ServerMethod": "server.methods.base",
    "WeightMethod": "server.methods.averaging",
    "WeightState": "server.methods.averaging",
    "claimed_samples": "server.methods.base",
}

__all__ = [
    "WEIGHTS",
    "Broadcaster",
    "MaskCoder",
    "MaskLog",
    "MethodStrategy",
    "Receipt",
    "Request",
    "ServerMethod",
    "WeightMethod",
    "WeightState",
    "claimed_samples",
]


def __getattr__(name: str) -> Any:
    """Import what a script uses only then: the package itself stays light."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
