"""Tables of how a run goes: rounds, messages, when it ends, this machine, what goes wrong."""

from __future__ import annotations

from dataclasses import dataclass

from mpfl.config.rules import check


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
        check(self, "federation.")


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
        check(self, "wire.")


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
        check(self, "comparator.")


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
        check(self, "stop.")


@dataclass(frozen=True)
class EngineConfig:
    """How the simulation uses this machine; changes no result."""

    workers: int = -1
    """Worker processes (-1 = one per core, 0 = in this process, as whenever clients are trained
    together)."""
    vectorised: int = 0
    """Clients that a GPU trains side by side (0 = 32 with ``train.device = "cuda"``; 1 = one after
    another). Without a GPU they are handled together and train one after another."""
    timeout: float = 3600.0
    """Seconds until a client's reply is given up."""
    checkpoint_every: int = 1
    """Rounds between checkpoints."""
    record_ballots: bool = False
    """Keep every ballot in the run folder, for ``mpfl votes``."""

    def __post_init__(self) -> None:
        check(self, "engine.")


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
        check(self, "faults.")
