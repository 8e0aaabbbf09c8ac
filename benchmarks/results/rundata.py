"""What a finished run left behind, as immutable values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfl.mask import Mask
from server.health import Standing, failure_of
from server.records import KINDS, UPLINK, RetrainRecord, RoundRecord, Row, Summary


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
        Bytes per kind (int64), see `server.records.KINDS`.
    message_bytes
        int64, what was sent.
    formula_bytes, bound_bytes
        float64, what the paper's formula claims and what the entropy allows.
    """

    round: NDArray[np.int64]
    client: NDArray[np.int64]
    phase: tuple[str, ...]
    uplink: NDArray[np.bool_]
    kinds: Mapping[str, NDArray[np.int64]]
    message_bytes: NDArray[np.int64]
    formula_bytes: NDArray[np.float64]
    bound_bytes: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Ledger:
        """Return the rows by columns. OverflowError for bytes that no file can have."""

        def column(name: str, kind: type[Any] = np.int64) -> NDArray[Any]:
            return np.array([getattr(row, name) for row in rows], kind)

        return cls(
            round=column("round"),
            client=column("client"),
            phase=tuple(row.phase for row in rows),
            uplink=np.array([row.direction == UPLINK for row in rows], np.bool_),
            kinds={kind: column(f"{kind}_bytes") for kind in KINDS},
            message_bytes=column("message_bytes"),
            formula_bytes=column("formula_bytes", np.float64),
            bound_bytes=column("bound_bytes", np.float64),
        )

    def __len__(self) -> int:
        return len(self.phase)


def run_name(label: str, sweep: Mapping[str, Any]) -> str:
    """Return a label with the swept values, as tables and legends show it.

    Examples
    --------
    >>> run_name("mpfl", {"prune.density": 0.1})
    'mpfl density=0.1'
    """
    return " ".join([label, *(f"{key.rpartition('.')[2]}={value}" for key, value in sweep.items())])


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
        The final mask; None where it was not kept.
    shapes
        Shapes of the model's tensors by name; empty where no model was kept.
    retrained
        What ``mpfl retrain`` found; None where it was not asked.
    sealed
        Whether a manifest tells that nothing of the folder was edited.
    socket_bytes
        What a deployment's sockets carried, both ways; None where that was not measured.
    """

    folder: str
    label: str
    seed: int
    sweep: Mapping[str, Any]
    config: Mapping[str, Any]
    rounds: tuple[RoundRecord, ...]
    ledger: Ledger
    summary: Summary
    mask: Mask | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    retrained: RetrainRecord | None = None
    sealed: bool = True
    socket_bytes: int | None = None

    @property
    def name(self) -> str:
        """The label with the swept values, as tables and legends show it."""
        return run_name(self.label, self.sweep)

    @property
    def evaluated(self) -> tuple[RoundRecord, ...]:
        """The rounds after which the model was tested."""
        return tuple(line for line in self.rounds if line.test_accuracy is not None)

    @property
    def client_accuracy(self) -> tuple[float, ...]:
        """Accuracy of the final model at every client that has samples."""
        return tuple(v for v in self.summary.client_accuracy if v is not None)

    @property
    def total_bytes(self) -> int:
        """Bytes of all messages, both directions, all clients."""
        return self.rounds[-1].total_bytes

    @cached_property
    def failed(self) -> str | None:
        """Why the run is no result (it diverged, or no round of a phase counted); None if it is."""
        if self.summary.health is not None:
            return self.summary.health.failed
        return failure_of(Standing.of(self.rounds), self.summary.test_loss)

    @property
    def ignored(self) -> Mapping[str, str]:
        """Keys of the configuration that had no effect → why."""
        return {} if self.summary.health is None else self.summary.health.ignored

    @property
    def is_ceiling(self) -> bool:
        """Whether the run is a reference that sends nothing (training on pooled data)."""
        return self.total_bytes == 0
