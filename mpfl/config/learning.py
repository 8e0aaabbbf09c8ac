"""Tables of what is learned: the data, the network, how it is trained, what of it is pruned."""

from __future__ import annotations

from dataclasses import dataclass

from mpfl.config.rules import check
from mpfl.registry import parse_spec


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
    """``iid``, ``dirichlet(alpha)``, ``labeldir(alpha)`` (with a second number: that seed's
    draw, whatever the run's), ``labels(k)``, ``shards(k)``, ``quantity(alpha)``, ``natural``, or
    ``virtual(n, alpha)``: any number of clients, each with n samples of its own class mix."""
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
        check(self, "data.")


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
        check(self, "model.")


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
    """Learning rate of the first round; with ``warmup``, of the first after it."""
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
        check(self, "train.")


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
    """Share of survivors from which those exchanged at a regrowth fall along a cosine, which begins
    with phase 2."""
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
        check(self, "prune.")

    @property
    def by_coverage(self) -> bool:
        """Whether the ranking is ``coverage``, where alpha decides how much a ballot keeps."""
        return parse_spec(self.ranking)[0] == "coverage"
