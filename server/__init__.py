"""The server halves of every method, the round loop, and the grid that carries messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from server.strategy import MethodStrategy

__all__ = ["MethodStrategy"]


def __getattr__(name: str) -> Any:
    if name == "MethodStrategy":  # loaded when asked for: Flower's strategies are slow to import
        from server.strategy import MethodStrategy

        return MethodStrategy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
