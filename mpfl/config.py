"""The configuration of one experiment: frozen dataclasses, to and from TOML."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tomli_w

from mpfl.errors import InputError, keyed
from mpfl.nested import build, fail, read_toml
from mpfl.plugins.source import Plugin, resolved
from mpfl.registry import parse_spec, unknown_name

_TOGETHER = 32  # clients trained together on a GPU
_TOLERATED = ("auto", "nothing", "client error", "client crashed", "everything")


def _check(condition: bool, key: str, got: object, expected: str) -> None:
    if not condition:
        fail(key, got, expected)


def _at_least(section: str, config: object, **least: int) -> None:
    for key, limit in least.items():
        got = getattr(config, key)
        _check(got >= limit, f"{section}.{key}", got, f"at least {limit}")


def _share(section: str, config: object, *keys: str) -> None:
    for key in keys:
        got = getattr(config, key)
        _check(0 < got <= 1, f"{section}.{key}", got, f"0 < {key} <= 1")


def _spec(section: str, config: object, *keys: str) -> None:
    for key in keys:
        with keyed(f"{section}.{key}"):
            parse_spec(getattr(config, key))


def _choice(key: str, got: str, allowed: tuple[str, ...]) -> None:
    if got not in allowed:
        raise InputError(f"{key}: {unknown_name('value', got, allowed)}")


@dataclass(frozen=True)
class DataConfig:
    """Which data, and who holds what of it."""

    name: str = "digits"
    """Data set: see ``mpfl list datasets``."""
    folder: str = ""
    """Where the files are (``--data-dir``); not needed by the embedded sets."""
    download: bool = False
    """Whether missing files may be fetched from the network."""
    clients: int = 10
    """Number of clients the training data is divided among."""
    partition: str = "iid"
    """``iid``, ``dirichlet(alpha)``, ``shards(k)``, ``quantity(alpha)`` or ``natural``."""
    train_samples: int = 0
    """Use only this many training samples, drawn from the seed (0 = all)."""
    test_samples: int = 0
    """Evaluate on only this many test samples (0 = all)."""

    def __post_init__(self) -> None:
        _at_least("data", self, clients=1, train_samples=0, test_samples=0)
        _spec("data", self, "partition")


@dataclass(frozen=True)
class ModelConfig:
    """Which network."""

    name: str = "lenet300"
    """Model: see ``mpfl list models``. Recurrent ones take hidden units: ``lstm_lm(512)``."""
    batch_norm: str = "aggregate"
    """What happens to running statistics: ``aggregate`` (they travel and are averaged), ``local``
    (each client keeps its own; the server evaluates with batch statistics) or ``freeze`` (initial
    ones for ever). Only ``aggregate`` costs bytes; scales and shifts are weights and travel."""
    weights: str = ""
    """A safetensors file of initial weights that every party already holds (empty: from seed)."""

    def __post_init__(self) -> None:
        _choice("model.batch_norm", self.batch_norm, ("aggregate", "local", "freeze"))


@dataclass(frozen=True)
class TrainConfig:
    """How a client trains."""

    epochs: int = 1
    """Local epochs per round."""
    batch_size: int = 32
    """Samples per step."""
    optimizer: str = "sgd"
    """``sgd`` or ``adam``; its state does not outlive a round."""
    lr: float = 0.1
    """Learning rate of the first round."""
    momentum: float = 0.0
    """Momentum of SGD."""
    weight_decay: float = 0.0
    """L2 penalty, as in torch.optim."""
    lr_decay: str = "none"
    """Over the rounds of weight training: ``none``, ``cosine`` or ``exponential(factor)``."""
    loss: str = "cross_entropy"
    """What training minimises: see ``mpfl list losses``. Tests, and scores made of gradients, go by
    cross entropy."""
    gradient: str = "plain"
    """What is done to a gradient before the step: see ``mpfl list gradients``."""
    clip: float = 0.0
    """Clip the gradient's L2 norm to this (0 = off)."""
    precision: str = "float32"
    """``float32`` or ``bf16`` (autocast; refused where the processor has none)."""
    channels_last: bool = True
    """Memory format of images and convolutions."""
    device: str = "cpu"
    """``cpu`` or ``cuda``."""

    def __post_init__(self) -> None:
        _at_least("train", self, epochs=1, batch_size=1, weight_decay=0, clip=0)
        _check(self.lr > 0, "train.lr", self.lr, "a positive number")
        _check(0 <= self.momentum < 1, "train.momentum", self.momentum, "0 <= momentum < 1")
        _spec("train", self, "lr_decay", "loss", "gradient")
        _choice("train.optimizer", self.optimizer, ("sgd", "adam"))
        _choice("train.precision", self.precision, ("float32", "bf16"))
        _choice("train.device", self.device, ("cpu", "cuda"))


@dataclass(frozen=True)
class PruneConfig:
    """What is pruned, by which score, rank, vote and schedule."""

    density: float = 0.1
    """Target share of prunable units that survive."""
    granularity: str = "weight"
    """What one mask bit decides about: ``weight``, ``kernel`` or ``filter``."""
    score: str = "magnitude"
    """Importance score: see ``mpfl list scores``."""
    ranking: str = "layer"
    """``layer``, ``flat``, ``flat_normalized``, ``erk`` or ``coverage`` (neural relief: alpha_fc
    and alpha_conv decide, not density and schedule; ``budget`` aims at the ballots' mean)."""
    vote: str = "budget"
    """Vote rule: see ``mpfl list rules``."""
    tie: str = "prune"
    """What a tied majority does: ``prune`` or ``keep``."""
    weighted: bool = False
    """Whether ballots count by the client's number of samples."""
    schedule: str = "geometric"
    """Density over phase 1: ``one_shot``, ``linear``, ``geometric`` or ``cubic``."""
    rounds: int = 4
    """Rounds of phase 1 (mask consensus)."""
    epochs: int = 0
    """Local epochs in phase 1 (0 = as ``train.epochs``)."""
    min_units: int = 1
    """Units that survive in every layer whatever the vote."""
    score_samples: int = 1000
    """Samples a data-driven score looks at (0 = all the client has)."""
    recovery: str = "rewind"
    """Every round of phase 1 starts from w0 (``rewind``), or from the mean of what clients trained
    in the last one (``finetune``): then weights travel with the ballots, and phase 2 goes on."""
    rescale: bool = False
    """Whether rewinding scales the survivors of a layer up to the norm the layer had in w0."""
    voters: int = 0
    """Clients asked for a ballot in each round of phase 1 (0 = as in all other rounds)."""
    regrow: str = ""
    """``gradient`` (RigL) or ``random`` (SET): drop and regrow during phase 2 (empty = off)."""
    regrow_fraction: float = 0.3
    """Share of survivors exchanged at the first regrowth, cosine-decayed."""
    regrow_every: int = 1
    """Rounds of phase 2 between regrowths."""
    gate: float = 0.0
    """A client votes to prune only above this local accuracy, else for the mask it has (0 = off).
    With a gate, rules that aim at a density take the mean density of the ballots."""
    converged: float = 0.0
    """End phase 1 early when 1 − Jaccard of consecutive masks is below this (0 = never)."""
    alpha_fc: float = 0.95
    """Coverage of fully connected layers (``ranking = "coverage"``)."""
    alpha_conv: float = 0.9
    """Coverage of convolutions (``ranking = "coverage"``)."""

    def __post_init__(self) -> None:
        _at_least("prune", self, rounds=1, epochs=0, min_units=0, score_samples=0, regrow_every=1)
        _at_least("prune", self, voters=0)
        _share("prune", self, "density", "regrow_fraction", "alpha_fc", "alpha_conv")
        _check(0 <= self.gate <= 1, "prune.gate", self.gate, "0 <= gate <= 1")
        _check(0 <= self.converged < 1, "prune.converged", self.converged, "0 <= converged < 1")
        _spec("prune", self, "score", "ranking", "vote", "schedule")
        _choice("prune.granularity", self.granularity, ("weight", "kernel", "filter"))
        _choice("prune.tie", self.tie, ("prune", "keep"))
        _choice("prune.recovery", self.recovery, ("rewind", "finetune"))
        _choice("prune.regrow", self.regrow, ("", "gradient", "random"))

    @property
    def by_coverage(self) -> bool:
        """Whether the ranking is ``coverage``, where alpha decides how much a ballot keeps."""
        return parse_spec(self.ranking)[0] == "coverage"


@dataclass(frozen=True)
class FederationConfig:
    """Rounds and participation."""

    rounds: int = 14
    """Rounds in all; MPFL spends the first ``prune.rounds`` of them on the mask."""
    clients_per_round: int = 0
    """Clients sampled each round (0 = all)."""
    min_replies: int = 1
    """A round with fewer usable replies leaves mask and model unchanged."""
    eval_every: int = 1
    """Rounds between evaluations on the test set (the last round is always evaluated)."""

    def __post_init__(self) -> None:
        _at_least("federation", self, rounds=1, clients_per_round=0, min_replies=1, eval_every=1)


@dataclass(frozen=True)
class WireConfig:
    """How masks and values are written into messages."""

    mask_codec: str = "auto"
    """``auto`` (the smallest), ``raw``, ``gaps``, ``rans``, ``range``, ``zstd`` or ``matrix``."""
    mask_classes: int = 8
    """Statistics per layer: units are grouped by |w0|, which both sides know (1 = one group)."""
    uplink_values: str = "float32"
    """Codec of weights a client sends."""
    downlink_values: str = "float32"
    """Codec of weights the server sends."""
    error_feedback: bool = True
    """Whether a client adds what a lossy codec lost to its next update."""

    def __post_init__(self) -> None:
        _check(1 <= self.mask_classes <= 64, "wire.mask_classes", self.mask_classes, "1 to 64")


@dataclass(frozen=True)
class ComparatorConfig:
    """What single comparison methods need beyond the sections above; see docs/methods.md."""

    topk_fraction: float = 0.05
    """``topk``: share of the update's entries that a client sends."""
    sign_step: float = 0.005
    """``signsgd_mv``: how far a vote moves a weight; decays with the learning rate."""
    fedpm_lr: float = 0.1
    """``fedpm``: Adam's learning rate of the scores."""
    fedpm_reset: int = 1
    """``fedpm``: rounds between resets of the Beta prior."""
    prunefl_every: int = 5
    """``prunefl``: rounds of training between changes of the mask."""

    def __post_init__(self) -> None:
        _at_least("comparator", self, prunefl_every=1, fedpm_reset=1)
        _check(self.sign_step > 0, "comparator.sign_step", self.sign_step, "a positive number")
        _check(self.fedpm_lr > 0, "comparator.fedpm_lr", self.fedpm_lr, "a positive number")
        _share("comparator", self, "topk_fraction")


@dataclass(frozen=True)
class StopConfig:
    """When a run ends before its last round; 0 = never."""

    target_accuracy: float = 0.0
    """Stop when the test accuracy reaches this."""
    byte_budget: int = 0
    """Begin no further round once total bytes are at least this; the last one may exceed it."""
    seconds: float = 0.0
    """Begin no further round after this wall time, over all sessions of a resumed run."""

    def __post_init__(self) -> None:
        _at_least("stop", self, byte_budget=0, seconds=0)
        accuracy = self.target_accuracy
        _check(0 <= accuracy <= 1, "stop.target_accuracy", accuracy, "a share between 0 and 1")


@dataclass(frozen=True)
class EngineConfig:
    """How the simulation uses this machine; changes no result (`vectorised`: beyond rounding)."""

    workers: int = -1
    """Worker processes (-1 = one per core, 0 = in this process, as whenever clients are trained
    together)."""
    vectorised: int = 0
    """Clients trained together in one batched computation (0 = one after another on the CPU, 32
    with ``train.device = "cuda"``; 1 = one after another)."""
    timeout: float = 3600.0
    """Seconds until a client's reply is given up."""
    checkpoint_every: int = 1
    """Rounds between checkpoints."""
    record_ballots: bool = False
    """Keep every ballot in the run folder, for ``mpfl votes``."""

    def __post_init__(self) -> None:
        _at_least("engine", self, workers=-1, vectorised=0, checkpoint_every=1)
        _check(self.timeout > 0, "engine.timeout", self.timeout, "a positive number")


@dataclass(frozen=True)
class FaultsConfig:
    """Faults to inject, each the probability per client and round (0 = off).

    A reply suffers one fault at most, the first in this order that is drawn.
    """

    drop_before: float = 0.0
    """The client never answers."""
    drop_after: float = 0.0
    """The client trains, then its reply is lost."""
    straggle: float = 0.0
    """The reply comes after the deadline."""
    corrupt: float = 0.0
    """A bit of the reply flips."""
    truncate: float = 0.0
    """The reply ends early."""
    replay: float = 0.0
    """The reply of an earlier round comes again (the first of a client cannot)."""
    wrong_round: float = 0.0
    """The reply claims another round."""
    not_finite: float = 0.0
    """The reply's values are NaN; where it has no float values, its loss."""
    byzantine: float = 0.0
    """Share of clients (the same all run long) whose ballots are malicious."""
    attack: str = "inverted"
    """What they send: ``random``, ``inverted``, ``colluding`` or ``layer(name)``."""
    stress: float = 0.0
    """Share of clients whose data is spoiled."""
    stress_kind: str = "labels"
    """How: ``pixels``, ``labels``, ``noise(p)`` or ``free_rider`` (never trains: random ballots,
    values sent back as they came)."""

    tolerate: str = "auto"
    """Clients that really fail and yet do not end the run: ``nothing``, ``client error`` (its app
    raised), ``client crashed`` (its process or node died) or ``everything``. ``auto``: nothing in a
    simulation (engines ``local`` and ``ray``), everything in a deployment, where nodes come and go.
    Whatever is tolerated, a phase in which no round counts ends the run."""

    def __post_init__(self) -> None:
        _choice("faults.tolerate", self.tolerate, _TOLERATED)
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, float):
                _check(0 <= value <= 1, f"faults.{item.name}", value, "0 to 1")


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
        _check(0 <= self.seed < 2**32, "seed", self.seed, "0 to 2^32 - 1")
        with keyed("method"):
            parse_spec(self.method)
        _check(
            self.federation.clients_per_round <= self.data.clients,
            "federation.clients_per_round",
            self.federation.clients_per_round,
            f"at most data.clients = {self.data.clients}",
        )

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
    return build(Experiment, resolved(table))


def from_toml(text: str) -> Experiment:
    """Read an experiment from TOML text; see `from_mapping` for errors."""
    return from_mapping(read_toml(text))


def to_mapping(experiment: Experiment) -> dict[str, Any]:
    """Return nested plain tables, every key present; `from_mapping` reads them."""
    return dataclasses.asdict(experiment)


def to_toml(experiment: Experiment) -> str:
    """Return the fully resolved experiment as TOML text."""
    return tomli_w.dumps(to_mapping(experiment), multiline_strings=True)
