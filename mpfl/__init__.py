"""Masked pruning over federated learning: the algorithm, and by name what runs it.

Everything that a study of its own needs stands here by name and is imported when it is first
asked for; where a part lives inside may change, these names do not. `run`, `compare` and `load`
are those of `benchmarks`, found as well beside a ``server.py`` or ``benchmarks`` of your own.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpfl.config import DataConfig, Experiment, from_mapping, from_toml, to_mapping, to_toml
    from mpfl.data import DATASETS, PARTITIONS, Dataset, Samples
    from mpfl.errors import InputError
    from mpfl.mask import Layout, Mask
    from mpfl.models import MODELS, Shapes, build_model
    from mpfl.network.layers import Structure
    from mpfl.ranking import RANKINGS, SCHEDULES, Order, rank
    from mpfl.registry import Registry
    from mpfl.scores import SCORES, Score, ScoreInputs, StepObserver, UnitScores
    from mpfl.seeding import numpy_rng, torch_generator
    from mpfl.training.decay import DECAYS
    from mpfl.vote import RULES, Rule, Tally, Vote, VoteContext, decide
    from mpfl.wire import MASK_CODECS, VALUE_CODECS, WireError
    from mpfl.world import World, build_world

__version__ = "0.1.0"

_HOMES = {
    "benchmarks.api": ("Comparison", "Run", "compare", "load", "run"),
    "mpfl.config": (
        "DataConfig",
        "Experiment",
        "from_mapping",
        "from_toml",
        "to_mapping",
        "to_toml",
    ),
    "mpfl.data": ("DATASETS", "PARTITIONS", "Dataset", "Samples"),
    "mpfl.errors": ("InputError",),
    "mpfl.mask": ("Layout", "Mask"),
    "mpfl.models": ("MODELS", "Shapes", "build_model"),
    "mpfl.network.layers": ("Structure",),
    "mpfl.ranking": ("RANKINGS", "SCHEDULES", "Order", "rank"),
    "mpfl.registry": ("Registry",),
    "mpfl.scores": ("SCORES", "Score", "ScoreInputs", "StepObserver", "UnitScores"),
    "mpfl.seeding": ("numpy_rng", "torch_generator"),
    "mpfl.training.decay": ("DECAYS",),
    "mpfl.vote": ("RULES", "Rule", "Tally", "Vote", "VoteContext", "decide"),
    "mpfl.wire": ("MASK_CODECS", "VALUE_CODECS", "WireError"),
    "mpfl.world": ("World", "build_world"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "DATASETS",
    "DECAYS",
    "MASK_CODECS",
    "MODELS",
    "PARTITIONS",
    "RANKINGS",
    "RULES",
    "SCHEDULES",
    "SCORES",
    "VALUE_CODECS",
    "Comparison",
    "DataConfig",
    "Dataset",
    "Experiment",
    "InputError",
    "Layout",
    "Mask",
    "Order",
    "Registry",
    "Rule",
    "Run",
    "Samples",
    "Score",
    "ScoreInputs",
    "Shapes",
    "StepObserver",
    "Structure",
    "Tally",
    "UnitScores",
    "Vote",
    "VoteContext",
    "WireError",
    "World",
    "build_model",
    "build_world",
    "compare",
    "decide",
    "from_mapping",
    "from_toml",
    "load",
    "numpy_rng",
    "rank",
    "run",
    "to_mapping",
    "to_toml",
    "torch_generator",
]


def __getattr__(name: str) -> Any:
    """Import what a script uses only then: the package itself stays light."""
    if name in _HOME:
        if _HOME[name].startswith("benchmarks."):
            import_module("mpfl.imports.namesakes").share_names()
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
