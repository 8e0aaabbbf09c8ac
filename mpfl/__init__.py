"""Masked pruning over federated learning: the algorithm, and by name what runs it.

Everything that a study of its own needs stands here by name and is imported when it is first
asked for; where a part lives inside may change, these names do not. `run`, `compare` and `load`
are those of `benchmarks`, found as well beside a ``server.py`` or ``benchmarks`` of your own.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpfl.average import FixedPointMean
    from mpfl.config import DataConfig, Experiment, from_mapping, from_toml, to_mapping, to_toml
    from mpfl.data import DATASETS, PARTITIONS, Dataset, Samples
    from mpfl.data.partition import Division
    from mpfl.errors import InputError, RunError
    from mpfl.faults.attacks import ATTACKS, Forgery
    from mpfl.faults.stress import SPOILERS
    from mpfl.mask import Layout, Mask
    from mpfl.methods import METHODS, Codecs, Method
    from mpfl.models import MODELS, Shapes, build_model
    from mpfl.network.flat import FlatModel
    from mpfl.network.layers import Structure
    from mpfl.plugins import Plugin
    from mpfl.ranking import RANKINGS, SCHEDULES, Order, rank
    from mpfl.registry import Registry
    from mpfl.scores import SCORES, Score, ScoreInputs, StepObserver, UnitScores
    from mpfl.seeding import numpy_rng, torch_generator
    from mpfl.training.decay import DECAYS
    from mpfl.training.local import Evaluation, TrainResult
    from mpfl.training.losses import GRADIENTS, LOSSES, GradientInputs, LossInputs, cross_entropy
    from mpfl.vote import RULES, Rule, Tally, Vote, VoteContext, ballot_agreement, decide
    from mpfl.wire import MASK_CODECS, VALUE_CODECS, WireError
    from mpfl.wire.frame import Frame, Kind, Section
    from mpfl.wire.masks import (
        MaskCodec,
        MaskContent,
        MaskPlan,
        decode_mask,
        encode_mask,
        unpack_bits,
    )
    from mpfl.wire.sections import Metrics, Sync
    from mpfl.wire.values import (
        ValueCodec,
        ValueContext,
        decode_values,
        encode_values,
        value_codec,
    )
    from mpfl.wire.values.channel import Channel, Memory
    from mpfl.world import World, build_world

__version__ = "0.1.0"

_HOMES = {
    "benchmarks.api": ("Comparison", "Run", "compare", "load", "run"),
    "mpfl.average": ("FixedPointMean",),
    "mpfl.config": (
        "DataConfig",
        "Experiment",
        "from_mapping",
        "from_toml",
        "to_mapping",
        "to_toml",
    ),
    "mpfl.data": ("DATASETS", "PARTITIONS", "Dataset", "Samples"),
    "mpfl.data.partition": ("Division",),
    "mpfl.errors": ("InputError", "RunError"),
    "mpfl.faults.attacks": ("ATTACKS", "Forgery"),
    "mpfl.faults.stress": ("SPOILERS",),
    "mpfl.mask": ("Layout", "Mask"),
    "mpfl.methods": ("METHODS", "Codecs", "Method"),
    "mpfl.models": ("MODELS", "Shapes", "build_model"),
    "mpfl.network.flat": ("FlatModel",),
    "mpfl.network.layers": ("Structure",),
    "mpfl.plugins": ("Plugin",),
    "mpfl.ranking": ("RANKINGS", "SCHEDULES", "Order", "rank"),
    "mpfl.registry": ("Registry",),
    "mpfl.scores": ("SCORES", "Score", "ScoreInputs", "StepObserver", "UnitScores"),
    "mpfl.seeding": ("numpy_rng", "torch_generator"),
    "mpfl.training.decay": ("DECAYS",),
    "mpfl.training.local": ("Evaluation", "TrainResult"),
    "mpfl.training.losses": (
        "GRADIENTS",
        "LOSSES",
        "GradientInputs",
        "LossInputs",
        "cross_entropy",
    ),
    "mpfl.vote": ("RULES", "Rule", "Tally", "Vote", "VoteContext", "ballot_agreement", "decide"),
    "mpfl.wire": ("MASK_CODECS", "VALUE_CODECS", "WireError"),
    "mpfl.wire.frame": ("Frame", "Kind", "Section"),
    "mpfl.wire.masks": (
        "MaskCodec",
        "MaskContent",
        "MaskPlan",
        "decode_mask",
        "encode_mask",
        "unpack_bits",
    ),
    "mpfl.wire.sections": ("Metrics", "Sync"),
    "mpfl.wire.values": (
        "ValueCodec",
        "ValueContext",
        "decode_values",
        "encode_values",
        "value_codec",
    ),
    "mpfl.wire.values.channel": ("Channel", "Memory"),
    "mpfl.world": ("World", "build_world"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ATTACKS",
    "DATASETS",
    "DECAYS",
    "GRADIENTS",
    "LOSSES",
    "MASK_CODECS",
    "METHODS",
    "MODELS",
    "PARTITIONS",
    "RANKINGS",
    "RULES",
    "SCHEDULES",
    "SCORES",
    "SPOILERS",
    "VALUE_CODECS",
    "Channel",
    "Codecs",
    "Comparison",
    "DataConfig",
    "Dataset",
    "Division",
    "Evaluation",
    "Experiment",
    "FixedPointMean",
    "FlatModel",
    "Forgery",
    "Frame",
    "GradientInputs",
    "InputError",
    "Kind",
    "Layout",
    "LossInputs",
    "Mask",
    "MaskCodec",
    "MaskContent",
    "MaskPlan",
    "Memory",
    "Method",
    "Metrics",
    "Order",
    "Plugin",
    "Registry",
    "Rule",
    "Run",
    "RunError",
    "Samples",
    "Score",
    "ScoreInputs",
    "Section",
    "Shapes",
    "StepObserver",
    "Structure",
    "Sync",
    "Tally",
    "TrainResult",
    "UnitScores",
    "ValueCodec",
    "ValueContext",
    "Vote",
    "VoteContext",
    "WireError",
    "World",
    "ballot_agreement",
    "build_model",
    "build_world",
    "compare",
    "cross_entropy",
    "decide",
    "decode_mask",
    "decode_values",
    "encode_mask",
    "encode_values",
    "from_mapping",
    "from_toml",
    "load",
    "numpy_rng",
    "rank",
    "run",
    "to_mapping",
    "to_toml",
    "torch_generator",
    "unpack_bits",
    "value_codec",
]


def __getattr__(name: str) -> Any:
    """Import what a script uses only then: the package itself stays light."""
    if name in _HOME:
        if _HOME[name].startswith("benchmarks."):
            import_module("mpfl.imports.namesakes").share_names()
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
