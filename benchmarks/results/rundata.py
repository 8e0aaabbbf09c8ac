"""What a finished run left behind, as immutable values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfl.mask import Mask

KINDS = ("mask", "values", "scores", "metrics", "config", "framing")
"""What the bytes of a message are for; they add up to the message."""


@dataclass(frozen=True)
class Vote:
    """What one round's ballots looked like.

    Attributes
    ----------
    unanimity
        Share of units on which all ballots agree.
    overlap
        Mean pairwise Jaccard overlap of the ballots.
    rule_density
        The density each vote rule would have given on these ballots.
    histogram
        Per layer, how many units got 0, 1, …, K votes.
    """

    unanimity: float | None = None
    overlap: float | None = None
    rule_density: Mapping[str, float] = field(default_factory=dict)
    histogram: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Round:
    """One line of ``rounds.jsonl``; byte counts are cumulative over rounds and clients."""

    round: int
    phase: str
    uplink_bytes: int
    downlink_bytes: int
    total_bytes: int
    density: float | None = None
    density_all_parameters: float | None = None
    test_accuracy: float | None = None
    test_loss: float | None = None
    clients_sampled: int = 0
    clients_replied: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    lr: float | None = None
    layer_density: Mapping[str, float] = field(default_factory=dict)
    vote: Vote | None = None
    client_accuracy: Sequence[float] = ()


@dataclass(frozen=True)
class Ledger:
    """``ledger.csv`` by columns, one entry a message, all of shape [messages].

    Attributes
    ----------
    round, client
        int64.
    phase
        One word a message.
    uplink
        bool: client to server.
    kinds
        Bytes per kind (int64), see `KINDS`.
    message_bytes
        int64, what was sent.
    formula_bytes, bound_bytes
        float64, what the paper's formula claims and what the entropy allows; NaN where the
        method has none.
    """

    round: NDArray[np.int64]
    client: NDArray[np.int64]
    phase: tuple[str, ...]
    uplink: NDArray[np.bool_]
    kinds: Mapping[str, NDArray[np.int64]]
    message_bytes: NDArray[np.int64]
    formula_bytes: NDArray[np.float64]
    bound_bytes: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.phase)


@dataclass(frozen=True)
class RunData:
    """Everything a finished run left behind.

    Attributes
    ----------
    folder
        Name of the run folder (not its path, so that reports do not depend on it).
    label
        Method or variant; runs that share label and sweep and differ in seed are repetitions.
    sweep
        Swept configuration keys and this run's values.
    mask
        The final mask; None for a method without one.
    shapes
        Shapes of the model's tensors by name; empty where no model was saved.
    """

    folder: str
    label: str
    method: str
    seed: int
    sweep: Mapping[str, Any]
    config: Mapping[str, Any]
    rounds: tuple[Round, ...]
    ledger: Ledger
    summary: Mapping[str, Any]
    mask: Mask | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The label with the swept values, as tables and legends show it."""
        swept = [f"{key.rpartition('.')[2]}={value}" for key, value in self.sweep.items()]
        return " ".join([self.label, *swept])

    @property
    def evaluated(self) -> tuple[Round, ...]:
        """The rounds after which the model was tested."""
        return tuple(line for line in self.rounds if line.test_accuracy is not None)

    @property
    def final_client_accuracy(self) -> Sequence[float]:
        """Accuracy per client as measured last; empty where it never was."""
        last = next((n.client_accuracy for n in reversed(self.rounds) if n.client_accuracy), ())
        values = self.summary.get("client_accuracy") or last
        return tuple(v for v in map(finite, values) if v is not None)

    @property
    def total_bytes(self) -> int:
        """Bytes of all messages, both directions, all clients."""
        return self.rounds[-1].total_bytes

    @property
    def is_ceiling(self) -> bool:
        """Whether the run is a reference that sends nothing (training on pooled data)."""
        return self.total_bytes == 0


def finite(value: object) -> float | None:
    """Return a finite float, or None for null and NaN (a diverged loss is no figure)."""
    if value is None:
        return None
    number = float(value)  # type: ignore[arg-type]
    return number if math.isfinite(number) else None
