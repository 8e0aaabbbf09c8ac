"""The configuration of one experiment: frozen dataclasses, to and from TOML."""

from __future__ import annotations

from mpfl.config.experiment import Experiment, from_mapping, from_toml, to_mapping, to_toml
from mpfl.config.learning import DataConfig, ModelConfig, PruneConfig, TrainConfig
from mpfl.config.rules import RULES
from mpfl.config.running import (
    ComparatorConfig,
    EngineConfig,
    FaultsConfig,
    FederationConfig,
    StopConfig,
    WireConfig,
)

__all__ = [
    "RULES",
    "ComparatorConfig",
    "DataConfig",
    "EngineConfig",
    "Experiment",
    "FaultsConfig",
    "FederationConfig",
    "ModelConfig",
    "PruneConfig",
    "StopConfig",
    "TrainConfig",
    "WireConfig",
    "from_mapping",
    "from_toml",
    "to_mapping",
    "to_toml",
]
