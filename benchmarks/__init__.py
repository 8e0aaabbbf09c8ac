"""The harness: command line, presets, experiments, comparisons, reports, speed benchmarks.

From Python: `run`, `compare` and `load`; they are imported when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpfl.imports.namesakes import share_names

if TYPE_CHECKING:
    from benchmarks.api import Comparison, Run, compare, load, run

share_names()

__all__ = ["Comparison", "Run", "compare", "load", "run"]


def __getattr__(name: str) -> Any:
    """Import what a script uses only then: the package itself stays light."""
    if name in __all__:
        from benchmarks import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
