"""What a run folder says in words and numbers: its records, written here and read back here."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar, get_type_hints

from mpfl.errors import InputError
from mpfl.nested import build
from mpfl.vote.laboratory import VoteStatistics

T = TypeVar("T")

UPLINK, DOWNLINK = "uplink", "downlink"
KINDS = ("mask", "values", "scores", "metrics", "config", "framing")
"""What the bytes of a message are for; they add up to the message."""


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """One line of ``rounds.jsonl``. A column whose default is None is absent where it is None."""

    round: int
    """Number of the round, from 1."""
    phase: str
    """What the method did: ``mask``, ``score``, ``train`` or ``central``; see docs/methods.md."""
    density: float
    """Share of the prunable parameters that the mask keeps."""
    density_all_parameters: float
    """Share of all parameters that it keeps."""
    test_accuracy: float | None
    """Share of the test samples that the model gets right; null after rounds without a test."""
    test_loss: float | None
    """Mean cross-entropy on them, in nats; null as well where it is not finite."""
    perplexity: float | None = None
    """Of text: e to the power of ``test_loss``, after rounds with a test; null where not finite."""
    validation_accuracy: float | None = None
    """Share of the validation samples that it gets right, where the run has some and was tested."""
    validation_loss: float | None = None
    """Mean cross-entropy on them, in nats."""
    uplink_bytes: int
    """Bytes of all messages of clients so far."""
    downlink_bytes: int
    """Bytes of all messages to clients so far."""
    total_bytes: int
    """Their sum."""
    clients_sampled: int
    """Clients that were asked."""
    clients_replied: int
    """Clients whose reply was usable."""
    counted: bool
    """Whether there were enough replies; if not, mask and model stayed as they were."""
    rejected: dict[str, int]
    """Reason → replies that did not count."""
    errors: list[str]
    """Three of them in a line each; failures of clients come first."""
    layer_density: dict[str, float]
    """Layer → share of its units that the mask keeps."""
    vote: VoteStatistics | None = None
    """The ballots, after a round with a vote."""
    moved: float | None = None
    """1 - the Jaccard overlap of the new mask with the one before, after a round in which ``mpfl``
    or ``prunefl`` changed it."""
    client_density: float | None = None
    """``lotteryfl``: mean density of the clients' own masks."""
    extra: dict[str, float | None] | None = None
    """Numbers of a method of one's own, by name."""
    seconds: float
    """Wall time so far, over all sessions of a resumed run."""

    @property
    def deciding_accuracy(self) -> float | None:
        """What targets and stop rules go by: validation accuracy, test accuracy without any."""
        known = self.validation_accuracy
        return self.test_accuracy if known is None else known

    @property
    def deciding_loss(self) -> float | None:
        """The loss on the same samples, by which a run is said to have diverged."""
        return self.test_loss if self.validation_accuracy is None else self.validation_loss


@dataclass(frozen=True, order=True)
class Row:
    """One message: a row of ``ledger.csv``. The six kinds add up to ``message_bytes``."""

    round: int
    """Number of the round, from 1."""
    client: int
    """Number of the client, from 0."""
    direction: str
    """``uplink`` (from the client) or ``downlink``."""
    phase: str
    """As in ``rounds.jsonl``."""
    mask_bytes: int
    """Bytes of ballots and masks."""
    values_bytes: int
    """Bytes of weights, of differences of weights, and of what else a network holds."""
    scores_bytes: int
    """Bytes of importance scores."""
    metrics_bytes: int
    """Bytes of sample counts and losses."""
    config_bytes: int
    """Bytes that say which versions the message builds on and leads to."""
    framing_bytes: int
    """All other bytes: our frame's, Flower's, and a whole message that cannot be read."""
    message_bytes: int
    """Length of the serialized Flower message."""
    formula_bytes: float
    """What the method's paper would say, to a tenth of a byte."""
    bound_bytes: float
    """Entropy of the content, given what the receiver holds, to a tenth of a byte."""

    def csv(self) -> str:
        """Return the row as a line of ``ledger.csv``."""
        return ",".join(
            f"{value:.1f}" if isinstance(value, float) else str(value)
            for value in dataclasses.astuple(self)
        )

    @classmethod
    def from_csv(cls, line: str) -> Row:
        """Read what `csv` wrote. ValueError for anything else."""
        row = cls(*(kind(text) for kind, text in zip(_KINDS, line.split(","), strict=True)))
        if row.direction not in (UPLINK, DOWNLINK):
            raise ValueError(f"direction {row.direction!r}")
        if sum(getattr(row, f"{kind}_bytes") for kind in KINDS) != row.message_bytes:
            raise ValueError("the kinds do not add up to the message")
        return row


HEADER = ",".join(item.name for item in fields(Row))
_KINDS = tuple(get_type_hints(Row).values())


@dataclass(frozen=True)
class Machine:
    """Where a run ran."""

    processor: str
    """Its architecture, such as ``x86_64``."""
    system: str
    """Its operating system, such as ``Linux``."""
    cores: int | None
    """Its processor cores; null where the system does not say."""
    workers: int
    """Worker processes of the local engine; 0: everything ran in one process."""
    model: str | None = None
    """The processor's name, where the system tells it."""
    kernels: str | None = None
    """Instructions that PyTorch's kernels use, such as ``AVX2``, and how many samples mpfl's own
    compute side by side: results may depend on them."""


@dataclass(frozen=True, kw_only=True)
class Health:
    """What the figures of a run rest on, and whether they are a result at all."""

    failed: str | None = None
    """Why they are none: the model diverged. Such a run is ranked nowhere."""
    rounds: dict[str, list[int]]
    """Phase → rounds that counted, rounds that were run."""
    lost: dict[str, int]
    """Reason → replies that did not count, over all rounds."""
    ignored: dict[str, str]
    """Configuration key → why it had no effect on this run, whatever its value."""
    notes: list[str]
    """What else about the settings is hardly meant, a line each."""
    inputs: dict[str, str]
    """``data``, ``partition`` and ``w0`` → SHA-256 of the samples as loaded, of who holds which of
    them, and of the initial values. A run is resumed only where they are the same."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The content of ``failure.json``: why a run ended without a result. Resuming removes it."""

    label: str
    """The method, or the variant's name in a comparison."""
    seed: int
    """The configuration's seed."""
    sweep: dict[str, Any]
    """Swept dotted keys → this run's values; empty outside a sweep."""
    error: str
    """What went wrong first, in one line."""


@dataclass(frozen=True, kw_only=True)
class SharedRun:
    """The content of ``same_run.json``: a cell of a comparison whose run another cell does."""

    cell: str
    """That cell's name. The two differ in settings that the method never reads, or in none."""
    label: str
    """The method, or the variant's name, of this cell."""
    seed: int
    """The configuration's seed."""
    sweep: dict[str, Any]
    """Swept dotted keys → this cell's values."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The content of ``summary.json``. A key whose default is None is absent where it is None."""

    method: str
    """What was run."""
    label: str
    """The method, or the variant's name in a comparison."""
    seed: int
    """The configuration's seed."""
    sweep: dict[str, Any]
    """Swept dotted keys → this run's values; empty outside a sweep."""
    engine: str
    """``local``, ``ray``, ``deployment``, or ``flower`` for another SuperLink."""
    rounds: int
    """Rounds that were run."""
    seconds: float
    """Wall time, over all sessions of a resumed run."""
    test_accuracy: float
    """Share of the test samples that the final model gets right."""
    test_loss: float | None
    """Mean cross-entropy on them, in nats; null where it is not finite."""
    validation_accuracy: float | None = None
    """Share of the validation samples that it gets right, where the run has some."""
    validation_loss: float | None = None
    """Mean cross-entropy on them, in nats."""
    test_predictions: int | None = None
    """Test samples, or tokens of test text; absent in runs of an mpfl that did not say."""
    density: float
    """Share of the prunable parameters that the final mask keeps."""
    density_all_parameters: float
    """Share of all parameters that it keeps."""
    uplink_bytes: int
    """Bytes of all messages of clients."""
    downlink_bytes: int
    """Bytes of all messages to clients."""
    total_bytes: int
    """Their sum."""
    uplink_bits_per_parameter: float | None = None
    """8 · uplink bytes / (messages of clients · ``parameters``): what a client sends in a round for
    each of the network's trainable numbers, pruned or not, framing included."""
    downlink_bits_per_parameter: float | None = None
    """The same of the messages to clients."""
    mask_digest: str
    """SHA-256 of layout and bits of the mask, hexadecimal."""
    model_digest: str
    """SHA-256 of the model's float32 numbers, parameters before buffers, hexadecimal."""
    payload_digest: str
    """SHA-256 chain over the frames of all messages, hexadecimal."""
    parameters: int
    """The network's trainable numbers."""
    prunable: int
    """Those of them that a mask can remove."""
    surviving_parameters: int
    """Those that the mask keeps, with all that it cannot remove."""
    units: int
    """What a mask has one bit for: weights, kernels or filters."""
    surviving_units: int
    """Those that the mask keeps."""
    macs_dense: int
    """Multiply-accumulates per sample of the whole network."""
    macs_masked: int
    """Those of them with a weight that survives."""
    macs_compacted: int | None = None
    """Those of the network without its pruned filters; only where whole filters are pruned."""
    client_accuracy: list[float | None]
    """Per client, the test accuracy per class averaged with the client's own class frequencies.
    At most 100 clients; empty where ``partition`` is."""
    partition: list[list[int]]
    """Per client, its samples of each class; empty for more than 200 clients and for text."""
    peak_memory_bytes: int
    """Largest resident memory of this process, plus that of the largest worker times workers."""
    versions: dict[str, str]
    """Python, and the packages that can change a result → version; ``commit`` is mpfl's own, where
    it runs from its repository."""
    machine: Machine
    """Where the run ran."""
    health: Health | None = None
    """What these figures rest on; absent in runs of an mpfl that did not say."""


@dataclass(frozen=True)
class RetrainRecord:
    """The content of ``central_retrain.json``: a run's mask, trained centrally afterwards."""

    evaluation: str
    """``central_retrain``."""
    method: str
    """The run's."""
    seed: int
    """The run's."""
    start: str
    """Where training started: ``w0``, or the file of ``model.weights``."""
    epochs: int
    """Passes over the pooled data."""
    samples: int
    """Samples of the pooled data."""
    losses: list[float | None]
    """Mean training loss of each epoch, in nats; null where it is not finite."""
    test_accuracy: float
    """Share of the test predictions that are right after the last epoch."""
    test_loss: float | None
    """Mean cross-entropy on them, in nats; null where it is not finite."""
    test_predictions: int
    """Test samples, or tokens of test text."""
    federated_test_accuracy: float
    """The run's own."""
    density: float
    """As in ``summary.json``."""
    density_all_parameters: float
    """As in ``summary.json``."""
    mask_digest: str
    """As in ``summary.json``."""


def to_json(value: Any) -> Any:
    """Return plain tables and lists; numbers that are not finite are None."""
    if dataclasses.is_dataclass(value):
        present = [f for f in fields(value) if (getattr(value, f.name), f.default) != (None, None)]
        return {item.name: to_json(getattr(value, item.name)) for item in present}
    if isinstance(value, Mapping):
        return {key: to_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_text(value: Any, **layout: Any) -> str:
    """Return a record, or nested plain values, as JSON; see `to_json`."""
    return json.dumps(to_json(value), allow_nan=False, **layout)


def from_json(cls: type[T], text: str, where: str) -> T:
    """Read a record that `json_text` wrote, or an earlier mpfl (whose numbers may be NaN).

    Raises
    ------
    InputError
        One line: `where`, and the key that is wrong, unknown or missing.
    """
    try:
        return build(cls, json.loads(text))
    except (ValueError, OverflowError) as error:
        raise InputError(f"{where}: damaged ({error})") from None
