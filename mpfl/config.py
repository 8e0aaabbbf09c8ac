"""The configuration of one experiment: frozen dataclasses, to and from TOML."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from mpfl.errors import InputError, keyed
from mpfl.nested import build, fail, merged, read_toml
from mpfl.plugins.source import Plugin, resolved
from mpfl.presets.files import EXTENDS, extended
from mpfl.presets.renames import renamed
from mpfl.registry import parse_spec, unknown_name

_TOGETHER = 32  # clients trained together on a GPU


_MOST_ROUNDS = 1_000_000
_LARGEST = 1e30  # beyond it the first step leaves the range of float32


@dataclass(frozen=True)
class Rule:
    """What a key takes besides its type.

    Attributes
    ----------
    text
        It in words.
    holds
        (value) -> whether the value is allowed.
    choices
        All texts that are allowed, where that is what the rule says.
    """

    text: str
    holds: Callable[[Any], bool]
    choices: tuple[str, ...] = ()


def _at_least(least: int) -> Rule:
    return Rule(f"at least {least}", lambda value: value >= least)


def _from(least: int, most: int) -> Rule:
    return Rule(f"{least} to {most}", lambda value: least <= value <= most)


def _share(name: str) -> Rule:
    return Rule(f"0 < {name} <= 1", lambda value: 0 < value <= 1)


def _below_one(name: str) -> Rule:
    return Rule(f"0 <= {name} < 1", lambda value: 0 <= value < 1)


def _choice(*choices: str) -> Rule:
    shown = ", ".join(f"`{choice}`" if choice else "empty" for choice in choices)
    return Rule(shown, lambda value: value in choices, choices)


def _readable(spec: str) -> bool:
    parse_spec(spec)
    return True


_ROUNDS = _from(1, _MOST_ROUNDS)
_POSITIVE = Rule("a positive number, at most 1e30", lambda value: 0 < value <= _LARGEST)
_NOT_NEGATIVE = Rule("a number from 0 to 1e30", lambda value: 0 <= value <= _LARGEST)
_PROBABILITY = Rule("0 to 1", lambda value: 0 <= value <= 1)
_SPEC = Rule("a name, or name(argument, ...)", _readable)

RULES: Mapping[str, Rule] = {
    "method": _SPEC,
    "seed": Rule("0 to 2^32 - 1", lambda value: 0 <= value < 2**32),
    "data.clients": _at_least(1),
    "data.partition": _SPEC,
    "data.augment": _choice("", "crop", "crop_flip"),
    "data.level": _choice("character", "byte"),
    "data.groups": _at_least(0),
    "data.train_samples": _at_least(0),
    "data.test_samples": _at_least(0),
    "data.validation": _below_one("validation"),
    "model.size": _share("size"),
    "model.batch_norm": _choice("aggregate", "local", "freeze"),
    "train.epochs": _from(1, _MOST_ROUNDS),
    "train.batch_size": _from(1, 2**31 - 1),
    "train.optimizer": _choice("sgd", "adam"),
    "train.lr": _POSITIVE,
    "train.momentum": _below_one("momentum"),
    "train.weight_decay": _NOT_NEGATIVE,
    "train.lr_decay": _SPEC,
    "train.loss": _SPEC,
    "train.gradient": _SPEC,
    "train.clip": _NOT_NEGATIVE,
    "train.precision": _choice("float32", "bf16"),
    "train.device": _choice("cpu", "cuda"),
    "prune.density": _share("density"),
    "prune.granularity": _choice("weight", "kernel", "filter"),
    "prune.score": _SPEC,
    "prune.ranking": _SPEC,
    "prune.vote": _SPEC,
    "prune.tie": _choice("prune", "keep"),
    "prune.schedule": _SPEC,
    "prune.rounds": _ROUNDS,
    "prune.epochs": _from(0, _MOST_ROUNDS),
    "prune.min_units": _at_least(0),
    "prune.score_samples": _at_least(0),
    "prune.recovery": _choice("rewind", "finetune"),
    "prune.voters": _at_least(0),
    "prune.regrow": _choice("", "gradient", "random"),
    "prune.regrow_fraction": _share("regrow_fraction"),
    "prune.regrow_every": _at_least(1),
    "prune.gate": Rule("0 <= gate <= 1", lambda value: 0 <= value <= 1),
    "prune.converged": _below_one("converged"),
    "prune.alpha_fc": _share("alpha_fc"),
    "prune.alpha_conv": _share("alpha_conv"),
    "federation.rounds": _ROUNDS,
    "federation.clients_per_round": _at_least(0),
    "federation.min_replies": _at_least(1),
    "federation.eval_every": _at_least(1),
    "wire.mask_classes": _from(1, 64),
    "comparator.sign_step": _POSITIVE,
    "comparator.fedpm_lr": _POSITIVE,
    "comparator.fedpm_reset": _at_least(1),
    "comparator.prunefl_every": _at_least(1),
    "stop.target_accuracy": Rule("a share between 0 and 1", lambda value: 0 <= value <= 1),
    "stop.byte_budget": _at_least(0),
    "stop.seconds": _at_least(0),
    "engine.workers": _at_least(-1),
    "engine.vectorised": _at_least(0),
    "engine.timeout": Rule("a positive number, at most 1e9", lambda value: 0 < value <= 1e9),
    "engine.checkpoint_every": _at_least(1),
    "faults.drop_before": _PROBABILITY,
    "faults.drop_after": _PROBABILITY,
    "faults.straggle": _PROBABILITY,
    "faults.corrupt": _PROBABILITY,
    "faults.truncate": _PROBABILITY,
    "faults.replay": _PROBABILITY,
    "faults.wrong_round": _PROBABILITY,
    "faults.not_finite": _PROBABILITY,
    "faults.byzantine": _PROBABILITY,
    "faults.stress": _PROBABILITY,
    "faults.tolerate": _choice("auto", "nothing", "client error", "client crashed", "everything"),
}
"""Dotted key -> what it takes; other keys take every value of their type."""


def _check(config: object, table: str = "") -> None:
    """Refuse values that the rules do not allow; InputError naming the key."""
    for item in dataclasses.fields(config):  # type: ignore[arg-type]
        key, value = table + item.name, getattr(config, item.name)
        if isinstance(value, int) and value.bit_length() > 63:
            fail(key, value, "a whole number of 64 bits")  # what TOML holds, and NumPy counts
        if key in RULES:
            _obey(key, RULES[key], value)


def _obey(key: str, rule: Rule, value: Any) -> None:
    try:
        with keyed(key):
            allowed = rule.holds(value)
    except TypeError:  # made in Python, where nobody has looked at types yet
        allowed = False
    if not allowed and rule.choices and isinstance(value, str):
        raise InputError(f"{key}: {unknown_name('value', value, rule.choices)}")
    if not allowed:
        fail(key, value, rule.text)


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
    """``iid``, ``dirichlet(alpha)``, ``labels(k)``, ``shards(k)``, ``quantity(alpha)``,
    ``natural``, or ``virtual(n, alpha)``: any number of clients, each with n samples of its own
    class mix."""
    augment: str = ""
    """How training changes images, anew in every epoch: ``crop`` (at random, out of 4 black pixels
    around them), ``crop_flip`` (and mirrored half of the time), or not at all. Scores and tests see
    them as they are."""
    standardise: bool = True
    """Whether networks see pixels with mean 0 and deviation 1, by the data set's own figures, or as
    shares of white from 0 to 1."""
    level: str = "character"
    """What a token of a ``textfolder`` is: ``character`` (newline, printable ASCII, one token for
    all others) or ``byte``."""
    groups: int = 0
    """Use only this many of the data's natural clients, drawn from the seed (0 = all)."""
    train_samples: int = 0
    """Use only this many training samples, drawn from the seed (0 = all)."""
    test_samples: int = 0
    """Evaluate on only this many test samples (0 = all)."""
    validation: float = 0.0
    """Share of the training samples that no client gets, drawn from the seed in proportion to the
    classes (of text, to its groups): what targets, stop rules and tuning go by instead of the test
    samples, which then choose nothing (0 = none)."""

    def __post_init__(self) -> None:
        _check(self, "data.")


@dataclass(frozen=True)
class ModelConfig:
    """Which network."""

    name: str = "lenet300"
    """Model: see ``mpfl list models``. Recurrent ones take hidden units: ``lstm_lm(512)``."""
    size: float = 1.0
    """About what share of its parameters the network has: all hidden layers are narrowed alike."""
    batch_norm: str = "aggregate"
    """What happens to running statistics: ``aggregate`` (they travel and are averaged), ``local``
    (each client keeps its own; the server evaluates with batch statistics) or ``freeze`` (initial
    ones for ever). Only ``aggregate`` costs bytes; scales and shifts are weights and travel."""
    weights: str = ""
    """A safetensors file of initial weights that every party already holds (empty: from seed)."""

    def __post_init__(self) -> None:
        _check(self, "model.")


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
    nesterov: bool = False
    """Whether the momentum is Nesterov's, as in torch.optim."""
    weight_decay: float = 0.0
    """L2 penalty, as in torch.optim."""
    lr_decay: str = "none"
    """Over the rounds of weight training: ``none``, ``cosine``, ``exponential(factor)``,
    ``step(factor, share, ...)`` of the rounds, or ``warmup(rounds, none|cosine)``."""
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
        _check(self, "train.")


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
        _check(self, "prune.")

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
        _check(self, "federation.")


@dataclass(frozen=True)
class WireConfig:
    """How masks and values are written into messages."""

    mask_codec: str = "auto"
    """``auto`` (the smallest), ``raw``, ``rans`` or ``matrix``."""
    mask_classes: int = 8
    """Statistics per layer: units are grouped by |w0|, which both sides know (1 = one group)."""
    up: str = ""
    """Codec of the weights that clients send, whatever the method (``mpfl list value-codecs``);
    empty: as in the method's paper, ``float32`` for all that come with the library. Methods that
    send signs or draws instead of weights have a format of their own."""
    down: str = ""
    """Codec of the weights that the server sends, in the same way."""
    error_feedback: bool = True
    """Whether both ends add what a codec lost to the next difference, where it needs that
    (``mpfl list value-codecs``: those that round without bias do not)."""
    value_classes: bool = False
    """Whether coded differences have statistics of their own for how far their row and column have
    moved since w0, which both ends know: about a fifth fewer bytes."""

    def __post_init__(self) -> None:
        _check(self, "wire.")


@dataclass(frozen=True)
class ComparatorConfig:
    """What single comparison methods need beyond the sections above; see docs/methods.md."""

    sign_step: float = 0.005
    """``signsgd_mv``: how far a vote moves a weight; decays with the learning rate."""
    fedpm_lr: float = 0.1
    """``fedpm``: Adam's learning rate of the scores."""
    fedpm_reset: int = 1
    """``fedpm``: rounds between resets of the Beta prior."""
    prunefl_every: int = 5
    """``prunefl``: rounds of training between changes of the mask."""

    def __post_init__(self) -> None:
        _check(self, "comparator.")


@dataclass(frozen=True)
class StopConfig:
    """When a run ends before its last round; 0 = never."""

    target_accuracy: float = 0.0
    """Stop when the accuracy reaches this: on validation samples, on test samples without any."""
    byte_budget: int = 0
    """Begin no further round once total bytes are at least this; the last one may exceed it."""
    seconds: float = 0.0
    """Begin no further round after this wall time, over all sessions of a resumed run."""

    def __post_init__(self) -> None:
        _check(self, "stop.")


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
        _check(self, "engine.")


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
        _check(self, "faults.")


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
        _check(self)
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
