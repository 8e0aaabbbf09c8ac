"""One experiment: all its tables, to and from TOML."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from mpfl.config.learning import DataConfig, ModelConfig, PruneConfig, TrainConfig
from mpfl.config.rules import check
from mpfl.config.running import (
    ComparatorConfig,
    EngineConfig,
    FaultsConfig,
    FederationConfig,
    StopConfig,
    WireConfig,
)
from mpfl.nested import build, fail, merged, read_toml
from mpfl.plugins.source import Plugin, resolved
from mpfl.presets.files import EXTENDS, extended
from mpfl.presets.renames import renamed

_TOGETHER = 32  # clients trained together on a GPU


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a run's result (and, in ``engine``, how it is computed)."""

    seed: int = 0
    """Every random stream of the run derives from it."""
    method: str = "mpfl"
    """What is run: see ``mpfl list methods``. One with options takes them in parentheses."""
    plugins: tuple[Plugin, ...] = ()
    """Files, relative to the configuration's own, and modules that register parts of one's own:
    ``["study.py", "my_package.parts"]``. A file's text becomes part of the configuration."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    federation: FederationConfig = field(default_factory=FederationConfig)
    wire: WireConfig = field(default_factory=WireConfig)
    comparator: ComparatorConfig = field(default_factory=ComparatorConfig)
    stop: StopConfig = field(default_factory=StopConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    faults: FaultsConfig = field(default_factory=FaultsConfig)

    def __post_init__(self) -> None:
        check(self)
        clients, sampled = self.data.clients, self.federation.clients_per_round
        if sampled > clients:
            fail("federation.clients_per_round", sampled, f"at most data.clients = {clients}")

    @property
    def together(self) -> int:
        """How many clients the local engine trains together; 0 if it may use many processes.

        One process owns a GPU, so that it is never 0 with one.
        """
        gpu = self.train.device == "cuda"
        wanted = self.engine.vectorised or (_TOGETHER if gpu else 0)
        return wanted if gpu or wanted > 1 else 0


def from_mapping(table: Mapping[str, Any]) -> Experiment:
    """Build an experiment from nested tables, defaults filling the gaps.

    Files that ``plugins`` names are read, and not run.

    Raises
    ------
    InputError
        For an unknown key (naming the nearest known one), a wrong type or a value out of range.
    """
    return build(Experiment, resolved(renamed(table)[0]))


def from_toml(text: str) -> Experiment:
    """Read an experiment from TOML text; see `from_mapping` for errors.

    With ``extends = "demo"`` what is missing comes from that preset (or file, by its path), whose
    tables ``[compare]`` and ``[tune]`` do not count.
    """
    table = read_toml(text)
    if EXTENDS not in table:
        return from_mapping(table)
    below = extended({EXTENDS: table[EXTENDS]}, Path())
    below = {key: value for key, value in below.items() if key not in ("compare", "tune")}
    return from_mapping(merged(below, {k: v for k, v in table.items() if k != EXTENDS}))


def to_mapping(experiment: Experiment) -> dict[str, Any]:
    """Return nested plain tables, every key present; `from_mapping` reads them."""
    return dataclasses.asdict(experiment)


def to_toml(experiment: Experiment) -> str:
    """Return the fully resolved experiment as TOML text."""
    return tomli_w.dumps(to_mapping(experiment), multiline_strings=True)
